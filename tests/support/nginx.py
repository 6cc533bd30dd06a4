"""nginx with the configuration that is shipped, in front of any port."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.patience import wait_until

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx" / "cascade.conf"
CONNECTIONS = 1024


def found() -> str:
    """Return the path of nginx; skip the test without one."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("No nginx (package nginx-light): run `make nginx` as root on Debian.")
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configured(folder: Path, *, upstream: int, plain: int, secure: int) -> Path:
    """Write the shipped configuration with ports, log and certificate of the test; return its path.

    What surrounds it is what Debian has in its own nginx.conf.
    """
    _write_certificate(folder)
    text = SHIPPED.read_text()
    for shipped, mine in {
        "server 127.0.0.1:8000 ": f"server 127.0.0.1:{upstream} ",
        "listen 80 ": f"listen 127.0.0.1:{plain} ",
        "listen 443 ": f"listen 127.0.0.1:{secure} ",
        "/etc/nginx/tls/": f"{folder}/",
        "/var/log/nginx/access.log": f"{folder}/access.log",
    }.items():
        assert shipped in text, shipped
        text = text.replace(shipped, mine)
    (folder / "cascade.conf").write_text(text)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/error.log;\n"
        f"events {{ worker_connections {CONNECTIONS}; }}\n"
        f"http {{\n{places}include {folder}/cascade.conf;\n}}\n"
    )
    return main


@contextmanager
def in_front_of(upstream: int) -> Iterator[tuple[int, int]]:
    """Run nginx before a port, and yield the ports of HTTP and HTTPS."""
    program = found()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, nginx serves as another user
        plain, secure = free_port(), free_port()
        main = configured(folder, upstream=upstream, plain=plain, secure=secure)
        server = subprocess.Popen([program, "-c", str(main)], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(secure), "nginx does not listen")
            yield plain, secure
        finally:
            server.terminate()
            server.wait(30)


def unverified() -> ssl.SSLContext:
    """Return a context that trusts the certificate that the test made."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cascade.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
