"""Build Clerk's refusals, with its codes and texts (clerk/samples of the published material)."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer with an error status. `errors` are entries of Clerk's `errors[]`."""

    def __init__(
        self, status: int, *errors: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.errors = list(errors)
        self.headers = headers or {}


def problem(
    code: str, message: str, long_message: str = "", *, param: str = "", **meta: Any
) -> dict[str, Any]:
    """Return one entry of Clerk's `errors[]`; `param` and `meta` become its `meta`."""
    entry: dict[str, Any] = {
        "code": code,
        "message": message,
        "long_message": long_message or message,
    }
    if param:
        meta["param_name"] = param
    if meta:
        entry["meta"] = meta
    return entry


def not_found(what: str, identifier: str) -> Refusal:
    """Return the 404 for an object that does not exist."""
    return Refusal(
        404,
        problem("resource_not_found", "not found", f"No {what} was found with id {identifier}"),
    )


def lacking(what: str) -> Refusal:
    """Return the 501 for a feature of the real Clerk that the sandbox does not have.

    The sandbox ignores nothing silently.
    """
    return Refusal(501, problem("not_implemented", "Not implemented",
                                f"The sandbox lacks this: {what}."))  # fmt: skip


def unknown_param(param: str) -> dict[str, Any]:
    """Return the problem of a parameter that the route does not accept."""
    text = f"{param} is not a valid parameter for this request."
    return problem("form_param_unknown", "is unknown", text, param=param)


def without_param(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the same problem without its `meta`, so that it does not name the parameter."""
    return {key: value for key, value in entry.items() if key != "meta"}


def wrong_type(param: str) -> dict[str, Any]:
    """Return the problem of a parameter whose JSON type is wrong."""
    text = f"{param} has the wrong type."
    return problem("form_param_type_invalid", "has the wrong type", text, param=param)


def missing(param: str) -> dict[str, Any]:
    """Return the problem of a required parameter that is missing."""
    return problem("form_param_missing", "is missing", f"{param} must be included.", param=param)


def bad_email(param: str = "email_address") -> dict[str, Any]:
    """Return the problem of a malformed email address."""
    text = f"{param} must be a valid email address."
    return problem("form_param_format_invalid", "is invalid", text, param=param)


def taken(param: str = "email_address") -> dict[str, Any]:
    """Return the problem of an identifier that another user has."""
    text = "That email address is taken. Please try another."
    return problem("form_identifier_exists", text, param=param)


def too_long(param: str, limit: int) -> dict[str, Any]:
    """Return the problem of a text over the limit, in characters."""
    text = f"{param} must not be longer than {limit} characters."
    return problem("form_param_max_length_exceeded", "is too long", text, param=param)


def invalid(param: str, text: str) -> dict[str, Any]:
    """Return the problem of a value that is not allowed."""
    return problem("form_param_value_invalid", "is invalid", text, param=param)


def required_name(param: str) -> dict[str, Any]:
    """Return the problem of an empty name if the instance requires one."""
    text = f"{param} is required."
    return problem("form_param_nil", "is missing", text, param=param)


def missing_data(param: str) -> dict[str, Any]:
    """Return the problem of data that a new user must have."""
    text = f"{param} must be included."
    return problem("form_data_missing", "Missing data", text, param=param)
