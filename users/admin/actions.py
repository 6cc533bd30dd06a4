"""What staff may do to a user's account in Clerk.

Each action has a kind of change, an attempt, and a page that says what it does to the person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
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

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

PUSHES = {"name": OperationKind.PUSH_NAME, "email": OperationKind.PUSH_EMAIL}
PULLS = {"name": OperationKind.FOLLOW, "email": OperationKind.FOLLOW}
"""Maps a field of the panel to the kind of change that copies it."""


@dataclass(frozen=True)
class Copy:
    """A copy of one field in one direction. `kinds` maps each field to its kind of change.

    `done` is said of a copy that was made, and `unchanged` if both sides held the same, by field.
    """

    slug: str
    run: Callable[..., Result]
    kinds: Mapping[str, OperationKind]
    done: Mapping[str, StrOrPromise]
    unchanged: Mapping[str, StrOrPromise]
    label: StrOrPromise
    asks_first: Mapping[str, StrOrPromise]
    """Says what the copy does to the sign-in, by field. Other fields are copied at once."""
    done_for: Mapping[str, StrOrPromise]
    """Says of some fields what the copy has done to the sign-in, in place of `done`."""

    def report(self, user: BuilderUser, field: str, result: Result) -> str:
        """Say what the copy did. `{before}` and `{after}` are the values in Clerk."""
        if not result.attempt:
            return str(self.unchanged[field])
        before, after = result.attempt.changes.get(field, (None, None))
        words = self.done_for.get(field, "") if before and after else ""
        return (words or self.done[field]).format(user=user, before=before, after=after)


COPIES = (
    Copy(
        "push", transfer.push, PUSHES,
        {"name": _("The name was copied to Clerk."), "email": _("The email was copied to Clerk.")},
        {"name": _("Clerk has this name already. Nothing had to be copied."),
         "email": _("Clerk has this email already. Nothing had to be copied.")},
        _("Copy to Clerk"),
        {"email": _("Clerk takes the address that is stored here. From then on the person signs in "
                  "with {user.email}; {old} no longer works.")},
        {"email": _("{user} signs in with {after} from now on; {before} no longer works.")},
    ),
    Copy(
        "pull", transfer.pull, PULLS,
        {"name": _("The name was copied from Clerk."),
         "email": _("The email was copied from Clerk.")},
        {"name": _("Clerk has no other name now. Nothing had to be copied."),
         "email": _("Clerk has no other email now. Nothing had to be copied.")},
        _("Copy from Clerk"),
        {"email": _("The address that Clerk has is stored here in place of {user.email}. The "
                    "person signs in as before: nothing changes in Clerk.")},
        {},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Action:
    """One action. `unfit` says why it makes no sense for a user and the mirror of the account.

    `{account}` in the effect stands for what becomes of the account in Clerk.
    """

    slug: str
    label: StrOrPromise
    kind: OperationKind
    run: Callable[..., Result]
    effect: StrOrPromise
    done: StrOrPromise
    unfit: Callable[[BuilderUser, ClerkAccount | None], str]
    danger: bool = False

    @property
    def url_name(self) -> str:
        """Return the name of the action's address."""
        return f"users_builderuser_{self.slug.replace('-', '_')}"

    def on(self, known: ClerkAccount | None) -> Action:
        """Return the action with its effect on an account, as our mirror shows it."""
        return replace(self, effect=self.effect.format(account=LEFT_IN_CLERK[block_of(known)]))


LEFT_IN_CLERK: Mapping[Block | None, StrOrPromise] = {
    Block.DELETED: _("The account is deleted in Clerk already."),
    Block.BANNED: _(
        "The account stays in Clerk, and stays banned: the person cannot sign in there."
    ),
    Block.LOCKED: (
        _("The account stays in Clerk. It is locked now; the person can sign in after that.")
    ),
    None: _("The account stays in Clerk, and the person can still sign in there."),
}
"""What becomes of the account of an unlinked user, by what blocks its sign-in."""


