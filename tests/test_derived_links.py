"""Which account belongs to which row, derived in memory from what is known."""

from __future__ import annotations

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
    link_of,
    linked,
    not_found,
    row,
    shown,
)  # fmt: skip
from users.models import Invitation, InvitationStatus, LinkedBy, Role
from users.sync.inbound.group import DecidedLink
from users.sync.inbound.links import MOVES_WITHIN

EMAIL_CHANGE = Invitation.Purpose.EMAIL_CHANGE


class TestClaims:
    def test_the_first_holder_of_the_verified_address_gets_the_row(self):
        decided = derive(
            row(1), account("user_b", shown(30)), account("user_a", shown(10), shown(20, LEE))
        )
        end = decided.rows[id_of(1)]
        assert link_of(decided) == ("user_a", LinkedBy.ADDRESS, at(10))
        assert (end.linked_at, end.agreed_name, end.agreed_email) == (NOW, "Ann Lee", LEE)

    def test_of_two_at_the_same_time_the_smaller_id_gets_it(self):
        assert (
            account_of(derive(row(1), *(account(f"user_{x}", shown(10)) for x in "ab"))) == "user_a"
        )

    def test_a_claim_begins_when_the_row_has_its_address(self):
        decided = derive(row(1, own_email_since=at(50)), account("user_a", shown(10), shown(60)))
        assert link_of(decided) == ("user_a", LinkedBy.ADDRESS, at(50))

    def test_an_address_that_is_still_held_counts_although_it_was_seen_earlier_only(self):
        assert (
            account_of(derive(row(1, own_email_since=at(50)), account("user_a", shown(10))))
            == "user_a"
        )

    @pytest.mark.parametrize(("last", "gets"), [(49, None), (50, "user_a"), (51, "user_a")])
    def test_who_left_the_address_before_the_row_had_it_gets_nothing(self, last, gets):
        left = account("user_a", shown(10), shown(last), shown(60, LEE))
        assert account_of(derive(row(1, own_email_since=at(50)), left)) == gets

    @pytest.mark.parametrize(
        "one",
        [
            account("user_a", shown(10, verified=False)),
            account("user_a", shown(10, banned=True)),
            account("user_a", shown(10), deleted(20)),
            account("user_a", shown(10), not_found(20)),
            account("user_a", shown(10), released=True),
            account("user_a", shown(10, LEE)),
        ],
        ids=["unverified", "banned", "deleted", "not found", "released", "another address"],
    )
    def test_such_an_account_gets_no_row(self, one):
        assert link_of(derive(row(1), one)) == (None, "", None)

    def test_a_row_of_unknown_age_gets_no_account(self):
        decided = derive(row(1, own_email_since=None), account("user_a", shown(10)))
        assert account_of(decided) is None

    def test_a_busy_row_stays_as_it_is(self):
        busy = row(1, busy=True)
        assert derive(busy, account("user_a", shown(10))).rows[id_of(1)] == busy

    def test_one_account_gets_one_row(self):
        one = account("user_a", shown(10, LEE), shown(20, ANN))
        decided = derive(row(1, ANN), row(2, LEE, "Bo"), one)
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_a")

    def test_one_row_gets_one_account_and_the_other_row_the_next(self):
        one = account("user_a", shown(10, ANN), shown(12, LEE), shown(30, EVE))
        other = account("user_b", shown(20, LEE))
        decided = derive(row(1, ANN), row(2, LEE, "Bo"), one, other)
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_a", "user_b")

    def test_an_account_that_staff_linked_is_no_other_rows(self):
        mine = row(2, EVE, **linked("user_a", LinkedBy.STAFF, agreed_email=EVE))
        decided = derive(row(1), mine, account("user_a", shown(10)))
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_a")

    def test_the_account_of_our_own_create_comes_before_an_earlier_holder(self):
        ours = account("user_b", shown(30, claims=1))
        earlier = account("user_a", shown(10), shown(20, LEE))
        decided = derive(row(1, created_here=True), ours, earlier)
        assert link_of(decided) == ("user_b", LinkedBy.ADDRESS, NOW)
        assert account_of(derive(row(1), ours, earlier)) == "user_a"
        other = account("user_b", shown(30, claims=2))
        assert account_of(derive(row(1, created_here=True), other, earlier)) == "user_a"
        elsewhere = account("user_b", shown(30, LEE, claims=1))
        assert account_of(derive(row(1, created_here=True), elsewhere, earlier)) == "user_a"

    def test_the_name_is_agreed_if_the_account_ever_had_it(self):
        one = account("user_a", shown(10, name="Ann Lee"), shown(20, name="Ann Kay"))
        end = derive(row(1), one).rows[id_of(1)]
        assert (end.name, end.agreed_name) == ("Ann Kay", "Ann Kay")
        end = derive(row(1), account("user_a", shown(20, name="Ann Kay"))).rows[id_of(1)]
        assert (end.name, end.agreed_name) == ("Ann Lee", None)


