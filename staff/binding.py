"""Find the staff user of a company account. No user is created here."""

from __future__ import annotations

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils.translation import gettext as _

from staff.models import ProviderAccount
from staff.provider import Identity


class Refused(Exception):
    """The account belongs to no user who may sign in.

    The page and the journal show the text. `user` is the staff user, None if it is not known.
    """

    def __init__(self, message: str, user: User | None = None) -> None:
        super().__init__(message)
        self.message, self.user = message, user


@transaction.atomic
def user_of(identity: Identity) -> User:
    """Return the staff user of an identity, and bind the account at its first sign-in.

    The provider's groups replace the user's groups if `OIDC_GROUPS_CLAIM` is set and the issuer is
    one of `OIDC_GROUPS_ISSUERS`.

    Raises `Refused` if no active staff user belongs to the identity.
    """
    account = (
        ProviderAccount.objects.select_related("user")
        .filter(issuer=identity.issuer, subject=identity.subject)
        .first()
    )
    user = account.user if account else _bind(identity)
    if not (user.is_active and user.is_staff):
        raise Refused(_("Your user here is switched off. Ask an administrator."), user)
    if identity.issuer in settings.OIDC_GROUPS_ISSUERS and settings.OIDC_GROUPS_CLAIM:
        _set_groups(user, identity.groups)
    return user


def _bind(identity: Identity) -> User:
    user = _user_by_email(identity)
    # The row lock orders two simultaneous first sign-ins. With the constraints alone, one fails.
    User.objects.select_for_update().get(pk=user.pk)
    account, created = ProviderAccount.objects.get_or_create(
        issuer=identity.issuer,
        user=user,
        defaults={"subject": identity.subject, "email": identity.email},
    )
    if not created and account.subject != identity.subject:
        raise Refused(
            _(
                "Another company account is bound to your user here. Ask an administrator to "
                "remove that binding."
            ),
            user,
        )
    return user


def _user_by_email(identity: Identity) -> User:
    """Find the one active staff user with exactly this email.

    Raises `Refused` unless the provider has verified the email and its domain is allowed.
    """
    email = identity.email
    if not email or not identity.email_verified:
        raise Refused(_("The provider has not verified your email address."))
    if not email.isascii() or email.rpartition("@")[2] not in settings.OIDC_EMAIL_DOMAINS:
        raise Refused(_("Your email address is not of an allowed domain."))
    found = [
        user
        for user in User.objects.filter(email__iexact=email, is_active=True, is_staff=True)
        if user.email.lower() == email
    ]
    if len(found) != 1:
        raise Refused(_("No staff user here has your email address. Ask an administrator."))
    return found[0]


def _set_groups(user: User, names: frozenset[str]) -> None:
    """Give the user the groups that the provider names and that exist here, and no others."""
    wanted, present = set(Group.objects.filter(name__in=names)), set(user.groups.all())
    if wanted == present:
        return
    user.groups.set(wanted)
    text = ", ".join(sorted(group.name for group in wanted)) or "none"
    LogEntry.objects.log_actions(
        user.pk,
        [user],
        CHANGE,
        _("Groups set by the company's provider: {text}.").format(text=text),
        single_object=True,
    )
