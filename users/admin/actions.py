"""What staff may do to a user's account in Clerk.

Each action has a kind of change, an attempt, and a page that says what it does to the person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from users.admin.again import again_of, typed
from users.admin.base import say
from users.admin.one_time import token_of
from users.admin.user_pages import Result, UserPages, back, tell, why_not
from users.errors import ChangeFailed
from users.models import BuilderUser, ClerkAccount, OperationKind
from users.sync.access import permissions
from users.sync.mirror.sign_in_address import Block, block_of
from users.sync.services import invitations, linking, sign_in, transfer, users

PUSHES = {"name": OperationKind.PUSH_NAME, "email": OperationKind.PUSH_EMAIL}
PULLS = {"name": OperationKind.FOLLOW, "email": OperationKind.FOLLOW}
"""Maps a field of the panel to the kind of change that copies it."""


@dataclass(frozen=True)
class Copy:
    """A copy of one field in one direction. `kinds` maps each field to its kind of change.

    `done` is said of a copy that was made, and `unchanged` if both sides held the same.
    """

    slug: str
    run: Callable[..., Result]
    kinds: Mapping[str, OperationKind]
    done: str
    unchanged: str
    label: str
    asks_first: Mapping[str, str]
    """Says what the copy does to the sign-in, by field. Other fields are copied at once."""
    done_for: Mapping[str, str]
    """Says of some fields what the copy has done to the sign-in, in place of `done`."""

    def report(self, user: BuilderUser, field: str, result: Result) -> str:
        """Say what the copy did. `{before}` and `{after}` are the values in Clerk."""
        if not result.attempt:
            return self.unchanged.format(field=field)
        before, after = result.attempt.changes.get(field, (None, None))
        words = self.done_for.get(field, "") if before and after else ""
        return (words or self.done).format(field=field, user=user, before=before, after=after)


COPIES = (
    Copy(
        "push", transfer.push, PUSHES, "The {field} was copied to Clerk.",
        "Clerk has this {field} already. Nothing had to be copied.", "Copy to Clerk",
        {"email": "Clerk takes the address that is stored here. From then on the person signs in "
                  "with {user.email}; {old} no longer works."},
        {"email": "{user} signs in with {after} from now on; {before} no longer works."},
    ),
    Copy(
        "pull", transfer.pull, PULLS, "The {field} was copied from Clerk.",
        "Clerk has no other {field} now. Nothing had to be copied.", "Copy from Clerk",
        {"email": "The address that Clerk has is stored here in place of {user.email}. The person "
                  "signs in as before: nothing changes in Clerk."},
        {},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Action:
    """One action. `unfit` says why it makes no sense for a user and the mirror of the account.

    `{account}` in the effect stands for what becomes of the account in Clerk.
    """

    slug: str
    label: str
    kind: OperationKind
    run: Callable[..., Result]
    effect: str
    done: str
    unfit: Callable[[BuilderUser, ClerkAccount | None], str]
    danger: bool = False

    @property
    def url_name(self) -> str:
        """Return the name of the action's address."""
        return f"users_builderuser_{self.slug.replace('-', '_')}"

    def on(self, known: ClerkAccount | None) -> Action:
        """Return the action with its effect on an account, as our mirror shows it."""
        return replace(self, effect=self.effect.format(account=LEFT_IN_CLERK[block_of(known)]))


LEFT_IN_CLERK: Mapping[Block | None, str] = {
    Block.DELETED: "The account is deleted in Clerk already.",
    Block.BANNED: "The account stays in Clerk, and stays banned: the person cannot sign in there.",
    Block.LOCKED: (
        "The account stays in Clerk. It is locked now; the person can sign in after that."
    ),
    None: "The account stays in Clerk, and the person can still sign in there.",
}
"""What becomes of the account of an unlinked user, by what blocks its sign-in."""


def _gone(user: BuilderUser, known: ClerkAccount | None) -> str:
    if not user.linked:
        return "Not connected to a Clerk account."
    return "The account is deleted in Clerk." if known and known.deleted_at else ""