class TestSharedAddresses:
    def test_of_two_rows_the_one_that_got_the_address_last_is_meant(self):
        first = row(1, LEE, own_email=ANN)
        last = row(2, ANN, "Bo", own_email_since=at(5))
        decided = derive(first, last, account("user_a", shown(10)))
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_a")

    def test_if_both_got_it_together_none_is_meant(self):
        decided = derive(row(1, LEE, own_email=ANN), row(2, ANN), account("user_a", shown(10)))
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, None)

    def test_if_both_have_it_now_none_is_meant(self):
        pair = row(1, ANN), row(2, "Ann@example.com", own_email_since=at(5), own_email=ANN)
        decided = derive(*pair, account("user_a", shown(10)))
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, None)

    def test_a_row_of_unknown_age_counts_as_the_last(self):
        first, last = row(1, LEE, own_email=ANN, own_email_since=None), row(2, ANN)
        assert account_of(derive(first, last, account("user_a", shown(10))), 2) is None


class TestMoving:
    """A link by address is an hour old, and another account had the address earlier."""

    earlier = account("user_a", shown(10), shown(20, LEE))

    def moved(
        self, now=NOW, one=None, by=LinkedBy.ADDRESS, name="Ann Lee", role=Role.BUILDER, **fields
    ):
        mine = row(1, name=name, role=role, **linked("user_b", by), **fields)
        return account_of(derive(mine, one or account("user_b", shown(30)), self.earlier, now=now))

    def test_it_moves_to_the_earlier_one(self):
        assert self.moved() == "user_a"

    @pytest.mark.parametrize("by", [LinkedBy.STAFF, LinkedBy.INHERITED, LinkedBy.INVITATION])
    def test_a_decision_stays(self, by):
        assert self.moved(by=by) == "user_b"

    def test_an_administrator_stays(self):
        assert self.moved(role=Role.ADMIN) == "user_b"

    def test_staff_acted_on_it(self):
        assert self.moved(touched=True) == "user_b"

    def test_the_row_was_renamed(self):
        assert self.moved(name="Ann Other") == "user_b"

    def test_the_row_got_another_email(self):
        mine = row(1, EVE, own_email=ANN, **linked("user_b"))
        assert account_of(derive(mine, account("user_b", shown(30)), self.earlier)) == "user_b"

    def test_values_that_never_agreed_do_not_hold_it(self):
        mine = replace(row(1, **linked("user_b")), agreed_name=None, agreed_email=None)
        assert account_of(derive(mine, account("user_b", shown(30)), self.earlier)) == "user_a"

    @pytest.mark.parametrize(
        ("late", "end"), [(timedelta(0), "user_a"), (timedelta(seconds=1), "user_b")]
    )
    def test_it_moves_for_28_hours(self, late, end):
        assert self.moved(now=at(540) + MOVES_WITHIN + late) == end
        assert timedelta(hours=28) == MOVES_WITHIN

    @pytest.mark.parametrize(("minute", "end"), [(539, "user_a"), (540, "user_b"), (541, "user_b")])
    def test_somebody_signed_in_with_it(self, minute, end):
        assert self.moved(one=account("user_b", shown(30, signed_in=minute))) == end

    def test_sign_ins_of_an_account_that_is_gone_do_not_count(self):
        gone = account("user_b", shown(30, signed_in=550), deleted(560))
        assert self.moved(one=gone) == "user_a"

    def test_a_link_of_unknown_time_stays(self):
        mine = replace(row(1, **linked("user_b")), linked_at=None)
        assert account_of(derive(mine, account("user_b", shown(30)), self.earlier)) == "user_b"

    @pytest.mark.parametrize(("other", "end"), [("user_a", "user_a"), ("user_c", "user_b")])
    def test_of_two_equal_claims_the_smaller_id_has_it(self, other, end):
        mine = row(1, **linked("user_b"))
        decided = derive(mine, account("user_b", shown(30)), account(other, shown(30)))
        assert account_of(decided) == end

    def test_a_later_claim_changes_nothing(self):
        decided = derive(
            row(1, **linked("user_b")), account("user_b", shown(30)), account("user_a", shown(40))
        )
        assert link_of(decided) == ("user_b", LinkedBy.ADDRESS, at(30))

    def test_a_link_without_a_time_keeps_its_account(self):
        mine = row(1, **linked("user_b", since=None))
        decided = derive(mine, account("user_b", shown(30)), self.earlier)
        assert account_of(decided) == "user_a"

    def test_a_link_is_dated_by_the_first_claim_of_its_account(self):
        one = account("user_b", shown(20), shown(30))
        assert link_of(derive(row(1, **linked("user_b")), one))[2] == at(20)
        assert link_of(derive(row(1, busy=True, **linked("user_b")), one))[2] == at(30)
        assert link_of(derive(row(1, **linked("user_b", LinkedBy.STAFF)), one))[2] == at(30)
        assert link_of(derive(row(1, **linked("user_b", since=None)), one))[2] is None

    def test_a_claim_stands_although_its_row_has_another_address_now(self):
        first = row(1, EVE, own_email_since=at(50), **linked("user_b", agreed_email=None))
        decided = derive(first, row(2, ANN, own_email_since=at(40)), account("user_b", shown(30)))
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_b", None)

    def test_each_link_is_dated_whatever_the_others_are(self):
        decided = derive(
            row(1, LEE, own_email=LEE, **linked("user_a", LinkedBy.STAFF)),
            row(2, **linked("user_b")),
            account("user_a", shown(30, LEE)),
            account("user_b", shown(20), shown(30)),
        )
        assert link_of(decided, 2)[2] == at(20)

    def test_the_row_forgets_what_came_from_the_account_that_it_loses(self):
        mine = row(1, name="Ann Kay", own_name="Ann Lee", **linked("user_b", agreed_name="Ann Kay"))
        end = derive(mine, account("user_b", shown(30)), self.earlier).rows[id_of(1)]
        assert (end.clerk_id, end.name, end.agreed_name) == ("user_a", "Ann Lee", "Ann Lee")
        assert end.decided_link is None

    def test_an_account_whose_last_answer_was_not_found_keeps_its_row(self):
        one = account("user_b", shown(30), not_found(40))
        assert account_of(derive(row(1, **linked("user_b")), one)) == "user_b"


