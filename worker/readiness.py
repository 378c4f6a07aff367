"""Whether this worker serves its place, shown to the process that started it: a file that exists as long as it does.

A process that runs is not ready yet. It is ready when bucket and place were found to be the right ones, and when
Temporal has seen it ask for work on both of its queues. It is no longer ready once it begins to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import movers_queue, storage_queue
from codehub_storage.runs import DENIED
from codehub_storage.serving import ACTIVITIES, WORKFLOWS, known_pollers

_LOOK_SECONDS = 0.2
_DENIED = (*DENIED, RPCStatusCode.UNIMPLEMENTED)

log = logging.getLogger(__name__)


def new_identity() -> str:
    """How this process names itself to Temporal. A restarted container has pid and host of the former one, which the
    server still lists for minutes as asking for work."""
    return f"{os.getpid()}@{socket.gethostname()}/{secrets.token_hex(4)}"


class ReadyFile:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def withdraw(self) -> None:
        """Not ready, or not ready any more; also where a process that was killed left the file.

        ``InvalidInput`` where no file can be made.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._path, error) from error
        if not os.access(self._path.parent, os.W_OK):
            raise _unusable(self._path, "its folder is not there, or not to be written to")

    async def announce(self, client: Client, place: str, unless: Iterable[asyncio.Future[Any]]) -> None:
        """Make the file once both queues are polled; return without, as soon as one of ``unless`` is done."""
        polled = asyncio.create_task(until_polled(client, place))
        await asyncio.wait([polled, *unless], return_when=asyncio.FIRST_COMPLETED)
        if polled.done():
            polled.result()
            self._path.touch()
            log.info("ready")
        polled.cancel()


async def until_polled(client: Client, place: str) -> None:
    """Return when the server has seen ``client`` ask for workflows, control activities and leases of the place."""
    waiting = {
        (storage_queue(place), WORKFLOWS),
        (storage_queue(place), ACTIVITIES),
        (movers_queue(place), ACTIVITIES),
    }
    while waiting:
        waiting = {each for each in waiting if not await _is_polled(client, *each)}
        await asyncio.sleep(_LOOK_SECONDS if waiting else 0)


async def _is_polled(client: Client, queue: str, kind: TaskQueueType.ValueType) -> bool:
    try:
        found = await known_pollers(client, queue, kind)
    except RPCError as error:
        if error.status not in _DENIED:
            return False  # the server is away, and no run is served
        log.warning("who asks for work on %s may not be looked at (%s); taken for ready", queue, error.message)
        return True
    return any(poller.identity == client.identity for poller in found)


def _unusable(path: Path, why: object) -> StorageError:
    return StorageError(
        ErrorCode.INVALID_INPUT,
        f"the file {path} cannot tell whether this worker is ready: {why}",
        hint="Correct CODEHUB_STORAGE_READY_FILE, or unset it.",
    )
