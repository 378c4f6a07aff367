"""The control worker: workflows and control activities of one place, and the leases of its movers.

Leases run in a Worker object of their own, whose slots are the limit of movers: in the common one they would starve
the control activities. It holds no state of its own; start as many as you like.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.control.archive_object import ArchiveObjectActivities
from activities.control.claim import ClaimActivities
from activities.control.inspection import InspectionActivities
from activities.control.lease import LeaseActivities
from activities.control.purge import PurgeActivities
from activities.control.services import Services
from activities.control.volumes import VolumeActivities
from activities.dataplane.archiver import check_version
from activities.objectstore.identity import check_capabilities
from activities.runtime.heartbeats import SteadyHeartbeats
from codehub_storage.client import connect
from codehub_storage.errors import StorageError
from codehub_storage.keys import movers_queue, storage_queue
from worker.logging import configure
from worker.readiness import ReadyFile, new_identity
from worker.registration import ensure_search_attributes, workflow_options
from worker.settings import Settings
from worker.version import service_version
from worker.wiring import open_services
from workflows import policies

log = logging.getLogger(__name__)

HEARTBEAT_THROTTLE = timedelta(seconds=0.5)
"""Minimum time between two heartbeats. So it is also the maximum time after which a cancel comes in."""
STICKY = timedelta(seconds=10)
"""How long a run's next step waits for the worker that has the run in memory. Then any worker takes it."""
GRACE = timedelta(seconds=10)


def control_worker(client: Client, services: Services) -> Worker:
    """Workflows and control activities of one place."""
    records, looks, volumes = ClaimActivities(services), InspectionActivities(services), VolumeActivities(services)
    archives, purges = ArchiveObjectActivities(services), PurgeActivities(services)
    return Worker(
        client,
        build_id=service_version(),
        task_queue=storage_queue(services.place),
        activities=[
            records.claim,
            records.release,
            looks.inspect_for_provision,
            looks.inspect_for_archive,
            looks.inspect_after_cancel,
            looks.inspect_for_restore,
            volumes.announce_volume,
            volumes.create_volume,
            volumes.hand_out_volume,
            volumes.abandon_volume,
            volumes.mark_archived,
            volumes.mark_ready_again,
            volumes.delete_volume,
            volumes.detach_mover,
            archives.begin_archive,
            archives.complete_archive,
            archives.sync_store,
            archives.prove_again,
            archives.prune_archive,
            archives.abort_archive,
            purges.inspect_for_purge,
            purges.purge_archive,
            purges.purge_volume,
            purges.confirm_purge,
        ],
        interceptors=[SteadyHeartbeats()],
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        sticky_queue_schedule_to_start_timeout=STICKY * services.time_scale,
        **workflow_options(),
    )


def lease_worker(client: Client, services: Services, max_movers: int) -> Worker:
    """The leases of the place's movers; ``max_movers`` at a time in this process."""
    return Worker(
        client,
        build_id=service_version(),
        task_queue=movers_queue(services.place),
        activities=[LeaseActivities(services).hold_mover],
        interceptors=[SteadyHeartbeats()],
        max_concurrent_activities=max_movers,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
    )


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run both workers until ``stop``, or until one of them fails; then hand the work back."""
    policies.configure(settings.time_scale)
    ready_file = ReadyFile(settings.ready_file) if settings.ready_file is not None else None
    if ready_file is not None:
        ready_file.withdraw()
    await check_version(service_version())
    async with open_services(settings) as services:
        client = await connect(**settings.temporal_connect_config(), identity=new_identity())
        await ensure_search_attributes(client)
        await check_capabilities(services.store, await services.verify_identity())
        workers = (control_worker(client, services), lease_worker(client, services, settings.max_movers))
        log.info("serving place %s (%s)", settings.place, settings.backend)
        runs = [asyncio.create_task(worker.run()) for worker in workers]
        stopped = asyncio.create_task(stop.wait())
        if ready_file is not None:
            await ready_file.announce(client, settings.place, unless=[*runs, stopped])
        await asyncio.wait([*runs, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("shutting down, work is handed back")
        stopped.cancel()
        if ready_file is not None:
            ready_file.withdraw()
        # The leases first: a worker that stays takes over what can outlive this one. This worker still reports the
        # movers that end to their workflows.
        for worker in reversed(workers):
            with contextlib.suppress(RuntimeError):
                await worker.shutdown()
        for run in runs:
            await run


def main() -> None:
    """Entry of ``python -m worker.control``. Exit status 0 after SIGTERM or SIGINT, 1 for an error."""
    settings = Settings.load()
    configure(settings)
    try:
        asyncio.run(_main(settings))
    except StorageError as error:
        log.error("%s (%s)", error, error.hint)
        sys.exit(1)


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


if __name__ == "__main__":
    main()
