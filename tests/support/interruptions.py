"""Interrupt saves: at a step, by a lock of another process, by a process that died."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from django.db import connection, transaction

from tests.support.factories import SyncAttemptFactory
from tests.support.patience import PATIENCE
from users.models import SyncAttempt
from users.sync.outbound import checkpoints, recovery


@contextmanager
def at_step(step, work):
    """Do `work`, once, when the next save comes to `step`."""
    todo = [work]

    def reached(sender, **fields):
        if fields["step"] == step and todo:
            todo.pop()()

    checkpoints.reached.connect(reached)
    try:
        yield
    finally:
        checkpoints.reached.disconnect(reached)
    assert not todo, f"the save never came to “{step}”"


def in_thread(work):
    """Do `work` as another process would: with a connection of its own."""
    problems = []

    def run():
        try:
            work()
        except BaseException as problem:
            problems.append(problem)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


def lose_backend():
    """The database ends the connection of this process, as a failover does."""
    pid = connection.connection.info.backend_pid

    def end():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

    in_thread(end)


def recover():
    return list(recovery.recover_all())


def the_attempt(**fields):
    return SyncAttempt.objects.get(**fields)


@contextmanager
def elsewhere(work):
    """Another process does `work` in a transaction that stays open meanwhile."""
    done, release = threading.Event(), threading.Event()

    def run():
        with transaction.atomic():
            work()
            done.set()
            release.wait(PATIENCE)
        connection.close()

    other = threading.Thread(target=run)
    other.start()
    try:
        assert done.wait(PATIENCE)
        yield
    finally:
        release.set()
        other.join()


def abandoned(user, *, to="Mary Ann Jones", **fields):
    """The attempt of a save whose process died."""
    return SyncAttemptFactory(
        user=user,
        changes={"name": [user.name, to]},
        details={"clerk_name": user.name, "split": to.rsplit(" ", 1)},
        **fields,
    )