def _unless(holds: Callable[[ClerkAccount], bool], why: str) -> Callable[..., str]:
    """Return why an action is unfit for an account that does not have what it is about."""

    def unfit(user: BuilderUser, known: ClerkAccount | None) -> str:
        return _gone(user, known) or ("" if known and holds(known) else why)

    return unfit


def _has_a_way(user: BuilderUser, known: ClerkAccount | None) -> str:
    """Return why a user needs no first account: there is one, or an invitation to one."""
    if user.linked:
        return "This person has a Clerk account."
    return "An invitation is open. Revoke it first." if invitations.open_of(user) else ""


ACTIONS = (
    Action(
        "sign-out", "Sign out everywhere", OperationKind.SIGN_OUT, sign_in.sign_out,
        "Every session of the person ends, on all devices. They can sign in again at once.",
        "{user} is signed out everywhere.",
        _gone,
    ),
    Action(
        "unlock", "Unlock", OperationKind.UNLOCK, sign_in.unlock,
        "Clerk locked the account after too many wrong passwords. The person can try again at "
        "once.",
        "{user} can sign in again.",
        _unless(lambda known: known.locked, "The account is not locked."),
    ),
    Action(
        "reset-mfa", "Reset two-factor sign-in", OperationKind.RESET_MFA, sign_in.reset_mfa,
        "All second factors of the person go: authenticator, backup codes, phone. They sign in "
        "without one until they set it up again. Make sure that the request really comes from "
        "them.",
        "{user} signs in without a second factor now.",
        _unless(lambda known: known.two_factor_enabled, "Two-factor sign-in is off."),
        danger=True,
    ),
    Action(
        "unban", "Unban", OperationKind.UNBAN, sign_in.unban,
        "The person can sign in again, as before the ban.",
        "{user} can sign in again.",
        _unless(lambda known: known.banned, "The account is not banned."),
    ),
    Action(
        "ban", "Ban", OperationKind.BAN, sign_in.ban,
        "Every session of the person ends, and they cannot sign in until somebody unbans them. "
        "The record here stays as it is.",
        "{user} is banned.",
        lambda user, known: (
            _gone(user, known) or ("The account is banned." if known and known.banned else "")
        ),
        danger=True,
    ),
    Action(
        "unlink", "Unlink", OperationKind.UNLINK, linking.unlink,
        "The record here forgets the Clerk account. {account} Nothing that is edited here "
        "reaches it, and it is not linked again by itself.",
        "{user} is no longer linked.",
        lambda user, known: "" if user.clerk_id is not None else _gone(user, known),
        danger=True,
    ),
    Action(
        "invite", "Invite", OperationKind.INVITE, invitations.invite,
        "Clerk mails an invitation to the user's address. Who accepts it makes an account, which "
        "is linked to this user then.",
        "{user} is invited.",
        _has_a_way,
    ),
    Action(
        "create-account", "Create the account now", OperationKind.CREATE_ACCOUNT,
        users.create_account,
        "Clerk makes an account with this email at once, without a password. No mail is sent: tell "
        "the person that they can sign in with a code by email. Confirm that the address is "
        "theirs.",
        "{user} has a Clerk account now.",
        lambda user, known: (
            "Unlink clears the invalid Clerk id first."
            if user.has_invalid_id
            else _has_a_way(user, known)
        ),
    ),
)  # fmt: skip


def actions_for(request: HttpRequest, user: BuilderUser) -> list[tuple[Action, str]]:
    """List the actions that this person may use on this user now, with their addresses."""
    known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
    return [
        (action.on(known), reverse(f"admin:{action.url_name}", args=[user.pk]))
        for action in ACTIONS
        if permissions.may(request.user, action.kind, user) and not action.unfit(user, known)
    ]


def withheld_from(request: HttpRequest, user: BuilderUser) -> list[tuple[str, str]]:
    """List the actions that are not offered to this person for this user now, and why."""
    known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
    reasons = [
        (action.label, action.unfit(user, known) or why_not(request, user, action.kind))
        for action in ACTIONS
    ]
    return [(label, why) for label, why in reasons if why]


