"""Names, emails, notes and the ends of invitations, derived in memory from what is known."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.derivation import (
    ANN,
    EVE,
    LEE,
    NOW,
    account,
    account_of,
    at,
    deleted,
    derive,
    id_of,
    invited,
    linked,
    not_found,
    row,
    shown,
    values_of,
)  # fmt: skip
from users.models import Invitation, InvitationStatus, LinkedBy, Role
from users.sync.inbound.addresses import Wishes, solve
from users.sync.inbound.facts import AHEAD, LONGEST_EMAIL, LONGEST_NAME, MOST_NAMES
from users.sync.inbound.group import DecidedLink

EMAIL_CHANGE = Invitation.Purpose.EMAIL_CHANGE
STAFF = LinkedBy.STAFF


def mine(number=1, email=ANN, name="Ann Lee", to="user_a", **fields):
    """A row that staff linked; both sides agree on what it holds."""
    agreed = {"agreed_email": email, "agreed_name": name} | fields
    return row(number, email, name, **linked(to, STAFF, **agreed))


class TestNames:
    def name(self, one, *known, **fields):
        return values_of(derive(mine(**fields), account("user_a", *known, one)))[0]

    def test_a_row_takes_the_new_name_of_its_account(self):
        end = derive(mine(), account("user_a", shown(10), shown(40, name="Ann Kay"))).rows[id_of(1)]
        assert (end.name, end.agreed_name) == ("Ann Kay", "Ann Kay")
        assert end.agreed_name_version != ""

    def test_a_row_that_was_renamed_here_keeps_its_name(self):
        assert self.name(shown(40, name="Ann Kay"), agreed_name="Ann Before") == "Ann Lee"

    def test_a_row_that_never_agreed_keeps_its_name(self):
        assert self.name(shown(40, name="Ann Kay"), agreed_name=None) == "Ann Lee"

    def test_an_account_without_a_name_takes_none_away(self):
        assert self.name(shown(40, name="")) == "Ann Lee"

    def test_other_white_space_is_no_other_name(self):
        assert self.name(shown(40), name="Ann  Lee") == "Ann  Lee"

    def test_a_busy_row_keeps_its_name(self):
        assert self.name(shown(40, name="Ann Kay"), busy=True) == "Ann Lee"


class TestEmails:
    def test_a_row_takes_the_new_email_of_its_account(self):
        end = derive(mine(), account("user_a", shown(10), shown(40, LEE))).rows[id_of(1)]
        assert (end.email, end.agreed_email, end.own_email) == (LEE, LEE, ANN)
        assert end.agreed_email_version != ""

    @pytest.mark.parametrize(
        "fields", [{"agreed_email": EVE}, {"agreed_email": None}, {"busy": True}]
    )
    def test_such_a_row_keeps_its_email(self, fields):
        assert values_of(derive(mine(**fields), account("user_a", shown(40, LEE))))[1] == ANN

    def test_other_capitals_are_no_other_email(self):
        kept = values_of(derive(mine(email="Ann@example.com"), account("user_a", shown(40))))[1]
        assert kept == "Ann@example.com"

    def test_an_account_without_an_email_leaves_the_row_its_own(self):
        none = account("user_a", shown(40, ""))
        assert values_of(derive(mine(), none))[1] == ANN
        assert values_of(derive(mine(own_email=LEE), none))[1] == LEE

    def test_two_who_swap_get_both(self):
        one = account("user_a", shown(10, ANN), shown(20, LEE))
        other = account("user_b", shown(10, LEE), shown(20, ANN))
        decided = derive(mine(), mine(2, LEE, "Bo", "user_b"), one, other)
        assert (values_of(decided, 1)[1], values_of(decided, 2)[1]) == (LEE, ANN)

    moved = account(
        "user_a", shown(5, "old@example.com"), shown(10), shown(20, LEE), shown(30, EVE)
    )

    @pytest.mark.parametrize(
        ("taken", "end"),
        [((), EVE), ((EVE,), LEE), ((EVE, LEE), ANN), ((LEE,), EVE)],
    )
    def test_of_taken_ones_it_gets_the_newest_that_is_free(self, taken, end):
        others = [row(number, email, "Bo") for number, email in enumerate(taken, 2)]
        assert values_of(derive(mine(), *others, self.moved))[1] == end

    def test_its_own_comes_before_what_the_account_had_before(self):
        one = account("user_a", shown(5, LEE), shown(10), shown(20, EVE))
        assert values_of(derive(mine(), row(2, EVE, "Bo"), one))[1] == ANN

    def test_an_own_one_that_the_account_never_had_comes_second(self):
        one = account("user_a", shown(5, LEE), shown(20, EVE))
        assert values_of(derive(mine(), row(2, EVE, "Bo"), one))[1] == ANN

    def test_if_its_own_is_taken_it_gets_one_that_the_account_had_before(self):
        one = account("user_a", shown(5, "old@example.com"), shown(10, LEE), shown(20, EVE))
        for by in (STAFF, LinkedBy.INVITATION):
            lost = mine(email="first@example.com", own_email=ANN, linked_by=by)
            decided = derive(lost, row(2, EVE, "Bo"), row(3, ANN, "Cy"), one)
            assert values_of(decided)[1] == LEE

    @pytest.mark.parametrize(
        ("before", "end"),
        [
            ([shown(10), shown(25, LEE), shown(40)], ANN),
            ([shown(10), shown(20, LEE), shown(30, "x@example.com"), shown(45, LEE)], LEE),
            ([shown(5, LEE), shown(10), shown(30), shown(45, LEE)], LEE),
        ],
        ids=["before its own", "the last of two", "before and after its own"],
    )
    def test_what_the_account_had_last_counts(self, before, end):
        one = account("user_a", *before, shown(50, EVE))
        assert values_of(derive(mine(), row(2, EVE, "Bo"), one))[1] == end

    def test_if_all_are_taken_it_keeps_the_one_that_it_has(self):
        one = account("user_a", shown(20, EVE))
        lost = mine(email="first@example.com", own_email=ANN)
        decided = derive(lost, row(2, EVE, "Bo"), row(3, ANN, "Cy"), one)
        assert values_of(decided)[1] == "first@example.com"

    def test_a_row_that_loses_its_account_gets_its_own_email_back(self):
        followed = row(1, LEE, own_email=ANN, **linked("user_b", agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        end = derive(followed, gone).rows[id_of(1)]
        assert (end.clerk_id, end.email, end.agreed_email) == (None, ANN, None)

    def test_it_waits_for_it_while_another_row_has_it(self):
        followed = row(1, LEE, own_email=ANN, **linked("user_b", agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        end = derive(followed, row(2, ANN, "Bo", own_email_since=at(45)), gone).rows[id_of(1)]
        assert (end.clerk_id, end.email, end.agreed_email) == (None, LEE, LEE)
        assert end.waits_for_own_email
        assert derive(end).rows[id_of(1)].email == ANN
        assert derive(end).rows[id_of(1)].agreed_email is None
        assert derive(replace(end, busy=True)).rows[id_of(1)].email == LEE

    def test_a_row_whose_email_never_came_from_the_account_keeps_it(self):
        own = row(1, LEE, own_email=LEE, **linked("user_b", agreed_email=None))
        gone = account("user_b", shown(30, LEE), deleted(50))
        assert values_of(derive(own, gone))[1] == LEE

    def test_the_own_email_comes_before_an_account_that_moved_to_it(self):
        followed = row(1, LEE, own_email=ANN, **linked("user_b", agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        other = account("user_c", shown(10, EVE), shown(60, ANN))
        decided = derive(followed, mine(2, EVE, "Bo", "user_c"), gone, other)
        assert (values_of(decided, 1)[1], values_of(decided, 2)[1]) == (ANN, EVE)

    def test_a_restored_link_has_the_email_of_its_account(self):
        kept = DecidedLink("user_d", STAFF, at(5), "Ann Lee", "", ANN, "")
        one = row(1, LEE, own_email=ANN, **linked("user_b", decided_link=kept, agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        again = account("user_d", shown(5), deleted(20), shown(35, EVE, answer=True))
        end = derive(one, gone, again).rows[id_of(1)]
        assert (end.clerk_id, end.email, end.agreed_email) == ("user_d", EVE, EVE)

    def test_a_restored_link_that_never_agreed_gets_its_own_email(self):
        kept = DecidedLink("user_d", STAFF, at(5), "Ann Lee", "", None, "")
        one = row(1, LEE, own_email=ANN, **linked("user_b", decided_link=kept, agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        again = account("user_d", shown(5), deleted(20), shown(35, EVE, answer=True))
        end = derive(one, gone, again).rows[id_of(1)]
        assert (end.clerk_id, end.email, end.agreed_email) == ("user_d", ANN, None)

    def test_a_restored_link_gets_what_its_account_had_before(self):
        kept = DecidedLink("user_d", STAFF, at(5), "Ann Lee", "", ANN, "")
        one = row(1, LEE, own_email=ANN, **linked("user_b", decided_link=kept, agreed_email=LEE))
        gone = account("user_b", shown(30), shown(40, LEE), deleted(50))
        had = shown(2, "old@example.com"), shown(5), deleted(20), shown(35, EVE, answer=True)
        others = row(2, ANN, "Bo", own_email_since=at(45)), row(3, EVE, "Cy")
        other = (
            mine(4, "di@example.com", "Di", "user_e"),
            account("user_e", shown(60, "dee@example.com")),
        )
        decided = derive(one, gone, account("user_d", *had), *others, *other)
        assert (values_of(decided)[1], values_of(decided, 4)[1]) == (
            "old@example.com", "dee@example.com"
        )  # fmt: skip
        decided = derive(one, gone, account("user_d", *had[1:]), *others, *other)
        assert (values_of(decided)[1], values_of(decided, 4)[1]) == (LEE, "dee@example.com")

    @pytest.mark.parametrize(
        ("link", "ends"),
        [
            (linked("user_b", agreed_email=LEE), (ANN, "cy@example.com")),
            (linked("user_b", STAFF, agreed_email=LEE), (LEE, ANN)),
            (linked("user_a", since=10, agreed_email=LEE), (LEE, ANN)),
        ],
        ids=["undone", "decided", "kept"],
    )
    def test_an_email_of_an_account_that_was_detached_comes_last(self, link, ends):
        """Its own email goes before that, although another account moved to it."""
        one = row(1, LEE, own_email=ANN, **link)
        known = (
            account("user_b", shown(30), shown(40, LEE), deleted(50)),
            account("user_a", shown(10), shown(20, EVE)),
            row(3, EVE, "Ed", busy=True),
            mine(2, "cy@example.com", "Cy", "user_c"),
            account("user_c", shown(60, ANN)),
        )
        decided = derive(one, *known)
        assert account_of(decided) == "user_a"
        assert (values_of(decided, 1)[1], values_of(decided, 2)[1]) == ends

    def test_old_rows_that_share_an_email_refuse_no_invitation(self):
        twin = row(2, "Ann@example.com", "Bo")
        one = row(1, **linked("user_n", LinkedBy.INVITATION, since=100))
        came = account("user_n", shown(200, accepted=9))
        accepted = invited(9, status=InvitationStatus.ACCEPTED)
        assert derive(one, twin, came, accepted).refused == set()
        new = (
            row(3, LEE, "Cy"),
            invited(8, to=3, email=EVE),
            account("user_m", shown(200, EVE, accepted=8)),
        )
        decided = derive(one, twin, came, accepted, *new)
        assert (account_of(decided, 3), decided.refused) == ("user_m", set())

    def test_an_invitation_brings_its_address_or_nothing(self):
        before = account("user_a", shown(10))
        came = account("user_n", shown(200, LEE, accepted=9))
        change = invited(9, email=LEE, purpose=EMAIL_CHANGE)
        decided = derive(mine(), before, change, came)
        assert (account_of(decided), values_of(decided)[1]) == ("user_n", LEE)
        decided = derive(mine(), row(2, LEE, "Bo"), before, change, came)
        assert (account_of(decided), values_of(decided)[1]) == ("user_a", ANN)
        assert decided.refused == {id_of(9)}
        assert decided.accepted == set()


@pytest.mark.parametrize(
    ("own", "agreed", "waits"),
    [(ANN, LEE, True), (ANN, EVE, False), (ANN, None, False), (LEE, LEE, False)],
)
def test_a_row_waits_for_its_own_email_while_it_has_that_of_a_lost_account(own, agreed, waits):
    assert row(1, LEE, own_email=own, agreed_email=agreed).waits_for_own_email is waits


def test_addresses_are_given_to_the_greatest_version_first():
    one, two, three = (uuid.UUID(int=number) for number in (1, 2, 3))
    wishes = {one: Wishes("1", ["a", "b"]), two: Wishes("2", ["A", "c"])}
    assert solve(wishes, taken={}) == {one: "b", two: "A"}
    assert solve(wishes, taken={three: "a"}) == {one: "b", two: "c"}
    same = {one: Wishes("1", ["a", "b"]), two: Wishes("1", ["a", "c"])}
    assert solve(same, taken={}) == {one: "b", two: "a"}


def test_who_can_get_none_keeps_the_last_and_nobody_else_has_it():
    one, two, three = (uuid.UUID(int=number) for number in (1, 2, 3))
    wishes = {one: Wishes("1", ["a", "b"]), two: Wishes("2", ["b", "c"])}
    assert solve(wishes, taken={three: "A"}) == {one: "b", two: "c"}
    more = wishes | {uuid.UUID(int=4): Wishes("0", ["d"])}
    assert solve(more, taken={three: "A"}) == {one: "b", two: "c", uuid.UUID(int=4): "d"}
    assert solve({one: Wishes("1", ["a"])}, taken={three: "A"}) is None
    assert solve({one: Wishes("1", ["a"]), two: Wishes("2", ["A"])}, taken={}) is None


class TestNotes:
    def note(self, *known, of="user_a"):
        return derive(*known).notes[of]

    def doubt(self, *known, number=1):
        return derive(*known).rows[id_of(number)].note

    def test_all_is_well(self):
        decided = derive(mine(), account("user_a", shown(10)))
        assert (decided.notes, decided.rows[id_of(1)].note) == ({"user_a": ""}, "")

    def test_another_row_has_the_email(self):
        note = self.note(mine(), row(2, LEE, "Bo"), account("user_a", shown(10), shown(20, LEE)))
        assert note.startswith(
            "Clerk's email for Ann Lee (ann@example.com) is already used by Bo (lee@example.com)."
        )
        third = row(3, EVE, "Cy")
        assert "Cy" not in self.note(mine(), third, account("user_a", shown(10), shown(20, LEE)))
        nameless = row(2, LEE, "")
        note = self.note(mine(), nameless, account("user_a", shown(10), shown(20, LEE)))
        assert "already used by lee@example.com." in note

    def test_an_old_row_that_shares_the_email_is_no_note(self):
        twin = row(2, "Ann@example.com", "Bo")
        assert self.note(mine(), twin, account("user_a", shown(10))) == ""

    def test_an_email_that_waits_to_be_pushed_is_no_note(self):
        assert self.note(mine(agreed_email=EVE), account("user_a", shown(20, LEE))) == ""

    def test_a_name_that_no_row_takes(self):
        assert self.note(mine(), account("user_a", shown(10, name="x" * (LONGEST_NAME + 1)))) == (
            f"Its name is longer than {LONGEST_NAME} letters."
        )
        assert self.note(mine(), account("user_a", shown(10, name="x" * LONGEST_NAME))) == ""
        assert "control characters" in self.note(mine(), account("user_a", shown(10, name="A\x07")))

    def test_a_busy_row_and_its_account_keep_their_notes(self):
        busy = mine(busy=True, note="as before")
        decided = derive(busy, account("user_a", shown(10), shown(20, LEE)))
        assert (decided.notes, decided.rows[id_of(1)].note) == ({}, "as before")

    def test_the_accounts_of_other_rows_have_theirs_although_a_row_is_busy(self):
        busy = mine(busy=True), account("user_a", shown(10))
        other = row(2, EVE, "Bo"), account("user_b", shown(10, EVE, verified=False))
        assert self.note(*busy, *other, of="user_b").startswith("Bo has its email, but")

    def test_an_account_that_is_replaced_has_none(self):
        one = mine(to="user_o"), account("user_o", shown(10, verified=False, claims=1))
        change = invited(9, email=LEE, purpose=EMAIL_CHANGE)
        decided = derive(*one, change, account("user_n", shown(200, LEE, accepted=9)))
        assert (decided.replaced, decided.notes["user_o"]) == ({"user_o": id_of(1)}, "")

    def test_accounts_that_are_gone_or_released_have_none(self):
        for one in (shown(10, banned=True), shown(10, verified=False)):
            account_ = account("user_a", one, *([deleted(20)] if not one.addresses else []))
            assert self.note(row(1), account_) == ""
        assert self.note(row(1), account("user_a", shown(10, verified=False), released=True)) == ""

    @pytest.mark.parametrize(
        ("known", "note"),
        [
            (
                [row(1, LEE), invited(8, to=7, sent=50), invited(9),
                 account("user_a", shown(200, EVE, accepted=9))],
                "It came from the invitation of Ann Lee, but not with its email, verified.",
            ),
            (
                [row(1, LEE), row(2, ANN, "Bo"), invited(9),
                 account("user_a", shown(200, accepted=9))],
                "It accepted the invitation of Ann Lee, but another builder user has its email.",
            ),
            (
                [row(1, role=Role.ADMIN), invited(9), account("user_a", shown(200, accepted=9))],
                "It accepted an invitation of Ann Lee, who has become an administrator since. "
                "Whoever sent it may not manage administrators. Nothing was linked.",
            ),
            (
                [row(1, LEE, own_email_since=None, role=Role.ADMIN), invited(9),
                 account("user_a", shown(200, created=200))],
                "It has the email to which Ann Lee was invited. Clerk does not say that it came "
                "from the invitation. An administrator gets no account on a guess. Nothing "
                "was linked.",
            ),
            (
                [row(1), row(2, "Ann@example.com", own_email=ANN), account("user_a", shown(10))],
                "Several builder users have its email. Nothing was linked.",
            ),
            (
                [row(1), account("user_a", shown(10, verified=False))],
                "Ann Lee has its email, but it is not verified. Nothing was linked.",
            ),
            (
                [mine(to="user_b", agreed_email=None), account("user_b", shown(5, EVE)),
                 account("user_a", shown(10))],
                "Ann Lee has its email and another Clerk account. Nothing was linked.",
            ),
            (
                [mine(to="user_b", agreed_email=None, role=Role.ADMIN),
                 account("user_b", shown(5, EVE), deleted(9)),
                 account("user_a", shown(10))],
                "Ann Lee has its email and is linked to an account that was deleted in Clerk: link "
                "this one by hand. Nothing was linked.",
            ),
            (
                [row(1), account("user_a", shown(10), not_found(20))],
                "Ann Lee has its email, but Clerk did not find it. Nothing was linked.",
            ),
            (
                [mine(to="user_b"), account("user_b", shown(5)),
                 account("user_a", shown(10, EVE, claims=1))],
                "Its metadata names Ann Lee, who has another Clerk account. Nothing was linked.",
            ),
            (
                [row(1), account("user_a", shown(10, EVE, claims=1))],
                "Its metadata names Ann Lee. That alone is no proof, so nothing was linked.",
            ),
            (
                [row(1, own_email_since=None), account("user_a", shown(10))],
                "Ann Lee has its email, but it may be another person's. Nothing was linked.",
            ),
            ([row(1, busy=True), account("user_a", shown(10))], ""),
            ([row(1), account("user_a", shown(10, EVE))], ""),
            ([row(1, ""), account("user_a", shown(10, ""))], ""),
            ([row(1), account("user_a", shown(10, EVE, claims=2))], ""),
            ([row(1, LEE), invited(9, to=2), account("user_a", shown(200, EVE, accepted=9))], ""),
            (
                [row(1, LEE), invited(9, status=InvitationStatus.REVOKED),
                 account("user_a", shown(200, EVE, accepted=9))],
                "",
            ),
        ],
    )  # fmt: skip
    def test_why_an_account_has_no_row(self, known, note):
        assert self.note(*known) == note

    admin = {"role": Role.ADMIN, "own_email_since": None}

    @pytest.mark.parametrize(
        ("fields", "sent", "one"),
        [
            ({"role": Role.BUILDER}, {}, shown(200, created=200)),
            ({}, {"status": InvitationStatus.EXPIRED}, shown(200, created=200)),
            ({"linked_by": STAFF, "linked_since": at(100)}, {}, shown(200, created=200)),
            ({}, {}, shown(200, created=200, accepted=7)),
            ({}, {}, shown(200, created=200, verified=False)),
            ({}, {}, shown(200)),
            ({}, {}, shown(200, created=100)),
        ],
    )
    def test_such_an_account_did_not_accept(self, fields, sent, one):
        known = row(1, **(self.admin | fields)), invited(9, **({"email": ANN} | sent))
        decided = derive(*known, account("user_a", one))
        assert "to which" not in decided.notes["user_a"] + decided.rows[id_of(1)].note

    @pytest.mark.parametrize("decision", [{"linked_by": STAFF, "linked_since": at(99)}, {}])
    def test_it_may_have_accepted(self, decision):
        known = row(1, **self.admin, **decision), invited(9, status=InvitationStatus.ACCEPTED)
        assert self.doubt(*known, account("user_a", shown(200, created=200))) == (
            "user_a has ann@example.com, to which this user was invited. Clerk does not say that "
            "it came from the invitation. An administrator gets no account on a guess. Link it "
            "by hand if it is the same person."
        )

    def test_an_administrators_invitation_that_was_accepted(self):
        one = row(1, LEE, role=Role.ADMIN)
        came = account("user_a", shown(200, accepted=9))
        text = "user_a accepted an invitation to ann@example.com."
        assert self.doubt(one, invited(9), came).startswith(text)
        gone = account("user_0", shown(20, EVE), deleted(30))
        decided = replace(one, linked_by=STAFF, linked_since=at(60))
        earlier = invited(7, to=7, sent=40), invited(8, sent=50)
        assert self.doubt(decided, *earlier, invited(9), gone, came).startswith(text)
        for known in (
            (one, invited(9, status=InvitationStatus.REVOKED), came),
            (row(3, LEE, role=Role.ADMIN), row(1, "x@example.com", "Bo"), invited(9), came),
            (replace(one, linked_by=STAFF, linked_since=at(100)), invited(9), came),
            (one, invited(9), account("user_a", shown(200, accepted=9), deleted(300))),
            (one, invited(9), account("user_a", shown(200, EVE, accepted=9))),
            (one, invited(9), account("user_a", shown(200, accepted=7))),
            (one, mine(2, EVE, "Bo", "user_a", linked_since=at(300)), invited(9), came),
        ):
            doubts = [each.note for each in derive(*known).rows.values()]
            assert not any(text in doubt for doubt in doubts)

    def test_the_account_of_an_administrator_is_deleted_and_another_has_the_email(self):
        one = mine(role=Role.ADMIN)
        gone, other = account("user_a", shown(10), deleted(20)), account("user_b", shown(30))
        text = (
            "Its Clerk account was deleted. user_b has had this email: link it if it is the same "
            "person."
        )
        assert self.doubt(one, gone, other) == text
        assert self.doubt(one, gone, other, account("user_a0", shown(40))) == text
        assert self.doubt(one, gone) == ""
        assert self.doubt(one, account("user_a", shown(10)), other) == ""
        assert self.doubt(replace(one, own_email_since=None), gone, other) == ""
        for unusable in (
            account("user_b", shown(30), shown(40, banned=True)),
            account("user_b", shown(30), not_found(40)),
            account("user_b", shown(30), released=True),
        ):
            assert self.doubt(one, gone, unusable) == ""
        elsewhere = mine(2, EVE, "Bo", "user_b")
        assert self.doubt(one, gone, other, elsewhere) == ""

    def test_another_account_had_the_email_earlier(self):
        one = row(1, touched=True, **linked("user_b"))
        known = account("user_b", shown(30)), account("user_a", shown(10), shown(20, LEE))
        text = (
            "It was linked by its email, but user_a had that email earlier. Look at both, and link "
            "the right one."
        )
        assert self.doubt(one, *known) == text
        assert self.doubt(one, *known, account("user_a0", shown(20), shown(25, LEE))) == text
        assert self.doubt(replace(one, linked_since=None), *known) == text
        assert self.doubt(replace(one, linked_by=STAFF), *known) == ""
        later = account("user_a", shown(30))
        assert self.doubt(one, known[0], later) == ""

    def test_an_administrator_is_told_also_of_accounts_that_are_gone(self):
        one = row(1, role=Role.ADMIN, **linked("user_b"))
        known = account("user_b", shown(30)), account("user_a", shown(10), deleted(20))
        assert self.doubt(one, *known) == (
            "It was linked by its email, but user_a had that email earlier, and was deleted in "
            "Clerk. Unlink the account if it is another person's, or link it by hand."
        )
        second = account("user_c", shown(20), shown(25, banned=True))
        text = "but user_a had that email earlier, and was deleted"
        assert text in self.doubt(one, *known, second)
        banned = account("user_a", shown(10), shown(15, banned=True))
        assert "and was banned in Clerk" in self.doubt(one, known[0], banned)
        assert self.doubt(replace(one, role=Role.BUILDER, touched=True), *known) == ""

    def test_a_row_without_an_account_names_those_that_are_gone(self):
        text = "user_a, which has had its email, was deleted in Clerk."
        assert self.doubt(row(1), account("user_a", shown(10), deleted(20))) == text
        assert self.doubt(row(1), account("user_a", shown(10), deleted(20), released=True)) == text
        banned = shown(10), shown(20, banned=True)
        assert self.doubt(row(1), account("user_a", *banned)) == text.replace("deleted", "banned")
        assert self.doubt(row(1), account("user_a", *banned, released=True)) == ""
        assert self.doubt(row(1), account("user_a", shown(10, LEE), deleted(20))) == ""
        assert self.doubt(mine(to="user_c"), account("user_c", shown(10, EVE)),
                          account("user_a", shown(10), deleted(20))) == ""  # fmt: skip

    def test_a_row_without_an_account_has_the_notes_of_those_that_name_it(self):
        metadata = account("user_a", shown(10, EVE, claims=1))
        assert self.doubt(row(1), metadata) == (
            "user_a: Its metadata names Ann Lee. That alone is no proof, so nothing was linked."
        )
        unverified = account("user_a", shown(10, verified=False))
        assert self.doubt(row(1), unverified).startswith("user_a: Ann Lee has its email, but")
        both = (
            row(1),
            row(2, EVE, "Bo"),
            account("user_a", shown(10, EVE, verified=False, claims=1)),
        )
        text = "user_a: Bo has its email, but it is not verified. Nothing was linked."
        assert (self.doubt(*both), self.doubt(*both, number=2)) == (text, text)
        linked_elsewhere = mine(2, LEE, "Bo", "user_a")
        taken = account("user_a", shown(10, LEE, "x" * (LONGEST_NAME + 1), claims=1))
        assert self.doubt(row(1), linked_elsewhere, taken) == ""


class TestInvitations:
    """Which are accepted, and which are closed because a later decision overrules them."""

    def ends(self, one, *known):
        decided = derive(one, *known)
        return bool(decided.accepted), bool(decided.closed)

    def test_one_that_its_account_names_is_accepted(self):
        one = mine(to="user_n", linked_since=at(300))
        came = account("user_n", shown(200, EVE, accepted=9))
        assert self.ends(invited(9, email=LEE), one, came) == (True, False)
        for status in (InvitationStatus.ACCEPTED, InvitationStatus.REVOKED):
            assert self.ends(invited(9, email=LEE, status=status), one, came) == (False, False)
        expired = invited(9, email=LEE, status=InvitationStatus.EXPIRED)
        assert self.ends(expired, one, came) == (True, False)
        assert self.ends(invited(9, email=LEE), replace(one, busy=True), came) == (False, False)

    @pytest.mark.parametrize(
        ("created", "ends"), [(100, (False, True)), (101, (True, False)), (None, (False, True))]
    )
    def test_one_whose_address_a_younger_account_of_the_row_has_had(self, created, ends):
        one = mine(to="user_n", linked_since=at(300))
        assert (
            self.ends(invited(9), one, account("user_n", shown(created or 200, created=created)))
            == ends
        )

    def test_one_that_is_closed_makes_the_other_one_certain(self):
        """Two were sent to one address, and Clerk lost the metadata."""
        free = row(2, EVE, "Bo", linked_by=STAFF, linked_since=at(150))
        sent = invited(8, to=2, email=LEE, sent=20), invited(9, email=LEE)
        decided = derive(row(1), free, *sent, account("user_n", shown(200, LEE, created=200)))
        assert (account_of(decided, 1), decided.closed) == ("user_n", {id_of(8)})
        assert decided.accepted == {id_of(9)}

    def test_a_link_by_an_invitation_accepts_that_one_alone(self):
        one = row(1, **linked("user_n", LinkedBy.INVITATION, since=100))
        came = account("user_n", shown(200, created=200))
        assert derive(one, came, invited(9), invited(8, sent=50)).accepted == {id_of(9)}
        revoked = invited(8, sent=50, status=InvitationStatus.REVOKED)
        assert derive(one, came, invited(9), revoked).accepted == {id_of(9)}

    @pytest.mark.parametrize(("since", "closed"), [(99, False), (100, False), (101, True)])
    def test_a_later_decision_closes_it(self, since, closed):
        free = row(1, linked_by=STAFF, linked_since=at(since))
        assert self.ends(invited(9, email=EVE), free) == (False, closed)
        expired = invited(9, email=EVE, status=InvitationStatus.EXPIRED)
        assert self.ends(expired, free) == (False, False)

    def test_a_new_account_is_no_longer_wanted_once_the_row_has_one(self):
        decided = mine(to="user_o", linked_since=at(50))
        old = account("user_o", shown(10))
        assert self.ends(invited(9, email=EVE), decided, old) == (False, True)
        unknown = row(1, **linked("user_x", since=50))
        assert self.ends(invited(9, email=EVE), unknown) == (False, True)
        may_move = row(1, **linked("user_o"))
        assert self.ends(invited(9, email=EVE), may_move, old) == (False, False)
        assert self.ends(invited(9, email=EVE), replace(may_move, touched=True), old) == (
            False,
            True,
        )

    @pytest.mark.parametrize(
        ("since", "closed"), [(99, False), (100, False), (101, True), (None, False)]
    )
    def test_an_email_that_changed_since_closes_it(self, since, closed):
        own_since = None if since is None else at(since)
        change = invited(9, email=EVE, purpose=EMAIL_CHANGE)
        linked_row = mine(to="user_o", own_email_since=own_since, linked_since=at(50))
        assert self.ends(change, linked_row, account("user_o", shown(10))) == (False, closed)
        free = row(1, own_email_since=own_since)
        assert self.ends(invited(9, email=EVE), free) == (False, closed)
        assert self.ends(invited(9), free) == (False, False)


class TestLimits:
    def test_a_time_far_ahead_gives_way_to_that_of_the_observation(self):
        from users.clerk import ClerkUser
        from users.sync.inbound import facts

        for ahead, kept in ((AHEAD, AHEAD), (AHEAD + timedelta(seconds=1), timedelta(0))):
            user = ClerkUser(id="user_a", updated_at=NOW + ahead)
            assert (
                facts.of_user(user, observed_at=NOW).snapshot.value["clerk_updated_at"]
                == NOW + kept
            )

    def test_an_email_that_no_column_holds_is_not_taken(self):
        fits = "x" * (LONGEST_EMAIL - len("@example.com")) + "@example.com"
        assert shown(10, fits).email.value == fits
        assert shown(10, "x" + fits).email.value is None

    def test_the_newest_names_are_kept(self):
        names = [f"Name {99 - number}" for number in range(MOST_NAMES + 2)]
        one = account("user_a", *(shown(minute, name=name) for minute, name in enumerate(names)))
        assert set(one.facts.names) == set(names[2:])
