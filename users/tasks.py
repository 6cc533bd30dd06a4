"""Background jobs on the same PostgreSQL (procrastinate): each is one call into `users.sync`.

Run by `manage.py procrastinate worker`. What they do is found in the tables, so a job that is
lost is no loss: the next one does it. No job has a `lock`: one that a killed worker left
"doing" would hold it for ever (procrastinate issues 1408, 1446).
"""

from __future__ import annotations

import logging

from procrastinate.contrib.django import app
from procrastinate.jobs import Status

from users import throttle
from users.sync import maintenance
from users.sync.bulk import nightly
from users.sync.inbound import deliveries
from users.sync.mirror import newest

logger = logging.getLogger(__name__)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="upkeep")
def run_upkeep(timestamp: int) -> None:
    """Every minute; none piles up behind a slow one."""
    report = maintenance.run()
    for note in report.notes:
        logger.info("%s", note)
    if report.left:
        logger.warning("%s changes or events are still unfinished", report.left)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="mirror")
def keep_mirror_current(timestamp: int) -> None:
    """Every minute, and the tables say what is due: the nightly scan, the hourly look. A scan may
    take longer than a minute; the next jobs find it at work."""
    nightly.scan_if_due()  # first: an empty copy does not mean that events are missing
    newest.look_if_due()


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="forget")
def forget_old_deliveries(timestamp: int) -> None:
    deliveries.forget_old()


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="api_use")
def forget_old_counts(timestamp: int) -> None:
    throttle.forget_old()


@app.periodic(cron="23 * * * *")
@app.task(queueing_lock="stalled")
async def end_stalled_jobs(timestamp: int) -> None:
    """Jobs of workers that were killed; what they did is found again in the tables."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
