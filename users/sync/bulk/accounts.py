"""Plan rows for accounts that Clerk has and the table does not have, for `clerk_import`.

Use it when the table is empty and Clerk is not. In doubt no row is made: a wrong row gives one
person's sign-in to another.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet

from users.clerk import Clerk, Deadline, names
from users.errors import BulkRefused
from users.models import BuilderUser, ClerkAccount, SignIn
from users.sync.bulk.creating import Defaults, left_out, plan_new
from users.sync.bulk.plan import Plan, Planned
from users.sync.mirror import comparison
from users.validation import clean_email, clean_name

CHUNK = 100
"""Number of accounts that Clerk returns by their ids in one answer."""
SECONDS = 30.0

INCLUDED = ("banned", "unverified")
"""Kinds of accounts that are left out unless they are requested."""


@dataclass(frozen=True)
class AccountChoice:
    """Selection of accounts: those that match every given criterion.

    `metadata` is compared with Clerk's public metadata as JSON writes it; a text has no quotes.
    """

    emails: Sequence[str] = ()
    domains: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    everybody: bool = False
    include: Collection[str] = ()

    def accounts(self) -> QuerySet[ClerkAccount]:
        """Select the accounts from the mirror, without regard to their metadata.

        An account that staff unlinked or replaced is never selected. Raises `BulkRefused`.
        """
        if not (self.emails or self.domains or self.metadata or self.everybody):
            raise BulkRefused("Say which accounts: --email, --domain, --metadata, or --all.")
        chosen = ClerkAccount.objects.filter(
            user=None, deleted_at=None, not_found_at=None, released_at=None
        )
        if self.emails:
            chosen = comparison.with_email(chosen, *self.emails)
            found = {comparison.normalized_email(account.email) for account in chosen}
            missing = [one for one in self.emails if comparison.normalized_email(one) not in found]
            if missing:
                raise BulkRefused(
                    f"No account without a builder user has {', '.join(missing)}. Nothing was "
                    "planned."
                )
        if self.domains:
            ends = (f"@{domain.lower().lstrip('@')}" for domain in self.domains)
            fits = Q()
            for end in ends:
                fits |= Q(email__iendswith=end)
            chosen = chosen.filter(fits)
        return chosen

    def fits(self, metadata: Mapping[str, object]) -> bool:
        """Return whether the metadata of an account match the selection."""
        return all(
            key in metadata and _text(metadata[key]) == value
            for key, value in self.metadata.items()
        )


def plan_import(
    choice: AccountChoice, *, defaults: Defaults, keep_ids: bool, client: Clerk
) -> Plan:
    """Plan a row for each selected account, and list those that get none.

    With `keep_ids` a row gets the id in the account's metadata, if no row has this id and no other
    account names it: other tables may still refer to it. Without `keep_ids` the metadata is
    ignored, as others can write there. Raises `BulkRefused` and `ClerkError`.
    """
    accounts = choice.accounts()
    wanted = _Wanted(choice, accounts, defaults, keep_ids)
    for chunk in _chunks(accounts):
        wanted.take(_with_metadata(chunk, choice, client) if choice.metadata else chunk)
    return Plan("clerk_import", tuple(wanted.rows), tuple(wanted.notes()))


class _Wanted:
    """Rows planned for the selected accounts, a chunk at a time."""

    def __init__(
        self,
        choice: AccountChoice,
        accounts: QuerySet[ClerkAccount],
        defaults: Defaults,
        keep_ids: bool,
    ) -> None:
        self.rows: list[Planned] = []
        self._include = choice.include
        self._defaults = defaults
        self._left_out: dict[str, list[str]] = defaultdict(list)
        self._sharing = set(
            comparison.accounts_sharing_an_email(accounts).values_list("pk", flat=True)
        )
        self._claimed_twice = set(_claimed_twice()) if keep_ids else set()
        self._keep_ids = keep_ids

    def take(self, accounts: list[ClerkAccount]) -> None:
        """Plan rows for a chunk of accounts."""
        emails = [account.email for account in accounts]
        rows = comparison.with_email(BuilderUser.objects.all(), *emails)
        here = {comparison.normalized_email(user.email): user for user in rows}
        claimed = [account.claimed_id for account in accounts if account.claimed_id]
        self._ids_here = set(
            BuilderUser.objects.filter(pk__in=claimed).values_list("pk", flat=True)
        )
        for account in accounts:
            holder = here.get(comparison.normalized_email(account.email))
            if why := self._why_not(account, holder):
                self._left_out[why].append(str(account))
                continue
            try:
                self.rows.append(plan_new(self._user_of(account), SignIn.NONE))
            except ValidationError as error:
                self._left_out[f"not storable ({' '.join(error.messages)})"].append(str(account))

    def _why_not(self, account: ClerkAccount, holder: BuilderUser | None) -> str:
        if not account.email:
            return "without an email"
        if holder is not None:
            return "whose email a user here has (see clerk_link)"
        if account.pk in self._sharing:
            return "that share an email"
        if account.banned and "banned" not in self._include:
            return "banned in Clerk (--include banned)"
        if not account.email_verified and "unverified" not in self._include:
            return "with an email that is not verified (--include unverified)"
        return ""

    def _user_of(self, account: ClerkAccount) -> BuilderUser:
        """Return the row for an account; an account without a name gets its email as the name.

        Raises `ValidationError`.
        """
        email = clean_email(account.email)
        return BuilderUser(
            pk=self._id_of(account),
            name=clean_name(names.join(account.first_name, account.last_name) or email),
            email=email,
            clerk_id=account.pk,
            role=self._defaults.role,
            builder_group=self._defaults.group,
        )

    def _id_of(self, account: ClerkAccount) -> uuid.UUID:
        claimed = account.claimed_id
        if self._keep_ids and claimed and claimed not in self._ids_here | self._claimed_twice:
            return claimed
        return uuid.uuid4()

    def notes(self) -> Iterator[str]:
        """Yield a note for each reason for which accounts are left out."""
        for why, accounts in self._left_out.items():
            yield left_out(accounts, "account", why)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _claimed_twice() -> QuerySet[ClerkAccount, uuid.UUID | None]:
    claims = ClerkAccount.objects.filter(claimed_id__isnull=False).order_by()
    counted = claims.values("claimed_id").annotate(_accounts=Count("pk"))
    return counted.filter(_accounts__gt=1).values_list("claimed_id", flat=True)


def _with_metadata(
    accounts: list[ClerkAccount], choice: AccountChoice, client: Clerk
) -> list[ClerkAccount]:
    """Return those of the accounts whose metadata match.

    The mirror does not store public metadata, so they are read from Clerk.
    """
    page = client.get_users([account.pk for account in accounts], deadline=Deadline(SECONDS))
    fitting = {user.id for user in page.users if choice.fits(user.public_metadata)}
    return [account for account in accounts if account.pk in fitting]


def _chunks(accounts: QuerySet[ClerkAccount]) -> Iterator[list[ClerkAccount]]:
    last = ""
    while chunk := list(accounts.filter(pk__gt=last).order_by("pk")[:CHUNK]):
        yield chunk
        last = chunk[-1].pk