class TestUndoing:
    @pytest.mark.parametrize(
        "one",
        [
            account("user_b", shown(30), shown(40, banned=True)),
            account("user_b", shown(30), deleted(40)),
            account("user_b", shown(30), released=True),
        ],
        ids=["banned", "deleted", "released"],
    )
    def test_a_link_by_address_to_an_account_that_is_gone_is_undone(self, one):
        mine = row(1, name="Ann Kay", own_name="Ann Lee", **linked("user_b", agreed_name="Ann Kay"))
        end = derive(mine, one).rows[id_of(1)]
        assert replace(end, note="", agreed_email_version="") == row(1)

    def test_it_is_undone_although_another_row_is_decided(self):
        decided = derive(
            row(1, LEE, **linked("user_a", LinkedBy.STAFF, agreed_email=LEE)),
            row(2, **linked("user_b")),
            account("user_a", shown(30, LEE)),
            account("user_b", shown(30), deleted(40)),
        )
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_a", None)

    @pytest.mark.parametrize(
        "fields", [{"touched": True}, {"busy": True}, {"linked_by": LinkedBy.STAFF}]
    )
    def test_a_link_that_somebody_relied_on_stays(self, fields):
        mine = row(1, **(linked("user_b") | fields))
        assert account_of(derive(mine, account("user_b", shown(30), deleted(40)))) == "user_b"

    def test_a_link_to_an_account_that_is_not_known_yet_stays(self):
        assert account_of(derive(row(1, **linked("user_b")))) == "user_b"

    @pytest.mark.parametrize(("since", "end"), [(25, None), (30, None), (31, "user_b")])
    def test_a_link_whose_claim_was_not_true_is_undone(self, since, end):
        """The account left the address before the row got it, as was learned since."""
        left = account("user_b", shown(10), shown(20, LEE))
        mine = row(1, own_email_since=at(since), **linked("user_b"))
        assert account_of(derive(mine, left)) == end

    def test_a_link_of_a_row_of_unknown_age_stays(self):
        left = account("user_b", shown(10), shown(20, LEE))
        mine = row(1, own_email_since=None, **linked("user_b"))
        assert account_of(derive(mine, left)) == "user_b"

    decided = DecidedLink("user_d", LinkedBy.STAFF, at(5), "Ann Lee", "1", ANN, "2")

    def test_the_decided_account_that_lives_after_all_is_restored(self):
        mine = row(1, **linked("user_b", decided_link=self.decided))
        again = account("user_d", shown(5), deleted(20), shown(35, answer=True))
        end = derive(mine, account("user_b", shown(30)), again).rows[id_of(1)]
        assert (end.clerk_id, end.linked_by, end.linked_since) == ("user_d", LinkedBy.STAFF, at(5))
        assert (end.linked_at, end.decided_link) == (None, None)
        assert (end.agreed_name, end.agreed_name_version) == ("Ann Lee", "1")
        assert end.agreed_email == ANN

    @pytest.mark.parametrize(
        "decided",
        [account("user_d", shown(5), deleted(20)), account("user_d", shown(5), released=True)],
        ids=["deleted", "released"],
    )
    def test_a_decided_account_that_is_gone_takes_nothing_back(self, decided):
        mine = row(1, **linked("user_b", decided_link=self.decided))
        assert account_of(derive(mine, account("user_b", shown(30)), decided)) == "user_b"

    def test_if_both_are_gone_the_decided_one_is_restored(self):
        mine = row(1, **linked("user_b", decided_link=self.decided))
        both = account("user_b", shown(30), deleted(40)), account("user_d", shown(5), deleted(20))
        assert link_of(derive(mine, *both)) == ("user_d", LinkedBy.STAFF, at(5))

    def test_a_decided_account_that_another_row_has_is_not_restored(self):
        mine = row(1, **linked("user_b", decided_link=self.decided))
        other = row(2, LEE, **linked("user_d", LinkedBy.STAFF, agreed_email=LEE))
        living = account("user_d", shown(5, LEE))
        decided = derive(mine, other, account("user_b", shown(30), deleted(40)), living)
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_d")

    def test_the_decision_for_no_account_is_kept(self):
        none = DecidedLink(None, LinkedBy.STAFF, at(5), None, "", None, "")
        mine = row(1, **linked("user_b", decided_link=none))
        end = derive(mine, account("user_b", shown(30), deleted(40))).rows[id_of(1)]
        assert (end.clerk_id, end.linked_by, end.linked_since) == (None, LinkedBy.STAFF, at(5))
        assert end.decided_link is None


