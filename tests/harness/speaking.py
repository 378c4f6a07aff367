"""A workflow and an activity that only log. In a module of their own, since the workflow sandbox imports it anew."""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio import activity, workflow

log = logging.getLogger(__name__)


@activity.defn
async def speak() -> None:
    """Logs from inside an activity."""
    log.info("from the activity")


@workflow.defn(name="archive")
class Speaking:
    """Logs from inside a workflow."""

    @workflow.run
    async def run(self) -> None:
        """See the class."""
        workflow.logger.info("from the workflow")
        await workflow.execute_activity(speak, start_to_close_timeout=timedelta(seconds=30))
