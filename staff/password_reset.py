"""Mail the link that sets a new password. The worker sends it.

If the request sent the mail itself, its duration would reveal whether a user has the email.
"""

from __future__ import annotations

from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User

from staff import limits
from staff.models import SignInEvent


def mail_link(event_id: int, *, host: str, secure: bool) -> None:
    """Mail a link to the staff users with the email that a request named.

    The event of the request holds a hash of the email, so that no job holds an address. `host` and
    `secure` are those of the request and make the address of the link.
    """
    event = SignInEvent.objects.filter(pk=event_id).first()
    if event is None:
        return
    emails = User.objects.filter(is_active=True).exclude(email="").values_list("email", flat=True)
    wanted = {email.casefold() for email in emails if _is_meant(email, event)}
    for email in wanted:
        form = PasswordResetForm({"email": email})
        if form.is_valid():
            form.save(domain_override=host, use_https=secure)


def _is_meant(email: str, event: SignInEvent) -> bool:
    return limits.account_of_mail(email) == event.account
