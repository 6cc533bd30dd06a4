"""Stories made up by hypothesis: staff, people in Clerk, faults, clocks, events, recovery."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.campaign import meanwhile
from tests.campaign.world import World
from users.sync.outbound import checkpoints

WHICH = st.integers(0, 4)
WHO = st.sampled_from([0, 1])
ROUTE_OF = {
    "edit": "PATCH /users/{user_id}",
    "ban": "POST /users/{user_id}/ban",
    "unban": "POST /users/{user_id}/unban",
    "replace_email": "PUT /users/{user_id}/email_address",
    "set_password": "PATCH /users/{user_id}",
    "create": "POST /users",
    "invite": "POST /invitations",
    "delete": "DELETE /users/{user_id}",
}
"""What staff do, and the request that tells Clerk."""
DEEDS = st.sampled_from(["edit", "edit", *ROUTE_OF])
ROUTES = ["*", *ROUTE_OF.values(), "GET /users/{user_id}", "GET /users", "GET /instance"]
QUICK = ["status", "html", "html_200", "broken_json", "unreadable_error", "reset", "close",
         "stale", "foreign_4xx"]  # fmt: skip
SLOW = ["hang", "delay", "drip"]
HOWS = st.sampled_from(["status", "status", "close", "close", "hang"])
STATUSES = [400, 401, 403, 404, 409, 422, 429, 500, 503]
STEPS = 10


@st.composite
def faults(draw: Any) -> dict[str, Any]:
    """What `Sandbox.fault` takes beside the route."""
    kind = draw(st.sampled_from(QUICK * 3 + SLOW))
    status, apply = draw(st.sampled_from(STATUSES)), draw(st.booleans())
    # A 4xx that is Clerk's own says that nothing was done, and so it is.
    apply = apply and not (kind == "status" and status < 500)
    if kind == "foreign_4xx" and status >= 500:
        status = 403
    return {
        "kind": kind,
        "status": status,
        "apply": apply,
        "body": draw(st.sampled_from(["html", "json"])),
        "seconds": 0.6,
    }


FAULTS = faults()

_now = timezone.now


class Stories(RuleBasedStateMachine):
    """Every rule judges what was said at once; the end of a story judges both stores."""

    make: ClassVar[Any]
    """Gives a new `World`."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World = type(self).make()
        timezone.now = _now

    @invariant()
    def look(self) -> None:
        self.world.look()

    # --- Staff -------------------------------------------------------------------------------

    @rule(which=WHICH, stale=st.booleans(), grouped=st.booleans(), who=WHO)
    def edit(self, which: int, stale: bool, grouped: bool, who: int) -> None:
        self.world.edit(which, stale=stale, grouped=grouped, who=who)

    @rule(which=WHICH, who=WHO)
    def edit_again(self, which: int, who: int) -> None:
        self.world.edit_again(which, who=who)

    @rule(which=WHICH, stale=st.booleans(), who=WHO)
    def regroup(self, which: int, stale: bool, who: int) -> None:
        self.world.regroup(which, stale=stale, who=who)

    @rule(which=WHICH, deed=DEEDS, who=WHO)
    def act(self, which: int, deed: str, who: int) -> None:
        self.world.act(deed, which, who=who)

    @rule(who=WHO)
    def create_without_account(self, who: int) -> None:
        self.world.create("none", who=who)

    @rule(which=WHICH)
    def use_clerks_version(self, which: int) -> None:
        self.world.use_clerks_version(which)

    @rule(which=WHICH, deed=DEEDS, step=st.sampled_from(
        [checkpoints.AFTER_ATTEMPT, checkpoints.BEFORE_CALL, checkpoints.BEFORE_COMMIT]
    ))  # fmt: skip
    def click_twice(self, which: int, deed: str, step: str) -> None:
        self.world.click_twice(which, deed, step)

    # --- While something is saved ------------------------------------------------------------

    @rule(which=WHICH, deed=st.sampled_from(["edit", "edit", "ban", "unban", "ban", "unban"]),
          step=st.sampled_from([
              checkpoints.AFTER_CALL, checkpoints.AFTER_CALL, checkpoints.AFTER_ATTEMPT,
              checkpoints.BEFORE_CALL, checkpoints.BEFORE_COMMIT,
          ]))  # fmt: skip
    def recovery_runs_meanwhile(self, which: int, deed: str, step: str) -> None:
        self.world.act(deed, which, during=meanwhile.recovery_runs(step))

    @rule(which=WHICH, deed=DEEDS, theirs=DEEDS, step=st.sampled_from(
        [checkpoints.BEFORE_ATTEMPT, checkpoints.AFTER_ATTEMPT,
         checkpoints.BEFORE_CALL, checkpoints.BEFORE_COMMIT]
    ))  # fmt: skip
    def a_colleague_acts_meanwhile(self, which: int, deed: str, theirs: str, step: str) -> None:
        world = self.world
        during = meanwhile.elsewhere(step, lambda: world.act(theirs, which, who=1))
        world.act(deed, which, during=during)

    @rule(which=WHICH, deed=DEEDS, step=st.sampled_from(checkpoints.STEPS),
          then=st.sampled_from(["nothing", "recover", "edit"]))  # fmt: skip
    def the_backend_is_lost(self, which: int, deed: str, step: str, then: str) -> None:
        world = self.world
        work = {
            "nothing": lambda: None,
            "recover": world.recover,
            "edit": lambda: world.edit(which, who=1),
        }[then]
        world.act(deed, which, during=meanwhile.lost_backend(step, then=work))

    # --- Elsewhere ---------------------------------------------------------------------------

    @rule(which=WHICH, deed=st.sampled_from(
        ["edit_in_clerk", "edit_in_clerk", "delete_in_clerk", "regroup_elsewhere"]
    ))  # fmt: skip
    def somebody_else_changes(self, which: int, deed: str) -> None:
        getattr(self.world, deed)(which)

    @rule(fault=FAULTS, route=st.sampled_from(ROUTES), times=st.sampled_from([1, 2, None]))
    def fault(self, fault: dict[str, Any], route: str, times: int | None) -> None:
        self.world.sandbox.fault(route, times=times, **fault)

    @rule(which=WHICH, deed=DEEDS, fault=FAULTS, who=WHO)
    def act_and_meet_a_fault(self, which: int, deed: str, fault: dict[str, Any], who: int) -> None:
        self.world.sandbox.fault(ROUTE_OF[deed], **fault)
        self.world.act(deed, which, who=who)

    @rule(which=WHICH, deed=DEEDS, how=HOWS, recovered=st.booleans())
    def act_and_be_late(self, which: int, deed: str, how: str, recovered: bool) -> None:
        self.world.sandbox.fault(ROUTE_OF[deed], "late", how=how, seconds=None)
        self.world.act(deed, which)
        if recovered:
            self.world.recover()

    @rule(which=WHICH, how=HOWS, regrouped=st.booleans())
    def edit_all_and_be_late(self, which: int, how: str, regrouped: bool) -> None:
        """Name and group are one change: Clerk takes it late, and somebody else has the group."""
        self.world.sandbox.fault(ROUTE_OF["edit"], "late", how=how, seconds=None)
        self.world.edit(which, grouped=True)
        if regrouped:
            self.world.regroup_elsewhere(which)

    @rule(well=st.booleans(), arrive=st.booleans(), minutes=st.sampled_from([0, 0, 0.5, 3, 10]))
    def time_passes(self, well: bool, arrive: bool, minutes: float) -> None:
        """What is under way ends; Clerk may be well again, and minutes may be over."""
        if well:
            self.world.sandbox.clear_faults()
        self.world.time_passes(minutes, arrive=arrive)

    @rule(seconds=st.sampled_from([-7200, -60, 60, 7200]))
    def our_clock_steps(self, seconds: int) -> None:
        timezone.now = lambda: _now() + timedelta(seconds=seconds)

    @rule(seed=st.integers(0, 999), share=st.sampled_from([0.3, 1.0]))
    def events_arrive(self, seed: int, share: float) -> None:
        self.world.deliver(seed, share)

    @rule()
    def recover(self) -> None:
        self.world.recover()

    def teardown(self) -> None:
        try:
            self.world.finish()
        finally:
            timezone.now = _now


def run(make: Any, *, scenarios: int, derandomize: bool = False, shorten: bool = True) -> None:
    """Run that many stories. Raises `Untrue` with a story that ends in one, the shortest."""
    Stories.make = staticmethod(make)
    rules = settings(
        max_examples=scenarios,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=derandomize,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shorten else [Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Stories, settings=rules)
    except FlakyFailure as once:
        # The threads of a story race, so it does not end untrue each time. Once is enough.
        raise once.exceptions[0] from once
