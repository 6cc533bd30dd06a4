"""Find the network address of a client.

`X-Forwarded-For` is a list. Each proxy appends the address that it saw. Only the last entries come
from our own proxies; the client can forge all entries before them.
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
    """The origin of a request. `address` is None if the server does not know it."""

    address: str | None

    @property
    def network(self) -> str:
        """The network that the limits count: one IPv4 address or one IPv6 /64.

        One client usually has a whole IPv6 /64.
        """
        if self.address is None:
            return "unknown"
        if ipaddress.ip_address(self.address).version == 4:
            return self.address
        return str(ipaddress.ip_network((self.address, 64), strict=False))


def client_of(request: HttpRequest) -> Client:
    """Return the client as the outermost of TRUSTED_PROXY_COUNT proxies saw it.

    A header with fewer entries proves nothing, because the request did not come through all
    proxies.
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
    """Log once in each process that TRUSTED_PROXY_COUNT is probably not set."""
    logger.warning(
        "A request has X-Forwarded-For, and TRUSTED_PROXY_COUNT is 0. If it came through a proxy "
        "of yours, all clients count as one address: set TRUSTED_PROXY_COUNT."
    )


def parsed(text: str) -> str | None:
    """Return the normalized address without a port, or None if the text is not an address.

    Some proxies append the port.
    """
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
