"""Define the actions of staff on an account in Clerk.

The row does not change. Its lock orders the actions.
"""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import Change, Changes
from users.clerk import Clerk, ClerkSession, ClerkUser, Deadline
from users.errors import ClerkError, ClerkNotFound, ClerkUnknown, SessionEnded
from users.ids import SESSION_ID
from users.models import BuilderUser, ClerkAccount, OperationKind
from users.sync.operations.base import Claims, Operation, Seen, Verdict, seen_after

NO_SUCH_SESSION = gettext_lazy("This person has no such session any more. Nothing was done.")


class AccountAction(Operation):
    """Base of the actions. `effect` is what changes in Clerk, as the journal shows it."""

    changes_row = False
    typed = False
    effect: ClassVar[Changes]

    @classmethod
    def of(cls, user: BuilderUser) -> AccountAction:
        """Build the action on the account of a user."""
        return cls.on(user, dict(cls.effect))

    @property
    def moves(self) -> bool:
        """Return False: nobody has read what state the account had before."""
        return False

    @property
    def claims(self) -> Claims:
        """Return the effect, with the account in each key: actions on others do not conflict."""
        return {f"{thing} {self.clerk_id}": what.after for thing, what in self.effect.items()}

    def written(self, row: BuilderUser) -> bool:
        """Return False: the row holds nothing of it."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Return the row as it is."""
        return row


