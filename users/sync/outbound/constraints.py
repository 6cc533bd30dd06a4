"""Turn errors of the database into refusals at their field, before Clerk is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, OperationalError
from django.db.models import ProtectedError, RestrictedError

from users.errors import EmailTaken, Refused
from users.sync.outbound import locks

NOTHING_SAVED = "Nothing was saved, here or in Clerk."


@contextmanager
def as_refusals() -> Iterator[None]:
    """Turn database errors of the statements inside into failures for people.

    Raises `Refused` for a broken constraint, and `Busy` for a lock that takes too long to wait for.
    """
    try:
        yield
    except (ProtectedError, RestrictedError):
        raise Refused(
            "Other records still need this user, so nothing was deleted, here or in Clerk. "
            "Remove those first.",
            code="protected",
        ) from None
    except IntegrityError as error:
        raise refusal(error) from None
    except OperationalError as error:
        locks.raise_unless_locked(error)
        raise locks.busy() from None


def email_taken() -> EmailTaken:
    """Return the refusal of an email that another row has.

    `holders.name_holder` adds who has it.
    """
    fields = {"email": ["Another builder user has this email."]}
    return EmailTaken(NOTHING_SAVED, code="duplicate", fields=fields)


def refusal(error: IntegrityError) -> Refused:
    """Return the refusal for a broken constraint, at its field."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") or ""
    if constraint == "users_email_unique":
        return email_taken()
    if constraint == "invitation_one_open_a_user":
        fields = {"email": ["This user has an open invitation. Resend or revoke that one."]}
        return Refused(NOTHING_SAVED, code="invited", fields=fields)
    if "clerk_id" in constraint:
        return Refused(
            f"Another builder user is linked to this Clerk account. {NOTHING_SAVED} "
            "Unlink that one first.",
            code="duplicate",
        )
    if "builder_group" in constraint:
        fields = {"builder_group": ["This group does not exist any more. Choose another one."]}
        return Refused(NOTHING_SAVED, code="group_gone", fields=fields)
    return Refused(
        f"The database refused the change ({constraint or 'a constraint'}). {NOTHING_SAVED}",
        code="database",
    )
