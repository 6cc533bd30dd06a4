"""Stories made up by hypothesis: staff, people in Clerk, faults, clocks, events, recovery."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from sandbox.routes import ROUTES
from tests.campaign.world import World
from users.sync import recovery, steps

WHICH = st.integers(0, 4)
WRITES = ["*", *sorted(route for route in ROUTES if route in {
    "POST /users", "PATCH /users/{user_id}", "DELETE /users/{user_id}", "POST /invitations",
    "PUT /users/{user_id}/email_address", "GET /users/{user_id}", "GET /users",
})]  # fmt: skip
QUICK = ["status", "html", "html_200", "broken_json", "unreadable_error", "reset", "close"]
SLOW = ["hang", "delay", "drip"]
STATUSES = [400, 401, 403, 404, 409, 422, 429, 500, 503]
STEPS = 8

_now = timezone.now


class Stories(RuleBasedStateMachine):
    """Every rule judges what was said at once; the end of a story judges both stores."""

    make: ClassVar[Any]
    """Gives a new `World`."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World = type(self).make()
        timezone.now = _now

    @rule(which=WHICH, stale=st.booleans())
    def edit(self, which: int, stale: bool) -> None:
        self.world.edit(which, stale=stale)

    @rule(which=WHICH)
    def edit_again(self, which: int) -> None:
        self.world.edit(which)

    @rule(which=WHICH)
    def regroup(self, which: int) -> None:
        self.world.regroup(which)

    @rule(account=st.sampled_from(["create", "invite", "none"]))
    def create(self, account: str) -> None:
        self.world.create(account)

    @rule(which=WHICH)
    def replace_email(self, which: int) -> None:
        self.world.replace_email(which)

    @rule(which=WHICH)
    def set_password(self, which: int) -> None:
        self.world.set_password(which)

    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        self.world.delete(which)

    @rule(which=WHICH, step=st.sampled_from([steps.AFTER_ATTEMPT, steps.BEFORE_CALL,
                                             steps.AFTER_CALL, steps.BEFORE_COMMIT]))  # fmt: skip
    def edit_while_recovery_runs(self, which: int, step: str) -> None:
        with meanwhile(step):
            self.world.edit(which)

    @rule(which=WHICH)
    def edit_in_clerk(self, which: int) -> None:
        self.world.edit_in_clerk(which)

    @rule(which=WHICH)
    def delete_in_clerk(self, which: int) -> None:
        self.world.delete_in_clerk(which)

    @rule(
        route=st.sampled_from(WRITES), kind=st.sampled_from(QUICK * 3 + SLOW), apply=st.booleans(),
        status=st.sampled_from(STATUSES), times=st.sampled_from([1, 1, 2, None]),
    )  # fmt: skip
    def fault(self, route: str, kind: str, apply: bool, status: int, times: int | None) -> None:
        # A 4xx says that nothing was done; Clerk does not do it all the same.
        apply = apply and not (kind == "status" and status < 500) and kind != "unreadable_error"
        self.world.sandbox.fault(
            route, kind, apply=apply, status=status, times=times, seconds=0.6, retry_after=1
        )

    @rule()
    def clerk_is_well_again(self) -> None:
        self.world.sandbox.clear_faults()

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


@contextmanager
def meanwhile(step: str):
    """Another process recovers everything while a save has come to `step`."""

    def recover_elsewhere(sender: Any, **reached: Any) -> None:
        if reached["step"] == step:
            other = threading.Thread(target=_recover)
            other.start()
            other.join()

    steps.reached.connect(recover_elsewhere)
    try:
        yield
    finally:
        steps.reached.disconnect(recover_elsewhere)


def _recover() -> None:
    try:
        list(recovery.recover_all())
    finally:
        connection.close()


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