class Ban(AccountAction):
    """End all sessions and stop sign-in.

    With `details["replaced"]`, this is not the row's own account: it is the one that the user had
    before an accepted invitation.
    """

    kind = OperationKind.BAN
    sent_again = True
    effect = {"banned": Change(False, True)}

    @classmethod
    def of_replaced(cls, user: BuilderUser, account: ClerkAccount) -> Ban:
        """Build the ban of an account that an accepted invitation replaced."""
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=account.clerk_id,
            changes=dict(cls.effect),
            details={"replaced": True},
        )

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """Check of a replaced account only that no row has it again, whoever linked it."""
        if self.details.get("replaced"):
            linked_again = BuilderUser.objects.filter(clerk_id=self.clerk_id).exists()
            return ["clerk_id"] if linked_again else []
        return super().stale_fields(row)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Ban the account."""
        return self.seen_in(clerk.ban_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        """Decide by whether the account is banned."""
        return Verdict.HAS_IT if account.banned else Verdict.HAS_NOT

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """Record that no ban of the account is due any more."""
        ClerkAccount.objects.filter(pk=self.clerk_id).update(ban_due=False)


class Unban(AccountAction):
    """Let a banned account sign in again."""

    kind = OperationKind.UNBAN
    sent_again = True
    effect = {"banned": Change(True, False)}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Lift the ban of the account."""
        return self.seen_in(clerk.unban_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        """Decide by whether the account is still banned."""
        return Verdict.HAS_NOT if account.banned else Verdict.HAS_IT


class Unlock(AccountAction):
    """End the lock that Clerk sets after too many wrong passwords."""

    kind = OperationKind.UNLOCK
    sent_again = True
    effect = {"locked": Change(True, False)}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Unlock the account."""
        return self.seen_in(clerk.unlock_user(self.clerk_id, deadline=deadline))

    def judge(self, account: ClerkUser) -> Verdict:
        """Decide by whether the account is still locked."""
        return Verdict.HAS_NOT if account.locked else Verdict.HAS_IT


class ResetMfa(AccountAction):
    """Remove all second factors. The person signs in without, and may set up new ones."""

    kind = OperationKind.RESET_MFA
    effect = {"two-factor sign-in": Change(True, False)}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Remove the second factors, then read the account, which the answer does not hold."""
        clerk.disable_mfa(self.clerk_id, deadline=deadline)
        return seen_after(self, clerk, deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        """Decide by whether the account still has two-factor sign-in."""
        return Verdict.HAS_NOT if account.two_factor_enabled else Verdict.HAS_IT


class SignOut(AccountAction):
    """End every session that is active or pending, with one call for each.

    After an interruption it is safe to do it again. `details["sessions"]` is how many sessions
    there were, `details["ended"]` how many of them were ended.
    """

    kind = OperationKind.SIGN_OUT
    effect = {"sessions": Change("active", "ended")}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """End the sessions one after the other, and count them in `details`."""
        sessions = clerk.list_sessions(self.clerk_id, deadline=deadline)
        if not sessions:  # the list of an unknown user is empty too
            clerk.get_user(self.clerk_id, deadline=deadline)
        self.details |= {"sessions": len(sessions), "ended": 0}
        for session in sessions:
            if not _end(session, clerk, deadline):
                return Seen(Verdict.HAS_NOT)
            self.details["ended"] += 1
        return Seen(Verdict.HAS_IT)

    def partly_done(self, error: ClerkError) -> str:
        """Say how many sessions were ended before a call failed."""
        sessions, ended = self.details.get("sessions", 0), self.details.get("ended", 0)
        if not ended:
            return ""
        if isinstance(error, ClerkUnknown):
            return _("{ended} of {sessions} sessions were ended.").format(
                ended=ended, sessions=sessions
            )
        return _("{ended} of {sessions} sessions were ended, the others were not.").format(
            ended=ended, sessions=sessions
        )

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `CANNOT_TELL`: an account does not show its sessions."""
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """List the sessions. If there are none, the person is signed out."""
        if clerk.list_sessions(self.clerk_id, deadline=deadline):
            return Seen(Verdict.HAS_NOT, why=_("The person still has active sessions."))
        return self.not_listed(Verdict.HAS_IT, clerk, deadline)


class EndSession(AccountAction):
    """End one session, so that the person is signed out on one device.

    `details["session"]` is its id. The changes name the device, once Clerk has told it.
    """

    kind = OperationKind.END_SESSION
    effect = {"session": Change("active", "ended")}

    @classmethod
    def of_session(cls, user: BuilderUser, session_id: str) -> EndSession:
        """Build the end of a session of a user.

        Raises `SessionEnded` for a text that is not the id of a session. It may not be storable.
        """
        if not SESSION_ID.match(session_id):
            raise SessionEnded(str(NO_SUCH_SESSION))
        return cls.on(user, dict(cls.effect), session=session_id)

    @property
    def claims(self) -> Claims:
        """Return the id of the session: the ends of two sessions do not conflict."""
        return {f"session {self.session_id}": "ended"}

    @property
    def session_id(self) -> str:
        """Return Clerk's id of the session."""
        return str(self.details["session"])

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """End the session if the account has it.

        The id comes from a page, so it may be of another person's session. A session that is not
        listed has ended already: by an earlier request of the same, if that had found it.

        Raises `SessionEnded` if no session was found.
        """
        sessions = clerk.list_sessions(self.clerk_id, deadline=deadline)
        session = next((one for one in sessions if one.id == self.session_id), None)
        if session is None:
            clerk.get_user(self.clerk_id, deadline=deadline)  # nobody's list is empty too
            if self.changes["session"] == self.effect["session"]:
                raise SessionEnded(str(NO_SUCH_SESSION))
            return Seen(Verdict.HAS_IT)
        self.changes["session"] = Change(session.device, "ended")
        ended = _end(session, clerk, deadline)
        return Seen(Verdict.HAS_IT if ended else Verdict.HAS_NOT)

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `CANNOT_TELL`: an account does not show its sessions."""
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Look for the session among those that have not ended."""
        sessions = clerk.list_sessions(self.clerk_id, deadline=deadline)
        if any(session.id == self.session_id for session in sessions):
            return Seen(Verdict.HAS_NOT, why=_("The session is still active."))
        return self.not_listed(Verdict.HAS_IT, clerk, deadline)


def _end(session: ClerkSession, clerk: Clerk, deadline: Deadline) -> bool:
    """End a session that Clerk has just listed. Return whether the answer shows that it has ended.

    Raises `ClerkError`.
    """
    try:
        return clerk.revoke_session(session.id, deadline=deadline).has_ended
    except ClerkNotFound:  # it has ended meanwhile
        return True
