"""What staff do to an account in Clerk. The row stays as it is; the row's lock orders it."""

from __future__ import annotations

from typing import ClassVar

from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import ClerkNotFound
from users.models import BuilderUser, ClerkAccount
from users.models import Operation as Kind
from users.sync.operations.base import Changes, Operation, Seen, Verdict, read_after


class AccountAction(Operation):
    """`effect` is what changes in Clerk, as the journal tells it."""

    changes_row = False
    effect: ClassVar[Changes]

    @classmethod
    def of(cls, user: BuilderUser) -> AccountAction:
        return cls.on(user, dict(cls.effect))

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        return row


class Ban(AccountAction):
    """Ends all sessions and stops sign-in.

    With `details["replaced"]` it is the account that the user had before an accepted
    invitation, no longer the row's own.
    """

    kind = Kind.BAN
    effect = {"banned": [False, True]}

    @classmethod
    def of_replaced(cls, user: BuilderUser, account: ClerkAccount) -> Ban:
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=account.clerk_id,
            changes=dict(cls.effect),
            details={"replaced": True},
        )

    def stale_fields(self, row: BuilderUser) -> list[str]:
        if self.details.get("replaced"):
            return ["clerk_id"] if row.clerk_id == self.clerk_id else []
        return super().stale_fields(row)

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser:
        return clerk.ban_user(self.clerk_id, deadline=deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT if account.banned else Verdict.HAS_NOT

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        ClerkAccount.objects.filter(pk=self.clerk_id).update(ban_due=False)


class Unban(AccountAction):
    kind = Kind.UNBAN
    effect = {"banned": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser:
        return clerk.unban_user(self.clerk_id, deadline=deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.banned else Verdict.HAS_IT


class Unlock(AccountAction):
    """Ends the lock that Clerk sets after too many wrong passwords."""

    kind = Kind.UNLOCK
    effect = {"locked": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser:
        return clerk.unlock_user(self.clerk_id, deadline=deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.locked else Verdict.HAS_IT


class ResetMfa(AccountAction):
    """Removes all second factors: the person signs in without, and may set up new ones."""

    kind = Kind.RESET_MFA
    effect = {"two-factor sign-in": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser | None:
        clerk.disable_mfa(self.clerk_id, deadline=deadline)
        return read_after(clerk, self.clerk_id, deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.two_factor_enabled else Verdict.HAS_IT


class SignOut(AccountAction):
    """Ends every active session, one call each: what is interrupted is done again safely."""

    kind = Kind.SIGN_OUT
    effect = {"sessions": ["active", "ended"]}

    def send(self, clerk: Clerk, deadline: Deadline) -> None:
        for session in clerk.list_sessions(self.clerk_id, deadline=deadline):
            try:
                clerk.revoke_session(session.id, deadline=deadline)
            except ClerkNotFound:
                continue  # it ended by itself

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        if clerk.list_sessions(self.clerk_id, deadline=deadline):
            return Seen(Verdict.HAS_NOT, why="The person still has active sessions.")
        return Seen(Verdict.HAS_IT)
