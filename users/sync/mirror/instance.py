"""Remember our Clerk instance, so that a 404 of another instance is not taken for a deletion.

A key of another instance answers 404 to every id that we know, as ids are unique over all
instances. So the instance is remembered, and compared before a 404 counts as a fact.
"""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.clerk import Clerk, Deadline
from users.errors import BulkRefused, ClerkError
from users.ids import USER_ID
from users.models import BuilderUser, ClerkAccount, RememberedInstance

SAMPLE = 100
DOUBT = _(
    "Clerk does not find this user, and it is not certain that CLERK_SECRET_KEY belongs to the "
    "Clerk instance that has our users. Is this the right instance? An engineer finds out with "
    "clerk_check."
)
LIST_DOUBT = _(
    "Clerk does not list it, and it is not certain that CLERK_SECRET_KEY belongs to the Clerk "
    "instance that has our users. Is this the right instance? An engineer finds out with "
    "clerk_check."
)


def is_doubtful(clerk: Clerk, deadline: Deadline) -> bool:
    """Return whether an account that this instance does not list may exist in another instance.

    As long as neither an instance nor one of its users is known, any instance that answers is
    accepted.
    """
    known = remembered() is not None or bool(known_ids())
    return known and not is_ours(clerk, deadline)


def is_ours(clerk: Clerk, deadline: Deadline) -> bool:
    """Return whether the instance that answers is the remembered one.

    If none is remembered, an instance that has one of our known users is remembered. If the request
    fails, the instance counts as not ours.
    """
    ours = remembered()
    asked = [] if ours else known_ids()
    if ours is None and not asked:
        return False
    try:
        answering = clerk.get_instance(deadline=deadline)
        if ours is not None:
            return ours.instance_id == answering.id
        if not clerk.get_users(asked, deadline=deadline).size:
            return False
    except ClerkError:
        return False
    remember(answering.id, answering.environment)
    return True


def remembered() -> RememberedInstance | None:
    """Return our instance, None if none is known yet."""
    return RememberedInstance.objects.first()


def remember(instance_id: str, environment: str) -> None:
    """Remember the instance in place of the earlier one."""
    RememberedInstance.objects.update_or_create(
        pk=1, defaults={"instance_id": instance_id, "environment": environment}
    )


def accept(instance_id: str, clerk: Clerk, deadline: Deadline) -> None:
    """Remember an instance in place of the earlier one, because an engineer says so.

    Raises `BulkRefused` when our key belongs to another instance, and `ClerkError`.
    """
    answering = clerk.get_instance(deadline=deadline)
    if answering.id != instance_id:
        raise BulkRefused(
            gettext(
                "CLERK_SECRET_KEY is of the Clerk instance {answering}, not {instance_id}. Nothing "
                "was changed."
            ).format(answering=answering.id, instance_id=instance_id)
        )
    remember(answering.id, answering.environment)


def known_ids() -> list[str]:
    """Return the ids of a sample of accounts that should exist in our instance.

    These are accounts of linked users, the latest changed first. If nobody is linked, they are any
    accounts.
    """
    users = BuilderUser.objects.linked().filter(
        account__deleted_at=None, account__not_found_at=None
    )
    accounts = ClerkAccount.objects.filter(deleted_at=None, not_found_at=None)
    ids = list(users.order_by("-updated_at").values_list("clerk_id", flat=True)[:SAMPLE])
    ids = ids or list(accounts.order_by("-seen_at").values_list("pk", flat=True)[:SAMPLE])
    return [clerk_id for clerk_id in ids if clerk_id and USER_ID.match(clerk_id)]
