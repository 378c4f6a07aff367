"""The embedded stack: Temporal with web UI, SeaweedFS and a worker, from packages, in one directory, on loopback.

Everything that must outlive a kill is in the directory: Temporal's database, SeaweedFS's data, ports, credentials and
the volumes. Started again there, it continues with the operations that were open.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Self

from temporalio.client import Client
from temporalio.service import RPCError

from codehub_storage.contracts import DEFAULT_PLACE
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import storage_queue
from codehub_storage.serving import WORKFLOWS, known_pollers
from worker.dev.info import DevInfo, Layout
from worker.dev.process import Child, end_leftover
from worker.dev.seaweed import Identity, Seaweed
from worker.dev.state import StackState, reset, sole_stack, take_turn
from worker.dev.temporal import NAMESPACE, TemporalServer
from worker.settings import Settings, child_environment, variable
from worker.wiring import initialize, open_services

BUCKET = "codehub-archives"
_WORKER_COMMAND = (sys.executable, "-m", "worker.control")
_WORKER_SECONDS = 60.0
_WORKER_GRACE_SECONDS = 60.0
_WATCH_SECONDS = 0.5
_LOOK_SECONDS = 0.1
_OTHERS = ("AWS_", "TEMPORAL_", "CODEHUB_STORAGE_S3_", "CODEHUB_STORAGE_SETTLE")
"""Variables with the addresses of other servers; the stack's worker must not get them."""


class DevStack:
    """``async with DevStack(folder) as stack`` starts all parts and ends them in the opposite order.

    ``note`` is called with what a person should know. ``reset``: begin with nothing, whatever is there. ``settings``:
    more settings for the worker, by the names of ``Settings``. Entering raises ``StackRuns`` if one runs on the
    directory already, and ``PartFailed``, which names the part and its log.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        reset: bool = False,
        note: Callable[[str], None] = lambda _: None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = Layout(data_dir.absolute())
        self._reset = reset
        self._note = note
        self._settings = dict(settings or {})
        self._exits = AsyncExitStack()

    @property
    def settle_sync_dir(self) -> Path:
        """The directory that is synced to disk where another store would be waited for."""
        return self.layout.store

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await self._start(exits)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._worker.pid

    async def watch(self) -> None:
        """Runs until cancelled. A worker that ends is started again: what it did is durable. A server that ends is
        the end of the stack: ``PartFailed``."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for server in (self._temporal.child, self._store.child):
                if server.pid is None:
                    raise server.failure("ended")
            if self._worker.pid is None:
                self._note(f"the worker ended and is started again; its log is {self._worker.log}")
                await self._start_worker()

    async def _start(self, exits: AsyncExitStack) -> None:
        layout = self.layout
        layout.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        exits.enter_context(sole_stack(layout.lock))
        layout.info.unlink(missing_ok=True)
        for pid_file in layout.run.glob("*.pid"):
            end_leftover(pid_file)
        if self._reset and await asyncio.to_thread(reset, layout):
            self._note(f"reset: all volumes and archives of the stack in {layout.data_dir} were removed")
        for folder in (layout.logs, layout.run, layout.volumes):
            folder.mkdir(exist_ok=True)
        with closing(await asyncio.to_thread(take_turn)):
            state = await asyncio.to_thread(StackState.load, layout)
            self._make_parts(state)
            exits.push_async_callback(asyncio.to_thread, self._temporal.stop)
            exits.push_async_callback(asyncio.to_thread, self._store.stop)
            await asyncio.gather(asyncio.to_thread(self._temporal.start), asyncio.to_thread(self._store.start))
        await self._mark_place()
        exits.push_async_callback(asyncio.to_thread, self._worker.stop, _WORKER_GRACE_SECONDS)
        await self._start_worker()
        exits.callback(layout.info.unlink, missing_ok=True)
        self.info.write(layout.data_dir)

    def _make_parts(self, state: StackState) -> None:
        layout = self.layout
        self._temporal = TemporalServer(
            database=layout.temporal_db,
            log=layout.logs / "temporal.log",
            pid_file=layout.run / "temporal.pid",
            ports=state.temporal_ports,
        )
        identity = Identity("codehub-storage", access_key=state.access_key, secret_key=state.secret_key)
        self._store = Seaweed(
            layout.store,
            buckets=[BUCKET],
            identities=[identity],
            ports=state.store_ports,
            log=layout.logs / "seaweedfs.log",
            pid_file=layout.run / "seaweedfs.pid",
        )
        self.info = DevInfo(
            temporal_address=self._temporal.address,
            namespace=NAMESPACE,
            web_ui=self._temporal.web_ui,
            s3_endpoint=self._store.endpoint_url,
            s3_access_key=state.access_key,
            s3_secret_key=state.secret_key,
            bucket=BUCKET,
            volume_root=str(layout.volumes),
            logs=str(layout.logs),
        )
        self._worker = Child(
            "the worker",
            _WORKER_COMMAND,
            log=layout.logs / "worker.log",
            pid_file=layout.run / "worker.pid",
            environment=self._worker_environment(),
        )

    def _fields(self) -> dict[str, str]:
        """The settings that lead to the stack's own servers."""
        return {
            "data_dir": str(self.layout.data_dir),
            "place": DEFAULT_PLACE,
            "backend": "directory",
            "settle_sync_dir": str(self.settle_sync_dir),
            **self.info.model_dump(include={"bucket", "volume_root", "s3_endpoint", "s3_access_key", "s3_secret_key"}),
        }

    def _worker_environment(self) -> dict[str, str]:
        """Ours, except that it leads to the stack's own servers; all other settings hold."""
        temporal = {
            "TEMPORAL_ADDRESS": self.info.temporal_address,
            "TEMPORAL_NAMESPACE": self.info.namespace,
            "TEMPORAL_CONFIG_FILE": os.devnull,
        }
        fields = {**self._fields(), **self._settings}
        return child_environment(
            {**{variable(name): each for name, each in fields.items()}, **temporal}, without=_OTHERS
        )

    async def _mark_place(self) -> None:
        """`init`, at the first start only: it probes the store for seconds."""
        settings = Settings.model_validate(self._fields())
        try:
            async with open_services(settings) as services:
                await services.verify_identity()
        except StorageError as error:
            if error.code is not ErrorCode.WRONG_STORE:
                raise
            await initialize(settings, adopt=False)

    async def _start_worker(self) -> None:
        """Start it and return when Temporal sees it ask for work. Raises ``PartFailed``."""
        since = time.time_ns()
        await asyncio.to_thread(self._worker.start)
        client = await Client.connect(self.info.temporal_address, namespace=self.info.namespace)
        try:
            async with asyncio.timeout(_WORKER_SECONDS):
                while not await _is_asked(client, since):
                    if self._worker.pid is None:
                        raise self._worker.failure("ended while starting")
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise self._worker.failure(f"does not ask for work after {_WORKER_SECONDS:.0f} s") from None


async def _is_asked(client: Client, since: int) -> bool:
    """True once a worker polls the queue; for minutes the server also names pollers that are gone."""
    try:
        found = await known_pollers(client, storage_queue(DEFAULT_PLACE), WORKFLOWS)
    except RPCError:
        return False  # slow, perhaps; it is asked again for as long as the worker has time to start
    return any(poller.last_access_time.ToNanoseconds() > since for poller in found)
