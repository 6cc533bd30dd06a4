"""The groups of staff: made by the migration, kept in step by a command."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from tests.support.commands import run
from tests.support.migrations import migrate, migrate_forward
from tests.support.personas import staff_in
from users.sync.access import groups

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_migration_makes_what_the_command_wants():
    """Also on a database that has none of the permissions yet."""
    migrate([("users", "0009_refused_webhooks")])
    try:
        Group.objects.all().delete()
        Permission.objects.filter(content_type__app_label="users").delete()
    finally:
        migrate_forward()
    assert groups.differences() == []


def test_the_command_plans_then_applies():
    staff = staff_in("Viewer")
    own = Group.objects.create(name="Our own")
    Group.objects.get(name="Manager").delete()
    viewer = Group.objects.get(name="Viewer")
    viewer.permissions.set(groups.of_names(("users.ban",)))
    code, words = run("staff_groups")
    assert code == 2
    assert "Manager: is to be made; lacks users.add_buildergroup" in words
    assert "has too many: users.ban." in words
    assert "Nothing was changed." in words
    assert {one.group for one in groups.differences()} == {"Manager", "Viewer"}
    assert run("staff_groups", "--apply")[0] == 0
    assert run("staff_groups") == (0, "The groups are as they are meant to be.\n")
    assert list(viewer.user_set.all()) == [staff]
    assert not own.permissions.exists()


def test_every_permission_of_a_group_exists_and_is_offered():
    offered = groups.named(groups.of_names(groups.OFFERED))
    assert offered == set(groups.OFFERED)
    for names in groups.GROUPS.values():
        assert set(names) <= offered


def test_the_page_of_a_group_offers_what_means_something_here(client):
    page = client.get(reverse("admin:auth_group_add"))
    field = page.context["adminform"].form.fields["permissions"]
    assert groups.named(field.queryset) == set(groups.OFFERED)