@dataclass(frozen=True)
class AccountActions:
    """The pages of the actions, of the link to an account, and of the copies of one field."""

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the addresses of all pages.

        Those of the copies come first: `…/push/email/` also matches `…/email/`.
        """
        return [*self._copy_urls(), *self._action_urls()]

    def _action_urls(self) -> list[URLPattern]:
        view = self.pages.admin.admin_site.admin_view
        return [
            path(
                f"<path:object_id>/{action.slug}/",
                view(self._view_of(action)),
                name=action.url_name,
            )
            for action in ACTIONS
        ] + [path("<path:object_id>/link/", view(self.link_view), name="users_builderuser_link")]

    def _view_of(self, action: Action) -> Callable[..., HttpResponse]:
        @csrf_protect
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            return self.action_view(request, object_id, action)

        return view

    def action_view(self, request: HttpRequest, object_id: str, action: Action) -> HttpResponse:
        """Show what the action does to the person, and do it on POST."""
        user = self.pages.user_of_page(request, object_id, action.kind)
        if user is None:
            return self.pages.missing(request, object_id)
        failure = None
        if request.method == "POST":
            try:
                result = action.run(user, actor=request.user, token=token_of(request))
            except ChangeFailed as refused:
                failure = refused
            else:
                tell(request, action.done.format(user=user), result)
                return back(user)
        known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
        context = {"action": action.on(known)}
        return self.pages.render(
            request, user, action.label, "action.html", context, failure=failure
        )

    @method_decorator(csrf_protect)
    def link_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Search accounts in Clerk, and link the chosen one on POST."""
        user = self.pages.user_of_page(request, object_id, OperationKind.LINK)
        if user is None:
            return self.pages.missing(request, object_id)
        again = typed(again_of(request, [OperationKind.LINK], user_id=user.pk)).get("clerk_id")
        query = request.GET.get("q", again or user.email)[:200]
        candidates: list[linking.Candidate] = []
        failure = None
        try:
            if request.method == "POST":
                clerk_id, token = request.POST.get("clerk_id", ""), token_of(request)
                result = linking.link(user, actor=request.user, clerk_id=clerk_id, token=token)
                tell(request, f"{user} is linked.", result)
                return back(user)
            if query and not user.linked:
                candidates = linking.search(query)
        except ChangeFailed as refused:
            failure = refused
        context = {"query": query, "candidates": candidates}
        return self.pages.render(
            request, user, "Link to a Clerk account", "link.html", context, failure=failure
        )

    def _copy_urls(self) -> list[URLPattern]:
        view = self.pages.admin.admin_site.admin_view
        return [
            path(
                f"<path:object_id>/{copy.slug}/<str:field>/",
                view(self._copy_view_of(copy)),
                name=f"users_builderuser_{copy.slug}",
            )
            for copy in COPIES
        ]

    def _copy_view_of(self, copy: Copy) -> Callable[..., HttpResponse]:
        @csrf_protect
        def view(request: HttpRequest, object_id: str, field: str) -> HttpResponse:
            return self.copy_view(request, object_id, field, copy)

        return view

    def copy_view(
        self, request: HttpRequest, object_id: str, field: str, copy: Copy
    ) -> HttpResponse:
        """Copy one field to Clerk or from Clerk. Ask first if that changes the sign-in."""
        if field not in copy.kinds:
            raise Http404
        user = self.pages.user_of_page(request, object_id, copy.kinds[field], wanted={field: None})
        if user is None:
            return self.pages.missing(request, object_id)
        if request.method != "POST" and field in copy.asks_first:
            known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
            old = (known.email if known else "") or "the address that Clerk has now"
            effect = copy.asks_first[field].format(user=user, old=old)
            context = {"action": {"label": copy.label, "effect": effect, "danger": True}}
            return self.pages.render(request, user, copy.label, "action.html", context)
        if request.method == "POST":
            try:
                result = copy.run(user, actor=request.user, field=field, token=token_of(request))
            except ChangeFailed as failure:
                say(request, failure)
            else:
                tell(request, copy.report(user, field, result), result)
        return back(user)
