"""Background jobs on the same PostgreSQL (procrastinate). Each makes one call into `users.sync`.

`manage.py procrastinate worker` runs them. Each job finds its work in the tables, so a lost job
does no harm: the next one does the same work. No job has a `lock`: a killed worker leaves its
job in the status "doing", and that job would hold the lock for ever (procrastinate issues 1408
and 1446).
"""

from __future__ import annotations

import logging

from procrastinate.contrib.django import app
from procrastinate.jobs import Status

from users import throttle
from users.sync import alerts, maintenance, retention
from users.sync.bulk import background, control, nightly
from users.sync.inbound import deliveries
from users.sync.mirror import newest

logger = logging.getLogger(__name__)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="upkeep")
def run_upkeep(timestamp: int) -> None:
    """Run maintenance every minute, and log what it did.

    The queueing lock keeps jobs from piling up behind a slow one.
    """
    report = maintenance.run()
    if report.notes:  # they name people; the journal and the accounts have them
        logger.info("%s things were done or need people", len(report.notes))
    if report.left:
        logger.warning("%s changes or events are still unfinished", report.left)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="mirror")
def keep_mirror_current(timestamp: int) -> None:
    """Start the nightly scan and the check for missed events when they are due.

    This runs every minute; the tables say what is due. A scan may take longer than a minute. The
    next jobs then see that it is still running.
    """
    nightly.scan_if_due()  # first: an empty mirror does not mean that events are missing
    newest.look_if_due()


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="bulk")
def carry_out_bulk_run(timestamp: int) -> None:
    """Carry out the runs that were started on the pages. The pages wake the worker for this.

    A run may take much longer than a minute. The next jobs then see that it is at work.
    """
    background.carry_out_queued()


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="alerts")
def mail_alerts(timestamp: int) -> None:
    """Mail what needs people, every minute. It is a job of its own: the others may be slow."""
    alerts.check()


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="forget")
def forget_old_deliveries(timestamp: int) -> None:
    """Delete old webhook deliveries, once a night."""
    deliveries.forget_old()


@app.periodic(cron="23 3 * * *")
@app.task(queueing_lock="plans")
def forget_unstarted_plans(timestamp: int) -> None:
    """Delete plans of the pages that nobody has started, once a night."""
    control.forget_unstarted()


@app.periodic(cron="31 3 * * *")
@app.task(queueing_lock="erase")
def erase_old_names(timestamp: int) -> None:
    """Erase names and addresses that are older than KEEP_MONTHS, once a night."""
    retention.erase_old()


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="api_use")
def forget_old_counts(timestamp: int) -> None:
    """Delete expired counts of API requests, every ten minutes."""
    throttle.forget_old()


@app.periodic(cron="23 * * * *")
@app.task(queueing_lock="stalled")
async def end_stalled_jobs(timestamp: int) -> None:
    """Delete the jobs of killed workers, once an hour.

    Later jobs find the same work in the tables.
    """
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
