"""Each secret can be changed while people work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.signing import BadSignature, Signer
from django.db import connection, connections

from tests.support.change_form import form_of, page_of, stored, submit, text_of
from tests.support.commands import ROOT
from tests.support.databases import connect
from tests.support.events import happened, post
from tests.support.factories import StaffFactory, linked
from tests.support.oidc_provider import DID_NOT_WORK, sign_in
from tests.support.production import PRODUCTION, manage
from tests.support.sign_in import is_signed_in

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


# --- The address of the database -----------------------------------------------------------------

PAGE = ROOT / "docs" / "deploying.md"
SHOW_SETTING = "from django.conf import settings; print('is', {})"


@pytest.fixture
def database() -> Iterator[dict[str, Any]]:
    """The settings of Django's connection. They are as before afterwards."""
    ours = connection.settings_dict
    before = dict(ours)
    yield ours
    use(ours, before["USER"])
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS rotation_2")
        cursor.execute("DROP OWNED BY rotation_1; DROP ROLE rotation_1")


def use(database: dict[str, Any], role: str) -> None:
    """Let all later connections be of this role, as after a restart."""
    connection.close()
    connections["default"].close_pool()
    database["USER"] = role


def statements_of(database: dict[str, Any], heading: str) -> list[str]:
    """Return the SQL under a heading of the page, for the names of the test."""
    _, _, rest = PAGE.read_text().partition(f"\n### {heading}\n")
    blocks = re.findall(r"```sql\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)
    names = {
        '"cascade"': "rotation_1",
        '"cascade_2"': "rotation_2",
        '"app"': f'"{database["NAME"]}"',
    }
    text = "".join(blocks)
    for name, ours in names.items():
        text = text.replace(name, ours)
    return text.splitlines()


def test_a_second_role_takes_over_while_people_work(client, sandbox, database):
    user, superuser = linked(sandbox), database["USER"]
    make, act, take = statements_of(database, "A second role for the database")
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS rotation_2, rotation_1")  # of a run that was killed
        cursor.execute("CREATE ROLE rotation_1 LOGIN")
        cursor.execute("GRANT ALL ON SCHEMA public TO rotation_1")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO rotation_1")
        cursor.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO rotation_1")
        cursor.execute(make)
        cursor.execute(act)
    for role, name in (("rotation_1", "Mary Ann Jones"), ("rotation_2", "Mary Ann Brown")):
        use(database, role)
        assert submit(client, stored(user), name=name).status_code == 302
        assert stored(user).name == name
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made_by_migrate (id int)")
        cursor.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_migrate'")
        assert cursor.fetchone() == ("rotation_1",)
    use(database, superuser)
    with connection.cursor() as cursor:
        cursor.execute(take)
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        connect("rotation_1", database["NAME"])
    use(database, "rotation_2")
    assert submit(client, stored(user), name="Mary Ann Green").status_code == 302
    assert stored(user).name == "Mary Ann Green"


@pytest.mark.parametrize(
    ("variable", "shown", "values"),
    [
        ("DATABASE_URL", "settings.DATABASES['default']['USER']",
         {"first": "postgres://first@127.0.0.1:9/none", "second": "postgres://second@127.0.0.1:9/none"}),
        ("OIDC_CLIENT_SECRET", "settings.OIDC_CLIENT_SECRET", {"old": "old", "new": "new"}),
    ],
    ids=["DATABASE_URL", "OIDC_CLIENT_SECRET"],
)  # fmt: skip
def test_a_restart_reads_what_a_file_says_now(tmp_path, variable, shown, values):
    file = tmp_path / "secret"
    environment = {name: value for name, value in PRODUCTION.items() if name != variable}
    for expected, value in values.items():
        file.write_text(f"{value}\n")
        ended = manage(
            "shell", "--no-imports", "--command", SHOW_SETTING.format(shown),
            **environment, **{f"{variable}_FILE": str(file)},
        )  # fmt: skip
        assert ended.stdout == f"is {expected}\n", ended.stderr


# --- The secret at the company's provider ---------------------------------------------------------


def test_a_session_outlives_the_secret_of_the_provider_and_the_next_one_works(company, settings):
    StaffFactory(username="sam", email="sam@example.com")
    signed_in, _ = sign_in(company)
    assert is_signed_in(signed_in)
    company.secrets = {"the-next-secret"}  # the old one is revoked too early
    refused, page = sign_in(company)
    assert not is_signed_in(refused)
    assert DID_NOT_WORK in text_of(page).replace("&#x27;", "'")
    settings.OIDC_CLIENT_SECRET = "the-next-secret"
    assert is_signed_in(sign_in(company)[0])
    assert signed_in.get("/admin/").status_code == 200
