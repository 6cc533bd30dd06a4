"""Stories made up by hypothesis: staff, people in Clerk, faults, clocks, events, recovery."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.campaign import meanwhile
from tests.campaign.world import World
from users.sync import steps

WHICH = st.integers(0, 4)
WHO = st.sampled_from([0, 1])
DEEDS = st.sampled_from(["edit", "edit", "ban", "replace_email", "set_password", "delete"])
WRITES = ["PATCH /users/{user_id}", "POST /users", "DELETE /users/{user_id}",
          "POST /users/{user_id}/ban", "POST /users/{user_id}/unban", "POST /invitations",
          "PUT /users/{user_id}/email_address"]  # fmt: skip
ROUTES = ["*", *WRITES, "GET /users/{user_id}", "GET /users", "GET /instance"]
QUICK = ["status", "html", "html_200", "broken_json", "unreadable_error", "reset", "close",
         "stale", "foreign_4xx"]  # fmt: skip
SLOW = ["hang", "delay", "drip"]
STATUSES = [400, 401, 403, 404, 409, 422, 429, 500, 503]
STEPS = 10

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

    @rule(account=st.sampled_from(["create", "invite", "none"]), who=WHO)
    def create(self, account: str, who: int) -> None:
        self.world.create(account, who=who)

    @rule(which=WHICH, who=WHO)
    def replace_email(self, which: int, who: int) -> None:
        self.world.replace_email(which, who=who)

    @rule(which=WHICH, who=WHO)
    def set_password(self, which: int, who: int) -> None:
        self.world.set_password(which, who=who)

    @rule(which=WHICH, banned=st.booleans(), who=WHO)
    def ban(self, which: int, banned: bool, who: int) -> None:
        self.world.ban(which, banned, who=who)

    @rule(which=WHICH, who=WHO)
    def delete(self, which: int, who: int) -> None:
        self.world.delete(which, who=who)

    @rule(which=WHICH)
    def use_clerks_version(self, which: int) -> None:
        self.world.use_clerks_version(which)

    @rule(which=WHICH, deed=st.sampled_from(["edit", "create"]),
          step=st.sampled_from([steps.AFTER_ATTEMPT, steps.BEFORE_CALL, steps.BEFORE_COMMIT]))  # fmt: skip
    def click_twice(self, which: int, deed: str, step: str) -> None:
        self.world.click_twice(which, deed, step)

    # --- While something is saved ------------------------------------------------------------

    @rule(which=WHICH, deed=DEEDS, step=st.sampled_from(
        [steps.AFTER_ATTEMPT, steps.BEFORE_CALL, steps.AFTER_CALL, steps.BEFORE_COMMIT]
    ))  # fmt: skip
    def recovery_runs_meanwhile(self, which: int, deed: str, step: str) -> None:
        getattr(self.world, deed)(which, during=meanwhile.recovery_runs(step))

    @rule(which=WHICH, deed=DEEDS, theirs=DEEDS, step=st.sampled_from(
        [steps.BEFORE_ATTEMPT, steps.AFTER_ATTEMPT, steps.BEFORE_CALL, steps.BEFORE_COMMIT]
    ))  # fmt: skip
    def a_colleague_acts_meanwhile(self, which: int, deed: str, theirs: str, step: str) -> None:
        world = self.world
        during = meanwhile.elsewhere(step, lambda: getattr(world, theirs)(which, who=1))
        getattr(world, deed)(which, during=during)

    @rule(which=WHICH, deed=DEEDS, step=st.sampled_from(steps.STEPS),
          then=st.sampled_from(["nothing", "recover", "edit"]))  # fmt: skip
    def the_backend_is_lost(self, which: int, deed: str, step: str, then: str) -> None:
        world = self.world
        work = {
            "nothing": lambda: None,
            "recover": world.recover,
            "edit": lambda: world.edit(which, who=1),
        }[then]
        getattr(world, deed)(which, during=meanwhile.lost_backend(step, then=work))

    # --- Elsewhere ---------------------------------------------------------------------------

    @rule(which=WHICH)
    def edit_in_clerk(self, which: int) -> None:
        self.world.edit_in_clerk(which)

    @rule(which=WHICH)
    def delete_in_clerk(self, which: int) -> None:
        self.world.delete_in_clerk(which)

    @rule(which=WHICH)
    def another_application_regroups(self, which: int) -> None:
        self.world.regroup_elsewhere(which)

    @rule(
        route=st.sampled_from(ROUTES), kind=st.sampled_from(QUICK * 3 + SLOW), apply=st.booleans(),
        status=st.sampled_from(STATUSES), body=st.sampled_from(["html", "json"]),
        times=st.sampled_from([1, 1, 2, None]),
    )  # fmt: skip
    def fault(
        self, route: str, kind: str, apply: bool, status: int, body: str, times: int | None
    ) -> None:
        # A 4xx that is Clerk's own says that nothing was done, and so it is.
        apply = apply and not (kind == "status" and status < 500)
        if kind == "foreign_4xx" and status >= 500:
            status = 403
        self.world.sandbox.fault(
            route, kind, apply=apply, status=status, body=body, times=times, seconds=0.6,
            retry_after=1,
        )  # fmt: skip

    @rule(route=st.sampled_from(WRITES),
          how=st.sampled_from(["status", "status", "close", "close", "hang"]))  # fmt: skip
    def the_next_request_is_late(self, route: str, how: str) -> None:
        self.world.sandbox.fault(route, "late", how=how, seconds=None)

    @rule(arrive=st.booleans())
    def late_requests_end(self, arrive: bool) -> None:
        self.world.late_requests_end(arrive=arrive)

    @rule()
    def clerk_is_well_again(self) -> None:
        self.world.sandbox.clear_faults()

    @rule(minutes=st.sampled_from([0.5, 3, 10]), arrive=st.booleans())
    def time_passes(self, minutes: float, arrive: bool) -> None:
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
    run_state_machine_as_test(
        Stories,
        settings=settings(
            max_examples=scenarios,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=derandomize,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink] if shorten else [Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
