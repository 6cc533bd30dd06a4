"""Each secret can be changed while people work."""

from __future__ import annotations

import pytest
from django.core.signing import BadSignature, Signer

from tests.support.change_form import form_of, page_of, stored, submit, text_of
from tests.support.events import happened, post
from tests.support.factories import linked

pytestmark = pytest.mark.django_db(transaction=True)

NEW = "n" * 60


def test_a_session_and_an_open_form_outlive_a_new_secret_key(client, sandbox, settings):
    user = linked(sandbox)
    opened = form_of(user, name="Mary Ann Jones")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = NEW
    assert client.post(page_of(user), opened).status_code == 302
    assert stored(user).name == "Mary Ann Jones"
    assert client.get(page_of(user)).status_code == 200


def test_a_secret_key_without_fallback_ends_sessions_and_signatures(client, sandbox, settings):
    user, signed = linked(sandbox), Signer().sign("something")
    settings.SECRET_KEY = NEW
    answer = client.get(page_of(user))
    assert (answer.status_code, "/login/" in answer["Location"]) == (302, True)
    with pytest.raises(BadSignature):
        Signer().unsign(signed)


def test_a_revoked_clerk_key_changes_nothing_and_the_next_one_works(client, sandbox, settings):
    user, good = linked(sandbox), settings.CLERK_SECRET_KEY
    settings.CLERK_SECRET_KEY = "sk_test_revoked"
    assert submit(client, user, name="Mary Ann Jones").status_code == 200
    assert stored(user).name == "Mary Ann Smith"
    settings.CLERK_SECRET_KEY = good
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert stored(user).name == "Mary Ann Jones"


def test_events_are_accepted_while_one_signing_secret_replaces_another(sandbox, settings):
    user = linked(sandbox)
    happened(sandbox)
    before, after = "whsec_b25seS1mb3ItdGhlLW9sZC1vbmU=", sandbox.webhooks.secret
    settings.CLERK_WEBHOOK_SIGNING_SECRET = f"{before},{after}"
    sandbox.edit(user.clerk_id, last_name="Jones")
    [event] = happened(sandbox)
    assert post(sandbox, event).status_code == 200
    settings.CLERK_WEBHOOK_SIGNING_SECRET = before
    sandbox.edit(user.clerk_id, last_name="Brown")
    [event] = happened(sandbox)
    assert post(sandbox, event).status_code == 400
    assert stored(user).name == "Mary Ann Jones"


def test_the_old_token_of_the_metrics_is_refused(client, settings):
    settings.METRICS_TOKEN = "old"
    assert client.get("/metrics/", headers={"Authorization": "Bearer old"}).status_code == 200
    settings.METRICS_TOKEN = "new"
    assert client.get("/metrics/", headers={"Authorization": "Bearer old"}).status_code == 401
    assert "cascade_" not in text_of(
        client.get("/metrics/", headers={"Authorization": "Bearer old"})
    )
