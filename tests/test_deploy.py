"""What is shipped in deploy/ can be read by the programs that it is for."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms

from tests.support import nginx
from tests.support.production import run_program

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def gunicorn(**environment: str) -> dict[str, object]:
    """Return the settings of gunicorn as its file makes them in this environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WEB_CONCURRENCY", "BIND", "DEBUG"):
            patch.delenv(name, raising=False)
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
        for name, value in environment.items():
            patch.setenv(name, value)
        return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def test_gunicorn_accepts_its_settings():
    ended = run_program(
        sys.executable, "-W", "ignore", "-m", "gunicorn", "--check-config", DEBUG="1"
    )
    assert ended.returncode == 0, ended.stderr


def test_gunicorn_has_two_workers_a_core_and_one_more():
    assert gunicorn()["workers"] == 2 * len(os.sched_getaffinity(0)) + 1
    assert gunicorn(WEB_CONCURRENCY="3")["workers"] == 3


def test_gunicorn_listens_on_the_loopback_address_unless_told_otherwise():
    assert gunicorn()["bind"] == "127.0.0.1:8000"
    assert gunicorn(BIND="0.0.0.0:9000")["bind"] == "0.0.0.0:9000"


def test_the_access_log_is_json_with_the_route_alone():
    """gunicorn fills its format from what the middleware leaves in the environment."""
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/admin/reset/MQ/secret-token/?email=mary@example.com",
        "PATH_INFO": "/admin/reset/MQ/secret-token/",
        "QUERY_STRING": "email=mary@example.com",
        "REMOTE_ADDR": "203.0.113.7",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "cascade.route": "reset/<uidb64>/<token>/",
        "cascade.request_id": "0123456789abcdef",
    }
    answer = SimpleNamespace(status="200 OK", sent=5, headers=[])
    atoms = Logger(Config()).atoms(
        answer, SimpleNamespace(headers=[]), environ, timedelta(seconds=0.25)
    )
    line = str(gunicorn()["access_log_format"]) % SafeAtoms(atoms)
    assert json.loads(line) == {
        "event": "request",
        "request_id": "0123456789abcdef",
        "method": "GET",
        "route": "reset/<uidb64>/<token>/",
        "actor": "-",
        "status": 200,
        "milliseconds": 250,
    }


def test_a_stopping_server_lets_saves_end(settings):
    stop = gunicorn()["graceful_timeout"]
    assert isinstance(stop, int)
    assert stop > settings.CLERK_EDIT_DEADLINE
    assert int(COMPOSE["services"]["web"]["stop_grace_period"].rstrip("s")) > stop


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_application_writes_nothing_to_its_image_and_has_no_privileges(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "USER 10001:10001" in (DEPLOY / "Dockerfile").read_text().splitlines()


def test_compose_names_only_what_exists():
    services, secrets, volumes = COMPOSE["services"], COMPOSE["secrets"], COMPOSE["volumes"]
    assert set(services) == {"nginx", "web", "worker", "database"}
    for service in services.values():
        assert set(service.get("secrets", [])) <= set(secrets)
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in volumes or source == "./tls" or (DEPLOY / source).exists(), volume


def test_no_secret_stands_in_the_environment_of_a_container():
    for service in COMPOSE["services"].values():
        for name in service.get("environment", {}):
            assert name.endswith("_FILE") or not re.search(r"SECRET|PASSWORD|TOKEN|_URL$", name)


def test_only_nginx_is_reachable_from_outside():
    ports = {name: service.get("ports") for name, service in COMPOSE["services"].items()}
    assert ports == {"web": ["80:80", "443:443"], "nginx": None, "worker": None, "database": None}
    assert COMPOSE["services"]["nginx"]["network_mode"] == "service:web"
    assert COMPOSE["services"]["web"]["command"][-1].startswith("127.0.0.1:")


def test_the_image_contains_only_what_it_needs():
    """`.dockerignore` names what is sent to the builder; the Dockerfile copies the same."""
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])
def test_systemd_accepts_its_units(unit, tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("No systemd-analyze (package systemd).")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/cascade/.venv/bin/", "/bin/"))
    for name in ("gunicorn", "python"):
        copy.write_text(copy.read_text().replace(f"/bin/{name}", "/bin/true"))
    ended = run_program(program, "verify", str(copy))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nginx_accepts_its_configuration(tmp_path):
    program = nginx.found()
    main = nginx.configured(tmp_path, upstream=8000, plain=8080, secure=8443)
    ended = run_program(program, "-t", "-c", str(main))
    assert ended.returncode == 0, ended.stderr
    assert "warn" not in ended.stderr
