"""The address of a client.

`X-Forwarded-For` is a list to which each proxy appends the address that it saw. Only the last
entries come from our own proxies; everything before them is whatever the client sent.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.http import HttpRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """Where a request comes from. `address` is None when the server does not know it."""

    address: str | None

    @property
    def network(self) -> str:
        """Give what the limits count: one IPv4 address, or one IPv6 /64, which one client has."""
        if self.address is None:
            return "unknown"
        if ipaddress.ip_address(self.address).version == 4:
            return self.address
        return str(ipaddress.ip_network((self.address, 64), strict=False))


def client_of(request: HttpRequest) -> Client:
    """Read the address that the outermost of TRUSTED_PROXY_COUNT proxies saw.

    A request with fewer entries did not come through all proxies, so its header proves nothing.
    """
    header = request.META.get("HTTP_X_FORWARDED_FOR", "")
    seen, count = header.split(","), settings.TRUSTED_PROXY_COUNT
    if header and not count:
        _warn()
    if 0 < count <= len(seen) and (address := parsed(seen[-count])):
        return Client(address)
    return Client(parsed(request.META.get("REMOTE_ADDR", "")))


@cache
def _warn() -> None:
    """Say once in a process what is probably not set."""
    logger.warning(
        "A request has X-Forwarded-For, and TRUSTED_PROXY_COUNT is 0. If it came through a proxy "
        "of yours, all clients count as one address: set TRUSTED_PROXY_COUNT."
    )


def parsed(text: str) -> str | None:
    """Normalize an address. Some proxies append the port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
