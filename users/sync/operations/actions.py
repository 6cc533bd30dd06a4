"""What staff do to an account in Clerk. The row stays as it is; the row's lock orders it."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import ClerkError, ClerkNotFound, ClerkUnknown
from users.models import BuilderUser, ClerkAccount, OperationKind
from users.sync.operations.base import Changes, Claims, Operation, Seen, Verdict, seen_after


class AccountAction(Operation):
    """`effect` is what changes in Clerk, as the journal tells it."""

    changes_row = False
    effect: ClassVar[Changes]

    @classmethod
    def of(cls, user: BuilderUser) -> AccountAction:
        return cls.on(user, dict(cls.effect))

    @property
    def moves(self) -> bool:
        """Nobody read what the account had before: it may have been like this already."""
        return False

    @property
    def claims(self) -> Claims:
        return {f"{thing} {self.clerk_id}": after for thing, (_, after) in self.effect.items()}

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        return row


class Ban(AccountAction):
    """Ends all sessions and stops sign-in.

    With `details["replaced"]` it is the account that the user had before an accepted
    invitation, no longer the row's own.
    """

    kind = OperationKind.BAN
    sent_again = True
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

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        return self.seen_in(clerk.ban_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT if account.banned else Verdict.HAS_NOT

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        ClerkAccount.objects.filter(pk=self.clerk_id).update(ban_due=False)


class Unban(AccountAction):
    kind = OperationKind.UNBAN
    sent_again = True
    effect = {"banned": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        return self.seen_in(clerk.unban_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.banned else Verdict.HAS_IT


class Unlock(AccountAction):
    """Ends the lock that Clerk sets after too many wrong passwords."""

    kind = OperationKind.UNLOCK
    sent_again = True
    effect = {"locked": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        return self.seen_in(clerk.unlock_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.locked else Verdict.HAS_IT


class ResetMfa(AccountAction):
    """Removes all second factors: the person signs in without, and may set up new ones."""

    kind = OperationKind.RESET_MFA
    effect = {"two-factor sign-in": [True, False]}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        clerk.disable_mfa(self.clerk_id, deadline=deadline)
        return seen_after(self, clerk, deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT if account.two_factor_enabled else Verdict.HAS_IT


class SignOut(AccountAction):
    """Ends every active session, one call each: what is interrupted is done again safely.

    `details["sessions"]` is how many there were, `details["ended"]` how many were ended.
    """

    kind = OperationKind.SIGN_OUT
    effect = {"sessions": ["active", "ended"]}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        sessions = clerk.list_sessions(self.clerk_id, deadline=deadline)
        if not sessions:  # nobody's sessions are none, too
            clerk.get_user(self.clerk_id, deadline=deadline)
        self.details |= {"sessions": len(sessions), "ended": 0}
        for session in sessions:
            with suppress(ClerkNotFound):  # it ended by itself
                clerk.revoke_session(session.id, deadline=deadline)
            self.details["ended"] += 1
        return Seen(Verdict.HAS_IT)

    def partly_done(self, error: ClerkError) -> str:
        sessions, ended = self.details.get("sessions", 0), self.details.get("ended", 0)
        if not ended:
            return ""
        if isinstance(error, ClerkUnknown):
            return f"{ended} of {sessions} sessions were ended."
        return f"{ended} of {sessions} sessions were ended, the others were not."

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        if clerk.list_sessions(self.clerk_id, deadline=deadline):
            return Seen(Verdict.HAS_NOT, why="The person still has active sessions.")
        return self.not_listed(Verdict.HAS_IT, clerk, deadline)
