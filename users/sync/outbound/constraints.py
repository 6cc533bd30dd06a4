"""Turn errors of the database into refusals at their field, before Clerk is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, OperationalError, connection
from django.db.models import ProtectedError, RestrictedError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from psycopg.errors import ForeignKeyViolation

from users.errors import EmailTaken, Refused
from users.models import BuilderUser
from users.sync.operations import Operation
from users.sync.outbound import locks

NOTHING_SAVED = gettext_lazy("Nothing was saved, here or in Clerk.")
EMAIL_UNIQUE = ("users_email_lower_unique", "users_email_unique")
"""Our index, and the constraint of the application whose table it may be."""


@contextmanager
def as_refusals() -> Iterator[None]:
    """Turn database errors of the statements inside into failures for people.

    Raises `Refused` for a broken constraint, and `Busy` for a lock that takes too long to wait for.
    """
    try:
        yield
    except (ProtectedError, RestrictedError):
        raise Refused(
            _(
                "Other records still need this user, so nothing was deleted, here or in Clerk. "
                "Remove those first."
            ),
            code="protected",
        ) from None
    except IntegrityError as error:
        raise refusal(error) from None
    except OperationalError as error:
        locks.raise_unless_locked(error)
        raise locks.busy() from None


_ANOTHER_HAS_IT = """
SELECT pg_advisory_xact_lock(hashtextextended(lower(%s), 7));
SELECT EXISTS (SELECT FROM users WHERE lower(email) = lower(%s) AND id <> %s)
"""


def write(operation: Operation, row: BuilderUser) -> BuilderUser | None:
    """Write the row of a change, and refuse an email that another row has.

    The unique index refuses it too. But tables of another application may lack that index, because
    they hold duplicates already. The lock orders two changes to the same email, as the index would.
    Raises `EmailTaken`.
    """
    written = operation.write(row)
    if written is None or "email" not in operation.changes or not operation.changes_row:
        return written
    with connection.cursor() as cursor:
        cursor.execute(_ANOTHER_HAS_IT, [written.email, written.email, written.pk])
        cursor.nextset()
        if cursor.fetchone()[0]:
            raise email_taken()
    return written


def email_taken() -> EmailTaken:
    """Return the refusal of an email that another row has.

    `holders.name_holder` adds who has it.
    """
    fields = {"email": [_("Another builder user has this email.")]}
    return EmailTaken(str(NOTHING_SAVED), code="duplicate", fields=fields)


def refusal(error: IntegrityError) -> Refused:
    """Return the refusal for a broken constraint, at its field."""
    diagnosis = getattr(error.__cause__, "diag", None)
    constraint = getattr(diagnosis, "constraint_name", "") or ""
    table = getattr(diagnosis, "table_name", "") or ""
    if isinstance(error.__cause__, ForeignKeyViolation) and table not in ("users", ""):
        return Refused(
            _(
                "Rows of {table} still belong to this user. {nothing_saved} Change those first."
            ).format(table=table, nothing_saved=NOTHING_SAVED),
            code="referenced",
        )
    if constraint in EMAIL_UNIQUE:
        return email_taken()
    if constraint == "invitation_one_open_a_user":
        fields = {"email": [_("This user has an open invitation. Resend or revoke that one.")]}
        return Refused(str(NOTHING_SAVED), code="invited", fields=fields)
    if "clerk_id" in constraint:
        return Refused(
            _(
                "Another builder user is linked to this Clerk account. {nothing_saved} Unlink "
                "that one first."
            ).format(nothing_saved=NOTHING_SAVED),
            code="duplicate",
        )
    if "builder_group" in constraint:
        fields = {"builder_group": [_("This group does not exist any more. Choose another one.")]}
        return Refused(str(NOTHING_SAVED), code="group_gone", fields=fields)
    return Refused(
        _("The database refused the change ({constraint}). {nothing_saved}").format(
            constraint=constraint or _("a constraint"), nothing_saved=NOTHING_SAVED
        ),
        code="database",
    )