class TestDecidedAndDeleted:
    """An account that a person chose is deleted, and its person has another one."""

    new = account("user_b", shown(50))
    old = account("user_a", shown(10), deleted(40))

    def test_the_row_gets_the_living_one_and_remembers_the_decision(self):
        mine = row(1, **linked("user_a", LinkedBy.STAFF))
        end = derive(mine, self.old, self.new).rows[id_of(1)]
        assert (end.clerk_id, end.linked_by, end.linked_since) == (
            "user_b",
            LinkedBy.ADDRESS,
            at(50),
        )
        assert end.decided_link == DecidedLink(
            "user_a", LinkedBy.STAFF, at(30), "Ann Lee", "", ANN, ""
        )

    def test_an_own_name_is_restored_as_agreed_only_if_both_agreed(self):
        mine = row(1, name="Ann Kay", **linked("user_a", LinkedBy.STAFF))
        kept = derive(mine, self.old, self.new).rows[id_of(1)].decided_link
        assert kept is not None
        assert kept.agreed_name == "Ann Lee"
        mine = replace(mine, agreed_name=None, agreed_email=None)
        kept = derive(mine, self.old, self.new).rows[id_of(1)].decided_link
        assert kept is not None
        assert (kept.agreed_name, kept.agreed_email) == (None, None)

    def test_values_that_came_from_the_account_are_restored_as_the_rows_own(self):
        followed = {"agreed_name": "Ann Kay", "agreed_email": LEE, "own_name": "Ann Lee"}
        mine = row(
            1, LEE, "Ann Kay", **(linked("user_a", LinkedBy.STAFF) | followed), own_email=ANN
        )
        kept = derive(mine, self.old, self.new).rows[id_of(1)].decided_link
        assert kept is not None
        assert (kept.agreed_name, kept.agreed_email) == ("Ann Lee", ANN)

    def test_values_that_were_changed_here_are_not(self):
        fields = linked("user_a", LinkedBy.STAFF) | {"agreed_email": EVE}
        kept = (
            derive(row(1, name="Ann Kay", **fields), self.old, self.new).rows[id_of(1)].decided_link
        )
        assert kept is not None
        assert (kept.agreed_name, kept.agreed_email) == ("Ann Lee", EVE)
        fields = linked("user_a", LinkedBy.STAFF) | {"agreed_name": None}
        kept = derive(row(1, name="", **fields), self.old, self.new).rows[id_of(1)].decided_link
        assert kept is not None
        assert kept.agreed_name is None

    def test_a_decided_row_that_loses_its_account_keeps_its_name(self):
        """Its account accepted the invitation of another row, and was deleted."""
        fields = linked("user_n", LinkedBy.INVITATION, since=50, agreed_name="Ann Kay")
        other = row(
            2,
            EVE,
            "Ann Kay",
            own_name="Ann Lee",
            **(fields | {"agreed_email": EVE, "linked_at": at(540)}),
        )
        came = account("user_n", shown(40, EVE), shown(200, accepted=9), deleted(300))
        decided = derive(row(1), other, invited(9), came)
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_n", None)
        assert decided.rows[id_of(2)].name == "Ann Kay"

    def test_an_administrator_waits_for_a_person(self):
        mine = row(1, role=Role.ADMIN, **linked("user_a", LinkedBy.STAFF))
        assert account_of(derive(mine, self.old, self.new)) == "user_a"

    def test_a_banned_one_is_not_replaced(self):
        mine = row(1, **linked("user_a", LinkedBy.STAFF))
        banned = account("user_a", shown(10), shown(40, banned=True))
        assert account_of(derive(mine, banned, self.new)) == "user_a"

    def test_a_link_by_address_that_somebody_relied_on_is_remembered_as_well(self):
        mine = row(1, touched=True, **linked("user_a"))
        end = derive(mine, self.old, self.new).rows[id_of(1)]
        assert end.clerk_id == "user_b"
        assert end.decided_link is not None
        assert end.decided_link.clerk_id == "user_a"

    def test_one_that_nobody_relied_on_is_forgotten(self):
        end = derive(row(1, **linked("user_a")), self.old, self.new).rows[id_of(1)]
        assert (end.clerk_id, end.decided_link) == ("user_b", None)

    def test_the_first_decision_is_remembered_over_two_accounts(self):
        decided = DecidedLink("user_d", LinkedBy.STAFF, at(5), "Ann Lee", "", ANN, "")
        gone = account("user_d", shown(5), deleted(8))
        mine = row(1, **linked("user_a", decided_link=decided))
        end = derive(mine, gone, self.old, self.new).rows[id_of(1)]
        assert (end.clerk_id, end.decided_link) == ("user_b", decided)

    @pytest.mark.parametrize(
        ("first", "gets"),
        [
            (account("user_a", shown(10), deleted(40)), None),
            (account("user_a", shown(10), shown(40, banned=True)), None),
            (account("user_a", shown(10), deleted(40), released=True), "user_b"),
            (account("user_a", shown(60), deleted(70)), "user_b"),
        ],
        ids=["deleted", "banned", "released", "later"],
    )
    def test_an_administrators_row_waits_if_its_first_account_is_gone(self, first, gets):
        assert account_of(derive(row(1, role=Role.ADMIN), first, self.new)) == gets
        assert account_of(derive(row(1), first, self.new)) == "user_b"


