"""The demo, step by step: provision, fill, archive across two kills, restore, compare, purge."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from temporalio.client import Client

from activities.backends.directory.layout import Layout
from activities.backends.directory.lock import read_holder
from codehub_storage import keys
from codehub_storage.client import OperationHandle, StorageClient
from codehub_storage.contracts import OperationResult
from codehub_storage.converter import DATA_CONVERTER
from examples.demo import project, reference
from examples.demo.commands import CommandFailed
from examples.demo.kills import Kills, MissedTheMiddle
from examples.demo.line import Line
from examples.demo.oddities import make_oddities
from examples.demo.telling import Telling
from worker.cli.bucket import open_bucket
from worker.cli.following import follow
from worker.cli.format import size
from worker.cli.output import one_line
from worker.cli.verifying import check
from worker.dev.stack import DevStack
from worker.settings import Settings

_WORKSPACE = "demo"
_SHOWN_DIFFERENCES = 20
_SLOW = 8 << 20


class Story:
    """One run on a stack that is up. ``folder`` has room for a copy of the tree, outside of the volumes.

    ``line`` leads from the stack's worker to its store.
    """

    def __init__(self, stack: DevStack, line: Line, folder: Path, telling: Telling) -> None:
        self._stack = stack
        self._line = line
        self._info = stack.info
        self._reference = folder / "reference"
        self._telling = telling
        self._archive_key = keys.archive_key(_WORKSPACE)

    async def tell(self) -> bool:
        """All of it. True if what came back is what went in."""
        if self._reference.exists():
            await asyncio.to_thread(reference.remove, self._reference)
        address, namespace = self._info.temporal_address, self._info.namespace
        client = await Client.connect(address, namespace=namespace, data_converter=DATA_CONVERTER)
        self._client = StorageClient(client)
        home_store_key, home = await self._provision()
        before = await self._fill(home)
        await self._archive(home_store_key, home)
        await self._prove()
        await self._restore(home)
        if not await self._compare(home, before):
            self._telling.remark(f"nothing is purged, for a look: {home} and {self._reference}")
            return False
        await self._purge(home_store_key, home)
        await asyncio.to_thread(reference.remove, self._reference)
        return True

    async def _provision(self) -> tuple[str, Path]:
        with self._telling.step("provision") as step:
            result = await self._follow(await self._client.start_provision(_WORKSPACE))
            key = result.home_store_key or ""
            step.what = f"volume {key}"
        return key, Path(self._info.volume_root) / key

    async def _fill(self, home: Path) -> reference.Inventory:
        with self._telling.step("fill") as step:
            await project.make_project(home, self._telling)
            refused = await asyncio.to_thread(make_oddities, home / "odd")
            step.what = str(found := await reference.inventory(home))
        if os.geteuid() != 0:
            self._telling.remark(f"as user {os.geteuid()}: what only root may make or keep is not in the tree")
        for what, why in refused.items():
            self._telling.remark(f"not in the tree: {what} ({why})")
        with self._telling.step("reference") as step:
            await reference.copy(home, self._reference)
            step.what = "a copy by rsync -aHAX --numeric-ids, outside the volumes"
        return found

    async def _archive(self, home_store_key: str, home: Path) -> None:
        with self._telling.step("archive") as step:
            sent_before = self._line.sent_bytes
            result = await self._across_kills(await self._client.start_archive(home_store_key))
            if home.exists() or result.cleanup_required:
                raise CommandFailed(f"the volume {home} is still there")
            again = max(0, self._line.sent_bytes - sent_before - result.stored_bytes)
            step.what = f"{_moved(result)}; a mover and a worker killed, {size(again)} sent again; volume gone"

    async def _across_kills(self, archive: OperationHandle) -> OperationResult:
        """Kill a mover and a worker in the middle. Until both are dead the line is slow, so that there is a middle."""
        self._telling.say(f"  the line to the store is slow ({size(_SLOW)}/s) until a mover and a worker were killed")
        self._line.bytes_per_second = _SLOW
        kills = Kills(
            archive.progress, self._mover, lambda: self._stack.worker_pid, lambda line: self._telling.say(f"  {line}")
        )
        killing, ending = asyncio.create_task(kills.both()), asyncio.create_task(self._follow(archive))
        try:
            await asyncio.wait([killing, ending], return_when=asyncio.FIRST_COMPLETED)
            if not killing.done():
                await ending  # a failure of its own is the better error
                raise MissedTheMiddle("the archive ended before a mover and a worker were killed in its middle")
            await killing
            self._line.bytes_per_second = None
            return await ending
        finally:
            for task in (killing, ending):
                task.cancel()
            await asyncio.wait([killing, ending])

    def _mover(self) -> int | None:
        """The process id of the mover that is at work."""
        holder = read_holder(Layout(self._info.volume_root).lock(_WORKSPACE))
        return holder.pid if holder is not None and holder.is_mover and holder.is_alive() else None

    async def _prove(self) -> None:
        """Not part of the operation, which has proved it already: once more, from outside."""
        fields = {"bucket", "s3_endpoint", "s3_access_key", "s3_secret_key"}
        settings = Settings.model_validate(self._info.model_dump(include=fields))
        with self._telling.step("verify") as step:
            async with open_bucket(settings) as store:
                found = await check(store, self._archive_key, None, lambda seen, total: None)
            step.what = f"{size(found.stored_bytes)} read back, each byte as its manifest says"

    async def _restore(self, home: Path) -> None:
        with self._telling.step("restore") as step:
            result = await self._follow(await self._client.start_restore(self._archive_key))
            if not home.is_dir():
                raise CommandFailed(f"the volume {home} is not there")
            step.what = _moved(result)

    async def _compare(self, home: Path, before: reference.Inventory) -> bool:
        with self._telling.step("compare") as step:
            differing = await reference.differences(self._reference, home)
            found = reference.judge(differing, before, await reference.inventory(home))
            entries = before.counts["entries"]
            step.what = f"{entries:,} entries by rsync -naHAXc --delete: " + (
                f"{len(found):,} differences" if found else "no difference"
            )
        for line in found[:_SHOWN_DIFFERENCES]:
            self._telling.say(f"  {one_line(line)}")
        return not found

    async def _purge(self, home_store_key: str, home: Path) -> None:
        with self._telling.step("purge") as step:
            result = await self._follow(await self._client.start_purge(home_store_key, self._archive_key))
            if home.exists() or result.leftovers:
                raise CommandFailed(f"purge left {home if home.exists() else ', '.join(result.leftovers)}")
            step.what = f"gone: {', '.join(result.removed)}"

    async def _follow(self, handle: OperationHandle) -> OperationResult:
        result = await follow(handle.result(), handle.progress, self._telling.output)
        for kind, count in sorted(result.skipped.items()):
            self._telling.remark(f"{result.operation} did not carry: {kind}, {count:,}")
        return result


def _moved(result: OperationResult) -> str:
    stored = f", {size(result.stored_bytes)} stored" if result.stored_bytes else ""
    return f"{result.files:,} files, {size(result.raw_bytes)} of content{stored}"
