"""A mover: a process that serves one volume, on a task queue of its own, as an ordinary activity worker.

Its backend starts it beside the bytes. It ends on SIGTERM, handing its steps back with their last heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.backends.base import MoverSpec
from activities.backends.containers import VOLUME, read_spec
from activities.backends.starting import last_words
from activities.dataplane.archiver import Wall, check_version
from activities.dataplane.plan import PlanLimits
from activities.mover.archive import ArchiveActivities
from activities.mover.context import MoverContext
from activities.mover.heartbeating_store import beating_store
from activities.mover.restore import RestoreActivities
from codehub_storage.client import connect
from codehub_storage.errors import StorageError
from codehub_storage.keys import workflow_id
from worker.failpoint_wrappers import store_with_failpoints
from worker.logging import configure
from worker.settings import Settings
from worker.store import open_known_store
from worker.version import service_version
from workflows.messages import MOVER_PROTOCOL

log = logging.getLogger(__name__)

HEARTBEAT_THROTTLE = timedelta(seconds=1)
GRACE = timedelta(seconds=5)
LOOK = timedelta(seconds=30)
"""Interval at which a mover checks whether its run is still open."""
WALLS = {"directory": Wall.DEMANDED, "local-docker": Wall.AVAILABLE, "k8s": Wall.AVAILABLE}
"""On this machine's own file system the kernel must confine what writes; a container is a wall itself."""
SLOTS = 2
"""One for the step under way, one for its next attempt, which ends the former (``Attempts``)."""


def main(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """Serve until SIGTERM. ``lock_fd`` stays open as long as this process and its children live."""
    run(spec, Path(folder), lock_fd)


def run(spec: MoverSpec, folder: Path, lock_fd: int | None = None) -> NoReturn:
    """Serve until SIGTERM, then end the process."""
    if spec.protocol != MOVER_PROTOCOL:
        sys.exit(f"this mover speaks protocol {MOVER_PROTOCOL}, its worker {spec.protocol}: take one image for both")
    try:
        settings = Settings.load()
    except StorageError as error:
        _cannot_start(error)
    configure(settings)
    status = 0
    try:
        asyncio.run(serve(settings, spec, folder, lock_fd))
    except StorageError as error:
        _cannot_start(error)
    except Exception:
        log.exception("the mover fails")
        status = 1
    _exit(status)


async def serve(settings: Settings, spec: MoverSpec, folder: Path, lock_fd: int | None) -> None:
    """Run the worker of this mover's queue."""
    await check_version(service_version())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await connect(**settings.temporal_connect_config(), identity=f"mover/{spec.volume_uid}")
    async with open_known_store(settings) as (store, identity):
        context = MoverContext(
            root=folder,
            store=beating_store(store_with_failpoints(store, "mover")),
            place=settings.place,
            backend=settings.backend,
            volume_uid=spec.volume_uid,
            limits=PlanLimits(
                segment_bytes=settings.segment_bytes or PlanLimits.segment_bytes, allow_devices=settings.allow_devices
            ),
            concurrency=settings.mover_concurrency,
            budget_bytes=settings.budget_bytes,
            lock_fd=lock_fd,
            epoch=identity.epoch,
        )
        packing, filling = ArchiveActivities(context), RestoreActivities(context, WALLS[settings.backend])
        worker = Worker(
            client,
            build_id=service_version(),
            task_queue=spec.queue,
            activities=[
                packing.scan_volume,
                packing.copy_segments,
                packing.copy_tail,
                packing.verify_archive,
                packing.write_manifest,
                filling.prepare_restore,
                filling.restore_segments,
                filling.finish_restore,
                filling.restore_foreign_archive,
            ],
            max_concurrent_activities=SLOTS,
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            graceful_shutdown_timeout=GRACE,
        )
        watch = asyncio.create_task(_end_with_run(client, spec, settings.scaled(LOOK), stop))
        try:
            async with worker:
                await stop.wait()
        finally:
            watch.cancel()
            context.close()


async def _end_with_run(client: Client, spec: MoverSpec, pause: timedelta, stop: asyncio.Event) -> None:
    """Stop once the run is closed: a container outlives its worker, and no process may be left to end it.

    A server that does not respond is no evidence about the run.
    """
    handle = client.get_workflow_handle(workflow_id(spec.workspace_id), run_id=spec.run_id)
    while not stop.is_set():
        await asyncio.sleep(pause.total_seconds())
        try:
            is_open = (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        except RPCError as error:
            is_open = error.status is not RPCStatusCode.NOT_FOUND
        if not is_open:
            log.warning("run %s is closed, so this mover ends", spec.run_id)
            stop.set()


def _cannot_start(error: StorageError) -> NoReturn:
    """One line, which the lease reads."""
    sys.stderr.write(f"{last_words(error)}\n")
    _exit(1)


def _exit(status: int) -> NoReturn:
    """Without the interpreter's teardown, in which the SDK's threads can abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":  # in a container, which ends with us, so no lock is needed to show that
    run(read_spec(sys.argv[1]), Path(VOLUME))
