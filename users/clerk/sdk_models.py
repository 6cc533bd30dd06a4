"""A cache for the pydantic classes that the SDK makes.

The SDK makes three new classes for every call (about 3 ms of processor time). They depend on the
type alone, so each is made once here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from clerk_backend_api.utils import serializers
from pydantic import ConfigDict

_create_model: Callable[..., object] = getattr(serializers, "create_model")  # noqa: B009


@lru_cache(maxsize=256)
def _made(name: str, body: object) -> object:
    config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)
    return _create_model(name, body=(body, ...), __config__=config)


def _made_once(name: str, *, body: tuple[object, object], __config__: object) -> object:
    try:
        return _made(name, body[0])
    except TypeError:  # a type that cannot be hashed
        return _create_model(name, body=body, __config__=__config__)


def install() -> None:
    """Replace the SDK's function that makes the classes.

    This is safe because the version of the SDK is pinned. A test compares both answers.
    """
    setattr(serializers, "create_model", _made_once)  # noqa: B010
