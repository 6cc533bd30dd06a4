"""The spelling of email addresses that the gateway returns."""

from __future__ import annotations


def normalized(address: str) -> str:
    """Return the address without surrounding white space, with its ASCII letters in lower case.

    Letters of other alphabets stay as they are. The lower case of the Kelvin sign is an ordinary k,
    so lowering it would turn one mailbox into another.
    """
    address = address.strip()
    if address.isascii():
        return address.lower()
    return "".join(char.lower() if char.isascii() else char for char in address)
