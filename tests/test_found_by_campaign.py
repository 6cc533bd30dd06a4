"""Stories that the campaign made up and that once ended in something untrue."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.factories import linked
from tests.test_change_form import said
from tests.test_unknown_outcomes import at_step, in_thread, recover
from users.models import BuilderUser, SyncAttempt
from users.sync import steps

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_delete_that_recovery_carries_out_meanwhile_is_told_as_done(client, sandbox):
    """The account is gone already, so recovery of the same user finds the delete done."""
    user = linked(sandbox)
    sandbox.delete(user.clerk_id)
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    with at_step(steps.AFTER_ATTEMPT, lambda: in_thread(recover)):
        response = client.post(page, {"post": "yes"})
    assert "was deleted successfully" in said(response)[0]
    assert not BuilderUser.objects.exists()
    assert SyncAttempt.objects.get().status == "applied"
