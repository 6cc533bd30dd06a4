"""Store the settings of the instance that the secret key belongs to."""

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
"""How the instance handles first and last names."""
SETTINGS = ("instance_id", "names", "normalize_names", "hide_password_times")
DEFAULT_ID = "ins_0000001sandbox"


class Instance:
    """Settings that a test may change; `reset_instance` restores the defaults.

    `GET /instance` and every event contain `instance_id`. If `normalize_names` is set, names are
    stored in NFC and with single spaces. If `hide_password_times` is set, users are shown without
    `password_last_updated_at`.
    """

    def __init__(self, secret_key: str) -> None:
        self.secret_key = secret_key
        self.reset_instance()

    def reset_instance(self) -> None:
        """Restore the default settings. The secret key stays."""
        self.instance_id = DEFAULT_ID
        self.names = "on"
        self.normalize_names = False
        self.hide_password_times = False

    @property
    def environment(self) -> str:
        """Clerk's `environment_type`, by the prefix of the secret key."""
        return "production" if self.secret_key.startswith("sk_live_") else "development"

    @property
    def names(self) -> str:
        """One of `NAMES`.

        "off" refuses first and last name as unknown parameters. "off_without_param" does so without
        the name of the parameter in `meta`. "both_required" refuses an empty name.
        """
        return self._names

    @names.setter
    def names(self, names: str) -> None:
        if names not in NAMES:
            raise ValueError(f"no such setting of names: {names}")
        self._names = names

    def settings(self) -> Json:
        """Return all settings as JSON, for `change_settings`."""
        return {name: getattr(self, name) for name in SETTINGS}

    def change_settings(self, settings: Json) -> None:
        """Set the given settings. Raises `ValueError` for an unknown setting or a wrong value."""
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ValueError(f"no such setting: {name}")
            setattr(self, name, value)

    def store_names(self, user: Json) -> None:
        """Change the names of `user` in place to the form that this instance stores."""
        if self.normalize_names:
            for name in ("first_name", "last_name"):
                if user[name] is not None:
                    user[name] = " ".join(unicodedata.normalize("NFC", user[name]).split())

    def shown(self, body: Any) -> Any:
        """Return `body` as this instance shows it. `body` is an answer or the data of an event."""
        if not self.hide_password_times:
            return body
        return _without_password_times(json.loads(body) if isinstance(body, Encoded) else body)


def get_instance(state: State, request: Request) -> Json:
    """Return the instance (`GET /instance`)."""
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