class TestInvitations:
    came = account("user_n", shown(200, accepted=9, created=200))

    def test_who_accepted_gets_the_row(self):
        decided = derive(row(1), invited(9), self.came)
        assert link_of(decided) == ("user_n", LinkedBy.INVITATION, at(100))
        assert decided.accepted == {id_of(9)}
        assert decided.rows[id_of(1)].decided_link is None

    def test_the_address_of_the_invitation_becomes_the_rows_own(self):
        one = invited(9, email=LEE, purpose=EMAIL_CHANGE)
        came = account("user_n", shown(200, LEE, accepted=9))
        end = derive(row(1, **linked("user_o", LinkedBy.STAFF)), one, came,
                     account("user_o", shown(10))).rows[id_of(1)]  # fmt: skip
        assert (end.clerk_id, end.email, end.own_email, end.own_email_since) == (
            "user_n", LEE, LEE, at(100)
        )  # fmt: skip

    def test_the_same_address_stays_the_rows_own_since_it_had_it(self):
        assert derive(row(1), invited(9), self.came).rows[id_of(1)].own_email_since == at(0)

    @pytest.mark.parametrize(
        ("status", "gets"),
        [
            (InvitationStatus.PENDING, "user_n"),
            (InvitationStatus.EXPIRED, "user_n"),
            (InvitationStatus.ACCEPTED, "user_n"),
            (InvitationStatus.WAITING, None),
            (InvitationStatus.REVOKED, None),
            (InvitationStatus.REFUSED, None),
        ],
    )
    def test_only_one_that_was_sent_and_not_taken_back_counts(self, status, gets):
        one = invited(9, email=LEE, status=status)
        decided = derive(row(1), one, account("user_n", shown(200, LEE, accepted=9)))
        assert account_of(decided) == gets

    def test_the_address_must_have_been_verified(self):
        for came in (shown(200, LEE, accepted=9), shown(200, verified=False, accepted=9)):
            assert account_of(derive(row(1), invited(9), account("user_n", came))) is None

    def test_it_counts_if_the_account_left_the_address_since(self):
        came = account("user_n", shown(200, accepted=9), shown(300, LEE, accepted=9))
        assert link_of(derive(row(1), invited(9), came))[:2] == ("user_n", LinkedBy.INVITATION)

    def test_it_counts_if_the_account_is_deleted_since(self):
        came = account("user_n", shown(200, accepted=9), deleted(300))
        decided = derive(row(1), invited(9), came)
        assert link_of(decided)[:2] == ("user_n", LinkedBy.INVITATION)

    def test_of_two_the_usable_one_counts_then_the_older_then_the_smaller_id(self):
        def first(*accounts):
            decided = derive(row(1), invited(9), *accounts)
            assert link_of(decided)[1:] == (LinkedBy.INVITATION, at(100))
            return account_of(decided)

        young = account("user_a", shown(300, accepted=9, created=300))
        assert first(young, self.came) == "user_n"
        gone = account("user_n", shown(200, accepted=9, created=200), deleted(210))
        assert first(young, gone) == "user_a"
        unknown = account("user_a", shown(150, accepted=9))
        assert first(unknown, self.came) == "user_n"
        same = account("user_a", shown(200, accepted=9, created=200))
        assert first(same, self.came) == "user_a"

    def test_an_invitation_of_a_row_that_is_gone_links_nobody(self):
        decided = derive(row(1, LEE), invited(9, to=2), self.came)
        assert account_of(decided) is None
        assert decided.accepted == set()

    @pytest.mark.parametrize(
        "mine",
        [row(1, LEE, busy=True), row(1, LEE, role=Role.ADMIN)],
        ids=["busy", "administrator"],
    )
    def test_such_a_row_waits(self, mine):
        assert account_of(derive(mine, invited(9), self.came)) is None

    def test_an_administrator_gets_the_account_if_the_author_may(self):
        decided = derive(row(1, role=Role.ADMIN), invited(9, for_admins=True), self.came)
        assert account_of(decided) == "user_n"

    def test_an_account_that_staff_released_is_not_linked_again(self):
        came = account("user_n", shown(200, accepted=9), released=True)
        assert account_of(derive(row(1), invited(9), came)) is None

    @pytest.mark.parametrize(("decided", "end"), [(99, "user_n"), (100, "user_o"), (101, "user_o")])
    def test_a_later_decision_of_staff_overrules_it(self, decided, end):
        mine = row(1, **linked("user_o", LinkedBy.STAFF, since=decided))
        known = account("user_o", shown(10, EVE)), self.came, invited(9)
        later = derive(mine, *known)
        assert account_of(later) == end
        assert later.replaced == ({"user_o": id_of(1)} if end == "user_n" else {})
        free = row(1, linked_by=LinkedBy.STAFF, linked_since=at(decided))
        by = LinkedBy.INVITATION if end == "user_n" else LinkedBy.ADDRESS
        assert link_of(derive(free, self.came, invited(9)))[:2] == ("user_n", by)

    def test_a_decision_of_unknown_time_overrules_it(self):
        mine = row(1, **linked("user_o", LinkedBy.INHERITED, since=None))
        decided = derive(mine, account("user_o", shown(10, EVE)), self.came, invited(9))
        assert account_of(decided) == "user_o"

    def test_an_account_that_staff_gave_to_another_row_stays_there(self):
        other = row(2, EVE, **linked("user_n", LinkedBy.STAFF, since=300, agreed_email=EVE))
        decided = derive(row(1), other, invited(9), self.came)
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_n")

    def test_an_account_that_another_row_got_by_address_is_taken_from_it(self):
        other = row(2, EVE, own_email=EVE, **linked("user_n", agreed_email=EVE))
        came = account("user_n", shown(150, EVE), shown(200, accepted=9))
        decided = derive(row(1), other, invited(9), came)
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_n", None)

    def test_what_was_linked_by_the_invitation_stays_as_it_is(self):
        mine = row(1, touched=True, **linked("user_n", LinkedBy.INVITATION, since=100))
        decided = derive(mine, invited(9, status=InvitationStatus.ACCEPTED), self.came)
        end = decided.rows[id_of(1)]
        assert (end.linked_at, end.touched, end.linked_since) == (None, True, at(100))

    def test_a_link_by_address_becomes_one_by_the_invitation(self):
        decided = derive(row(1, **linked("user_n", since=200)), invited(9), self.came)
        assert link_of(decided) == ("user_n", LinkedBy.INVITATION, at(100))

    def test_the_account_of_an_older_invitation_is_not_taken_from_another_row(self):
        other = row(2, EVE, own_email=EVE, **linked("user_m", agreed_email=EVE))
        older = account(
            "user_m", shown(20, EVE), shown(90, LEE, accepted=8), shown(95, EVE, accepted=8)
        )
        decided = derive(
            row(1), other, invited(8, email=LEE, sent=50), invited(9), older, self.came
        )
        assert (account_of(decided, 1), account_of(decided, 2)) == ("user_n", "user_m")
        assert decided.replaced == {}

    def test_the_account_before_is_replaced(self):
        mine = row(1, **linked("user_o", LinkedBy.STAFF))
        change = invited(9, email=LEE, purpose=EMAIL_CHANGE)
        came = account("user_n", shown(200, LEE, accepted=9))
        decided = derive(mine, account("user_o", shown(10)), change, came)
        assert account_of(decided) == "user_n"
        assert decided.replaced == {"user_o": id_of(1)}

    def test_only_accounts_of_the_same_row_are_replaced(self):
        """The other row was freed by staff after its invitation was sent."""
        other = row(1, EVE, "Bo", linked_by=LinkedBy.STAFF, linked_since=at(80))
        mine = row(2, **linked("user_o", LinkedBy.STAFF))
        declined = account("user_m", shown(90, LEE, accepted=8))
        decided = derive(other, mine, invited(8, email=LEE, sent=50), invited(9, to=2), declined,
                         account("user_o", shown(10, "old@example.com")), self.came)  # fmt: skip
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, "user_n")
        assert decided.replaced == {"user_o": id_of(2)}

    def test_an_account_that_came_by_address_after_the_invitation_is_not_replaced(self):
        mine = row(1, **linked("user_o", since=150))
        decided = derive(mine, account("user_o", shown(150)), invited(9), self.came)
        assert account_of(decided) == "user_n"
        assert decided.replaced == {}

    @pytest.mark.parametrize(
        ("linked_at", "replaced"),
        [(99, {"user_o": id_of(1)}), (100, {"user_o": id_of(1)}), (101, {})],
    )
    def test_a_link_by_address_before_the_invitation_is_replaced(self, linked_at, replaced):
        mine = replace(row(1, **linked("user_o")), linked_at=at(linked_at))
        decided = derive(mine, account("user_o", shown(30)), invited(9), self.came)
        assert account_of(decided) == "user_n"
        assert decided.replaced == replaced

    def test_a_link_by_address_of_unknown_time_is_replaced(self):
        mine = replace(row(1, **linked("user_o")), linked_at=None)
        decided = derive(mine, account("user_o", shown(30)), invited(9), self.came)
        assert decided.replaced == {"user_o": id_of(1)}

    def test_the_account_of_an_older_invitation_is_replaced(self):
        older = account("user_m", shown(90, LEE, accepted=8))
        decided = derive(row(1), invited(8, email=LEE, sent=50), invited(9), older, self.came)
        assert link_of(decided) == ("user_n", LinkedBy.INVITATION, at(100))
        assert decided.replaced == {"user_m": id_of(1)}
        assert decided.accepted == {id_of(9)}

    def test_a_released_account_is_not_replaced_again(self):
        mine = row(1, **linked("user_o", LinkedBy.STAFF))
        decided = derive(mine, account("user_o", shown(10), released=True), invited(9), self.came)
        assert decided.replaced == {}

    def test_one_that_cannot_be_applied_is_refused_and_its_account_gets_no_row(self):
        """Another row has its address."""
        mine = row(1, LEE, own_email=LEE)
        decided = derive(mine, row(2, ANN, "Bo"), invited(9), self.came)
        assert (account_of(decided, 1), account_of(decided, 2)) == (None, None)
        assert decided.refused == {id_of(9)}