def _gone(user: BuilderUser, known: ClerkAccount | None) -> str:
    if not user.linked:
        return gettext("Not connected to a Clerk account.")
    return gettext("The account is deleted in Clerk.") if known and known.deleted_at else ""


def _unless(holds: Callable[[ClerkAccount], bool], why: StrOrPromise) -> Callable[..., str]:
    """Return why an action is unfit for an account that does not have what it is about."""

    def unfit(user: BuilderUser, known: ClerkAccount | None) -> str:
        return _gone(user, known) or ("" if known and holds(known) else str(why))

    return unfit


def _has_a_way(user: BuilderUser, known: ClerkAccount | None) -> str:
    """Return why a user needs no first account: there is one, or an invitation to one."""
    if user.linked:
        return gettext("This person has a Clerk account.")
    return gettext("An invitation is open. Revoke it first.") if invitations.open_of(user) else ""


ACTIONS = (
    Action(
        "sign-out", _("Sign out everywhere"), OperationKind.SIGN_OUT, sign_in.sign_out,
        _("Every session of the person ends, on all devices. They can sign in again at once."),
        _("{user} is signed out everywhere."),
        _gone,
    ),
    Action(
        "unlock", _("Unlock"), OperationKind.UNLOCK, sign_in.unlock,
        _("Clerk locked the account after too many wrong passwords. The person can try again at "
        "once."),
        _("{user} can sign in again."),
        _unless(lambda known: known.locked, _("The account is not locked.")),
    ),
    Action(
        "reset-mfa", _("Reset two-factor sign-in"), OperationKind.RESET_MFA, sign_in.reset_mfa,
        _("All second factors of the person go: authenticator, backup codes, phone. They sign in "
        "without one until they set it up again. Make sure that the request really comes from "
        "them."),
        _("{user} signs in without a second factor now."),
        _unless(lambda known: known.two_factor_enabled, _("Two-factor sign-in is off.")),
        danger=True,
    ),
    Action(
        "unban", _("Unban"), OperationKind.UNBAN, sign_in.unban,
        _("The person can sign in again, as before the ban."),
        _("{user} can sign in again."),
        _unless(lambda known: known.banned, _("The account is not banned.")),
    ),
    Action(
        "ban", _("Ban"), OperationKind.BAN, sign_in.ban,
        _("Every session of the person ends, and they cannot sign in until somebody unbans them. "
        "The record here stays as it is."),
        _("{user} is banned."),
        lambda user, known: (
            _gone(user, known)
            or (gettext("The account is banned.") if known and known.banned else "")
        ),
        danger=True,
    ),
    Action(
        "unlink", _("Unlink"), OperationKind.UNLINK, linking.unlink,
        _("The record here forgets the Clerk account. {account} Nothing that is edited here "
        "reaches it, and it is not linked again by itself."),
        _("{user} is no longer linked."),
        lambda user, known: "" if user.clerk_id is not None else _gone(user, known),
        danger=True,
    ),
    Action(
        "invite", _("Invite"), OperationKind.INVITE, invitations.invite,
        _("Clerk mails an invitation to the user's address. Who accepts it makes an account, which "
        "is linked to this user then."),
        _("{user} is invited."),
        _has_a_way,
    ),
    Action(
        "create-account", _("Create the account now"), OperationKind.CREATE_ACCOUNT,
        users.create_account,
        _("Clerk makes an account with this email at once, without a password. No mail is sent: "
          "tell the person that they can sign in with a code by email. Confirm that the address is "
        "theirs."),
        _("{user} has a Clerk account now."),
        lambda user, known: (
            gettext("Unlink clears the invalid Clerk id first.")
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
    return [(str(label), why) for label, why in reasons if why]


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
                tell(request, gettext("{user} is linked.").format(user=user), result)
                return back(user)
            if query and not user.linked:
                candidates = linking.search(query)
        except ChangeFailed as refused:
            failure = refused
        context = {"query": query, "candidates": candidates}
        return self.pages.render(
            request, user, gettext("Link to a Clerk account"), "link.html", context, failure=failure
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
            old = (known.email if known else "") or gettext("the address that Clerk has now")
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
