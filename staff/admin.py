"""Show the journal of sign-ins and the bound company accounts in the admin."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from staff import limits
from staff.models import ProviderAccount, SignInEvent
from users.admin.base import ReadOnlyAdmin

# Their pages show secret keys. One staff user could use them to sign in as another.
admin.site.unregister([TOTPDevice, StaticDevice])


@admin.register(SignInEvent)
class SignInEventAdmin(ReadOnlyAdmin[SignInEvent]):
    """Show who signed in and who was refused; a superuser can lift a limit."""

    list_display = ["at", "account", "address", "step", "outcome", "reason"]
    list_filter = ["outcome", "step"]
    search_fields = ["=account", "=network"]
    search_help_text = _("Username or address, in full")
    actions = ["unlock_accounts", "unlock_addresses"]

    def has_unlock_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may lift limits: only superusers may."""
        return isinstance(request.user, User) and request.user.is_superuser

    @admin.action(description=_("Unlock the accounts"), permissions=["unlock"])
    def unlock_accounts(self, request: HttpRequest, events: QuerySet[SignInEvent]) -> None:
        """Lift the limits of the accounts that the selected events name."""
        accounts = events.exclude(account="").values_list("account", flat=True).distinct()
        for account in sorted(set(accounts)):
            limits.unlock(account=account, by=request.user.get_username())
            messages.success(
                request,
                gettext("The account {account} can try to sign in again.").format(account=account),
            )

    @admin.action(description=_("Unlock the network addresses"), permissions=["unlock"])
    def unlock_addresses(self, request: HttpRequest, events: QuerySet[SignInEvent]) -> None:
        """Lift the limits of the networks of the selected events.

        The limits count an IPv6 /64 as one network.
        """
        networks = events.exclude(network="").values_list("network", flat=True).distinct()
        for network in sorted(set(networks)):
            limits.unlock(network=network, by=request.user.get_username())
            messages.success(
                request,
                gettext("The network address {network} can try to sign in again.").format(
                    network=network
                ),
            )


@admin.register(ProviderAccount)
class ProviderAccountAdmin(ReadOnlyAdmin[ProviderAccount]):
    """Show the bound company accounts; a superuser can remove a binding.

    The next sign-in with the account binds it again, by its email.
    """

    list_display = ["user", "email", "issuer", "created_at"]
    list_select_related = ["user"]
    search_fields = ["=email", "user__username"]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return whether the user may remove a binding: only superusers may."""
        return isinstance(request.user, User) and request.user.is_superuser