class TestWithoutMetadata:
    """Clerk lost the metadata of an invitation."""

    came = account("user_n", shown(200, LEE, created=200))

    def gets(self, *known, mine=None):
        one = invited(9, email=LEE)
        return account_of(derive(mine or row(1), one, *(known or [self.came])))

    def test_the_account_counts_that_was_made_after_it_with_its_address(self):
        assert self.gets() == "user_n"

    def test_an_administrator_gets_none(self):
        mine = row(1, role=Role.ADMIN)
        decided = derive(mine, invited(9, email=LEE, for_admins=True), self.came)
        assert account_of(decided) is None

    @pytest.mark.parametrize(
        ("created", "gets"), [(99, None), (100, None), (101, "user_n"), (None, None)]
    )
    def test_it_must_be_younger_than_the_invitation(self, created, gets):
        assert self.gets(account("user_n", shown(created or 200, LEE, created=created))) == gets

    def test_it_must_have_the_address_verified(self):
        assert self.gets(account("user_n", shown(200, LEE, created=200, verified=False))) is None

    def test_one_that_came_from_another_invitation_does_not_count(self):
        assert self.gets(account("user_n", shown(200, LEE, created=200, accepted=7))) is None

    @pytest.mark.parametrize(
        ("email", "status", "gets"),
        [
            (LEE, InvitationStatus.PENDING, None),
            (LEE, InvitationStatus.REVOKED, "user_n"),
            (EVE, InvitationStatus.PENDING, "user_n"),
        ],
    )
    def test_another_open_invitation_to_the_address_leaves_it_in_doubt(self, email, status, gets):
        other = invited(8, to=2, email=email, status=status, sent=20)
        assert self.gets(self.came, row(2, EVE, "Bo"), other) == gets

    @pytest.mark.parametrize(
        ("status", "gets"),
        [(InvitationStatus.EXPIRED, None), (InvitationStatus.ACCEPTED, None)],
    )
    def test_it_must_be_open(self, status, gets):
        decided = derive(row(1), invited(9, email=LEE, status=status), self.came)
        assert account_of(decided) == gets

    guessed = row(
        1, LEE, own_email_since=at(100),
        **linked("user_n", LinkedBy.INVITATION, since=100, linked_at=at(540), agreed_email=LEE),
    )  # fmt: skip
    accepted = invited(9, email=LEE, status=InvitationStatus.ACCEPTED)

    def test_the_one_that_names_the_invitation_takes_its_place(self):
        better = account("user_z", shown(300, LEE, created=300, accepted=9))
        decided = derive(self.guessed, self.accepted, self.came, better)
        assert account_of(decided) == "user_z"
        assert decided.replaced == {}

    def test_an_earlier_one_takes_its_place(self):
        earlier = account("user_z", shown(150, LEE, created=150))
        assert account_of(derive(self.guessed, self.accepted, self.came, earlier)) == "user_z"

    def test_a_later_one_does_not(self):
        later = account("user_a", shown(250, LEE, created=250))
        assert account_of(derive(self.guessed, self.accepted, self.came, later)) == "user_n"

    @pytest.mark.parametrize(
        "fields",
        [{"touched": True}, {"linked_at": at(-1200)}, {"linked_by": LinkedBy.STAFF}],
        ids=["relied on", "old", "decided"],
    )
    def test_a_guess_that_somebody_relied_on_stays(self, fields):
        better = account("user_z", shown(300, LEE, created=300, accepted=9))
        mine = replace(self.guessed, **fields)
        decided = derive(mine, self.accepted, self.came, better)
        assert (account_of(decided), decided.replaced) == ("user_n", {})

    def test_what_came_from_another_invitation_is_no_guess(self):
        better = account("user_z", shown(300, LEE, created=300, accepted=9))
        mine = replace(self.guessed, linked_since=at(101))
        assert account_of(derive(mine, self.accepted, self.came, better)) == "user_n"
