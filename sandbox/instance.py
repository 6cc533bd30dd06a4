"""The instance that the secret key belongs to, and its settings."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from sandbox.requests import Request
from sandbox.state import Encoded, Json, State

NAMES = {
    "on": "accepted",
    "off": "refused as unknown parameters",
    "off_without_param": "refused without naming the parameter",
    "both_required": "both required",
}
"""What the instance does with first and last names."""
SETTINGS = ("instance_id", "names", "normalize_names", "hide_password_times")
DEFAULT_ID = "ins_0000001sandbox"


class Instance:
    """Settings that a test may change; `reset_instance` takes the changes back.

    `instance_id` is what `GET /instance` and every event give. `normalize_names` stores names
    in NFC and with white space squashed. `hide_password_times` leaves `password_last_updated_at`
    out of every user that is given away.
    """

    def __init__(self, secret_key: str) -> None:
        self.secret_key = secret_key
        self.reset_instance()

    def reset_instance(self) -> None:
        self.instance_id = DEFAULT_ID
        self.names = "on"
        self.normalize_names = False
        self.hide_password_times = False

    @property
    def environment(self) -> str:
        return "production" if self.secret_key.startswith("sk_live_") else "development"

    @property
    def names(self) -> str:
        """One of `NAMES`. "off" refuses first and last name as unknown parameters;
        "off_without_param" does so without naming the parameter in `meta`; "both_required"
        refuses an empty one."""
        return self._names

    @names.setter
    def names(self, names: str) -> None:
        if names not in NAMES:
            raise ValueError(f"no such setting of names: {names}")
        self._names = names

    def settings(self) -> Json:
        return {name: getattr(self, name) for name in SETTINGS}

    def change_settings(self, settings: Json) -> None:
        """Raise `ValueError` for a setting or a value that does not exist."""
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ValueError(f"no such setting: {name}")
            setattr(self, name, value)

    def store_names(self, user: Json) -> None:
        """Change the names of `user` to how this instance stores them."""
        if self.normalize_names:
            for name in ("first_name", "last_name"):
                if user[name] is not None:
                    user[name] = " ".join(unicodedata.normalize("NFC", user[name]).split())

    def shown(self, body: Any) -> Any:
        """`body`, an answer or the data of an event, as this instance gives it away."""
        if not self.hide_password_times:
            return body
        return _without_password_times(json.loads(body) if isinstance(body, Encoded) else body)


def get_instance(state: State, request: Request) -> Json:
    return {
        "object": "instance",
        "id": state.instance.instance_id,
        "environment_type": state.instance.environment,
        "allowed_origins": None,
    }


def _without_password_times(data: Any) -> Any:
    if isinstance(data, list):
        return [_without_password_times(entry) for entry in data]
    if not isinstance(data, dict):
        return data
    is_user = data.get("object") == "user"
    return {
        key: _without_password_times(value)
        for key, value in data.items()
        if not (is_user and key == "password_last_updated_at")
    }
