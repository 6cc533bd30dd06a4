"""Link the people whom a text names by their emails."""

from __future__ import annotations

import re

from django import template
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString

from users.models import BuilderUser
from users.sync.mirror.comparison import normalized_email, with_email

register = template.Library()

_EMAIL = re.compile(r"[^\s()<>,;]+@[^\s()<>,;]*[^\s()<>,;.]")


@register.filter
def linked_people(text: str) -> SafeString:
    """Escape a text, and make a link of each builder user that it names by email.

    The link takes in the name if that stands before the email, as in “Ann Lee (ann@example.com)”.
    Use it on pages for people who may open builder users.
    """
    emails = set(_EMAIL.findall(text))
    if not emails:
        return conditional_escape(text)
    found = list(with_email(BuilderUser.objects.all(), *emails))
    users = {normalized_email(user.email): user for user in found}
    shown = {email: users.get(normalized_email(email)) for email in emails}
    shown |= {f"{user} ({user.email})": user for user in found}
    longest_first = sorted(shown, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return format_html_join("", "{}", ([_part(part, shown.get(part))] for part in parts))


def _part(part: str, user: BuilderUser | None) -> SafeString:
    if user is None:
        return conditional_escape(part)
    return format_html('<a href="{}">{}</a>', user.get_absolute_url(), part)
