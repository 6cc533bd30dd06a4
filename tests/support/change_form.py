"""The change form of a user: what a browser sends, what the page says, what both stores hold."""

from __future__ import annotations

import html

from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.urls import reverse

from users.models import BuilderUser
from users.version import version_of


def form_of(user, **changes):
    """What a browser sends back: the form as it was opened, with some fields typed over."""
    return {
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "internal_role": user.internal_role or "",
        "builder_group": user.builder_group_id or "",
        "version": version_of(user),
        **changes,
    }


def page_of(user):
    return reverse("admin:users_builderuser_change", args=[user.pk])


def submit(client, user, **changes):
    return client.post(page_of(user), form_of(user, **changes))


def text_of(response):
    return html.unescape(response.content.decode())


def said(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


def stored(user):
    return BuilderUser.objects.get(pk=user.pk)


def in_clerk(sandbox, user):
    account = sandbox.user(user.clerk_id)
    return account["first_name"], account["last_name"]


def assert_unchanged(sandbox, user):
    """Nothing moved on either side, and nobody claims that it did."""
    assert stored(user).name == user.name
    assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")
    assert not LogEntry.objects.exists()
