"""Email addresses as the gateway gives them."""

from __future__ import annotations


def normalized(address: str) -> str:
    """The address without white space around it, its ASCII letters in lower case.

    Letters of other alphabets stay as they are. The small letter of the Kelvin sign is an
    ordinary k, so lowering it would turn one mailbox into another.
    """
    address = address.strip()
    if address.isascii():
        return address.lower()
    return "".join(char.lower() if char.isascii() else char for char in address)
