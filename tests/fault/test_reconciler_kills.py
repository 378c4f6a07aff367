"""The example reconciler is killed at random moments, again and again, while its users change their minds."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from examples import reconciler
from examples.reconciler import Row, Table
from tests.harness.scale import trials
from tests.harness.site import Site
from tests.harness.stops import LOOK_SECONDS, Tree, fill, proven_tree, tree_of

KILLS = trials(25)
WORKSPACES = 4
CHANGES = 3
"""A life ends after up to so many changes of the table: counted, so that a slow machine's lives are long enough."""
LONGEST_PAUSE_SECONDS = 0.5
"""And up to so long after the last of them."""
PATIENCE_SECONDS = 600
"""After that a row is stuck; nothing is measured by it."""
SEED = os.environ.get("STORAGE_TESTS_SEED") or secrets.token_hex(4)


class User:
    """Writes to a home while it is WARM, sends it COLD, comes back too early. ``tree``: what was written last."""

    def __init__(self, site: Site, path: Path, number: int) -> None:
        self.id = site.workspace_id()
        self.tree: Tree = {}
        self.times = 0
        self._site = site
        self._table = Table(str(path))
        self._random = random.Random(f"{SEED}-{number}")

    async def live(self, end: asyncio.Event) -> None:
        """Until ``end``, and then to a rest."""
        self.wish("WARM")
        while True:
            row = await self.rest()
            await self.check(row)
            if end.is_set():
                return
            self.times += 1
            if row.status == "WARM":
                self.tree = fill(self._site.volume(self.id), f"{self.times} ")
                self.wish("COLD")
                if self._random.random() < 0.5:
                    await asyncio.sleep(self._random.uniform(0, 6 * LONGEST_PAUSE_SECONDS))
                    self.wish("WARM")
            else:
                self.wish("WARM")

    def wish(self, wanted: str) -> None:
        """As the command line does it."""
        reconciler.request(self._table, self.id, wanted)

    async def rest(self) -> Row:
        """The row, when nothing is left to do."""

        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (row := self.row()).next_operation is not None:  # noqa: ASYNC110 - another process ends it
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"it does not come to rest: {self.row()}") from error
        return row

    def row(self) -> Row:
        """The row."""
        found = self._table.row(self.id)
        assert found is not None
        return found

    async def check(self, row: Row) -> None:
        """At rest it is as wanted or says why not, and what was written last is there."""
        volume = self._site.volume(self.id)
        warm = tree_of(volume) if volume.exists() else None
        if row.status == "WARM":
            assert warm == self.tree
        elif row.status == "COLD":
            assert warm is None
            assert await proven_tree(self._site, self.id) == self.tree
        else:
            assert (row.status, bool(row.error_code), bool(row.error_hint)) == ("ERROR", True, True)
            assert self.tree in (warm, await proven_tree(self._site, self.id))


@asynccontextmanager
async def example(site: Site, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The example, running; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        reconciler.__file__,
        path,
        "run",
        "--place",
        site.place,
        env={**os.environ, "TEMPORAL_ADDRESS": site.environment["TEMPORAL_ADDRESS"]},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"running\n"
        yield process
        assert process.returncode is None, "it ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def changes(table: Table, times: int) -> None:
    """Return when the table has changed so often."""
    for _ in range(times):
        before = table.rows()
        while table.rows() == before:  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(LOOK_SECONDS)


@pytest.mark.timeout(300 + 20 * KILLS)
async def test_every_row_ends_well(common_site: Site, tmp_path: Path) -> None:
    """COLD, WARM, or ERROR with cause, and nothing lost, however often the reconciler was killed."""
    print(f"STORAGE_TESTS_SEED={SEED}")
    path, moments, end = tmp_path / "db", random.Random(SEED), asyncio.Event()
    users = [User(common_site, path, number) for number in range(WORKSPACES)]
    async with asyncio.TaskGroup() as lives:
        for user in users:
            lives.create_task(user.live(end))
        for _ in range(KILLS):
            async with example(common_site, path):
                await changes(Table(str(path)), moments.randint(0, CHANGES))
                await asyncio.sleep(moments.uniform(0, LONGEST_PAUSE_SECONDS))
        end.set()
        async with example(common_site, path):
            await asyncio.gather(*(user.rest() for user in users))
    assert sum(user.times for user in users) > WORKSPACES, "they hardly lived between the kills"
