"""Prometheus reads the state from the database and the requests to Clerk from all processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.test import Client
from django.utils import timezone

from cascade import metrics
from tests.support.change_form import submit
from tests.support.factories import SyncAttemptFactory, change_here, linked
from tests.support.patience import PATIENCE
from tests.support.workers import heartbeat
from users.clerk.metrics import forget_ended_processes, operation_of
from users.models import SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[1]
TOKEN = "the token of prometheus"


@pytest.fixture(autouse=True)
def _token(settings, monkeypatch):
    settings.METRICS_TOKEN = TOKEN
    monkeypatch.setattr(metrics._Drift, "counted_at", -metrics.DRIFT_SECONDS)


def scraped() -> dict[str, float]:
    """Return each sample by its name and labels."""
    answer = Client().get("/metrics/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_only_the_token_opens_the_page(settings, client):
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        assert client.get("/metrics/", headers=header).status_code == 401
    settings.METRICS_TOKEN = ""
    answer = client.get("/metrics/", headers={"Authorization": "Bearer "})
    assert answer.status_code == 404


def test_a_save_is_counted_with_its_outcome_and_the_request_to_clerk(client, sandbox):
    user = linked(sandbox)
    call = 'cascade_clerk_call_seconds_count{operation="PATCH /users/{id}",status="200"}'
    before = scraped().get(call, 0)
    submit(client, user, name="Mary Ann Jones")
    found = scraped()
    labels = 'operation="update",outcome="applied",source="admin"'
    assert [value for name, value in found.items() if all(
        label in name for label in ("cascade_changes_total", *labels.split(","))
    )] == [1]  # fmt: skip
    assert found[call] == before + 1


def test_what_is_open_and_what_differs_is_shown(sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    SyncAttemptFactory(status="started", settled_at=None)
    SyncAttempt.objects.update(started_at=timezone.now() - timedelta(hours=2))
    heartbeat()
    found = scraped()
    assert found["cascade_attempts_open"] == 1
    assert found["cascade_attempt_oldest_seconds"] >= 7200
    assert found['cascade_drift{kind="name"}'] == 1
    assert found["cascade_workers"] == 1
    assert found["cascade_scan_failed"] == found["cascade_events_missing"] == 0


def test_an_operation_contains_no_id(settings):
    settings.CLERK_API_URL = "https://api.clerk.com/v1"
    url = "https://api.clerk.com/v1/users/user_2abc/ban?x=mary@example.com"
    assert operation_of("POST", url) == "POST /users/{id}/ban"
    assert operation_of("GET", "https://api.clerk.com/v1/users") == "GET /users"


COUNT = """
import sys
from users.clerk.metrics import CALLS
for _ in range(3):
    CALLS.labels("GET /users", "200").observe(0.1)
"""
SUM = """
from cascade.metrics import _calls
from prometheus_client import generate_latest
print(generate_latest(_calls()).decode())
"""


def in_process(code: str, folder: Path) -> str:
    setup = "import django; django.setup()\n"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", setup + code],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "cascade.settings",
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return ended.stdout


def test_any_process_of_a_host_adds_up_the_requests_of_all(tmp_path):
    in_process(COUNT, tmp_path)
    in_process(COUNT, tmp_path)
    found = re.search(r"cascade_clerk_call_seconds_count\{.*\} (\S+)", in_process(SUM, tmp_path))
    assert found
    assert float(found[1]) == 6
    forget_ended_processes(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_rules_name_metrics_that_exist(client, sandbox):
    """A rule with a misspelled metric would never fire."""
    user = linked(sandbox)
    submit(client, user, name="Mary Ann Jones")
    answer = client.get("/metrics/", headers={"Authorization": f"Bearer {TOKEN}"})
    known = set(re.findall(r"^# TYPE (\S+)", answer.content.decode(), re.MULTILINE))
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"cascade_\w+", rule["expr"])}
    assert named
    assert {name.removesuffix("_count") for name in named} <= known
