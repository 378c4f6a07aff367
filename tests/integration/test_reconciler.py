"""The example reconciler: a crash at each of its statements and calls, its errors, and itself as a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import pytest

from codehub_storage import CancelOutcome, ErrorCode, OperationResult, StorageClient, StorageError
from codehub_storage.keys import archive_key
from examples import reconciler
from examples.reconciler import Reconciler, Row, Table
from tests.harness.site import Site

EXAMPLE = Path(reconciler.__file__)
HOME = "ws_ws1_home"
COLD = archive_key("ws1")

T = TypeVar("T")


# ------------------------------------------------------------ a world of one workspace, and a process that dies in it


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Fuse:
    """Burns down with each place that is passed, and crashes the process once; ``None``: never."""

    left: int | None = None

    def burn(self) -> None:
        """One more place."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crash


@dataclass
class World:
    """Where the home is. ``errors``: what the next calls raise. ``come_back``: what happens while archive runs."""

    volume: str | None = None
    archive: str | None = None
    is_late: bool = False
    errors: list[StorageError] = field(default_factory=list)
    come_back: Callable[[], None] | None = None
    calls: list[str] = field(default_factory=list)

    def provision(self) -> str:
        """As the service does it: what is there already is answered."""
        assert self.archive is None
        self.volume = self.volume or "home"
        return HOME

    def move_to_archive(self) -> OperationResult:
        """As archive does it."""
        if self.volume is not None:
            self.volume, self.archive = None, self.volume
        assert self.archive is not None
        return OperationResult(operation="archive", workspace_id="ws1", archive_key=COLD)

    def restore(self) -> str:
        """The archive stays."""
        self.volume = self.volume or self.archive
        assert self.volume is not None
        return HOME

    def purge(self) -> None:
        """Missing is fine."""
        self.volume = self.archive = None

    def cancel(self) -> CancelOutcome:
        """Too late means that it is archived."""
        if self.is_late:
            self.move_to_archive()
        return CancelOutcome.CANCELLED if self.volume is not None else CancelOutcome.TOO_LATE


class MortalStorage:
    """What the reconciler uses of ``StorageClient``: the process may die before each call, or before its answer."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        self._world = world
        self._fuse = fuse

    async def provision(self, workspace_id: str) -> str:
        """See ``World``."""
        return await self._call("provision", self._world.provision)

    async def restore(self, key: str) -> str:
        """See ``World``."""
        assert key == COLD
        return await self._call("restore", self._world.restore)

    async def purge(self, home_store_key: str | None, key: str | None) -> None:
        """See ``World``."""
        assert key == COLD
        await self._call("purge", self._world.purge)

    async def cancel(self, workspace_id: str) -> CancelOutcome:
        """See ``World``."""
        return await self._call("cancel", self._world.cancel)

    async def start_archive(self, home_store_key: str) -> MortalStorage:
        """We are our own handle."""
        assert home_store_key == HOME
        await self._call("start_archive", lambda: None)
        return self

    async def result(self) -> OperationResult:
        """The archive; never, if the user comes back first."""
        if self._world.come_back is not None:
            self._world.come_back()
            await asyncio.Event().wait()
        return await self._call("archive", self._world.move_to_archive)

    async def _call(self, name: str, act: Callable[[], T]) -> T:
        self._fuse.burn()
        self._world.calls.append(name)
        await asyncio.sleep(0)
        if self._world.errors:
            raise self._world.errors.pop(0)
        answer = act()
        self._fuse.burn()
        return answer


class MortalTable(Table):
    """The process may die before and after each statement."""

    def __init__(self, path: str, fuse: Fuse) -> None:
        super().__init__(path)
        self._fuse = fuse

    def begin(self, row: Row, operation: str) -> None:
        """See ``Table``."""
        self._fuse.burn()
        super().begin(row, operation)
        self._fuse.burn()

    def end(self, row: Row, status: str, home_store_key: str | None, archive_key: str | None) -> None:
        """See ``Table``."""
        self._fuse.burn()
        super().end(row, status, home_store_key, archive_key)
        self._fuse.burn()

    def note_error(self, row: Row, error: StorageError, *, is_final: bool) -> None:
        """See ``Table``."""
        self._fuse.burn()
        super().note_error(row, error, is_final=is_final)
        self._fuse.burn()


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "LOOK_SECONDS", 0.001)


def live(path: Path, world: World, fuse: Fuse) -> Row:
    """Processes one after the other, until one of them comes to rest; the row then."""
    while True:
        table = MortalTable(str(path), fuse)
        storage = cast(StorageClient, MortalStorage(world, fuse))
        try:
            asyncio.run(Reconciler(table, storage, first_pause_seconds=0.001).run(until_idle=True))
        except Crash:
            continue
        row = table.row("ws1")
        assert row is not None
        return row


def wish(path: Path, wanted: str) -> None:
    """What the user wants, as the command line notes it."""
    reconciler.request(Table(str(path)), "ws1", wanted)


# ------------------------------------------------------------ every crash


PLACES = 26
"""Before and after: four intents, five calls, four answers."""
PLACES_BACK = 14
"""The same of an archive that was asked for and given up, and of the restore that follows one that came too late."""


@pytest.mark.parametrize("crash_at", range(PLACES))
def test_a_life_with_a_crash_anywhere(tmp_path: Path, crash_at: int) -> None:
    """WARM, COLD, WARM, DELETED: whatever statement or call the process dies at, the next one makes it so."""
    path, world, fuse = tmp_path / "db", World(), Fuse(crash_at)
    for wanted, home in (("WARM", ("home", None)), ("COLD", (None, "home")), ("WARM", ("home", "home"))):
        wish(path, wanted)
        row = live(path, world, fuse)
        assert (row.status, row.operation, row.error_code) == (wanted, None, None)
        assert (world.volume, world.archive) == home
    wish(path, "DELETED")
    assert live(path, world, fuse).status == "DELETED"
    assert (world.volume, world.archive) == (None, None)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("crash_at", range(PLACES_BACK))
def test_the_user_comes_back_while_archiving(tmp_path: Path, crash_at: int, is_late: bool) -> None:
    """Cancelled or too late, and a crash anywhere: the home is WARM again, as it was."""
    path, world, fuse = tmp_path / "db", World(), Fuse(None)
    wish(path, "WARM")
    live(path, world, fuse)
    fuse.left, world.is_late, world.come_back = crash_at, is_late, lambda: wish(path, "WARM")
    wish(path, "COLD")
    row = live(path, world, fuse)
    assert (row.status, row.operation, row.wanted) == ("WARM", None, "WARM")
    assert world.volume == "home"
    assert ("restore" in world.calls) == is_late


def test_the_crashes_were_everywhere(tmp_path: Path) -> None:
    """The lives above pass these many places, so none was left out."""
    path, world, fuse = tmp_path / "db", World(), Fuse(1000)
    for wanted in ("WARM", "COLD", "WARM", "DELETED"):
        wish(path, wanted)
        live(path, world, fuse)
    assert fuse.left == 1000 - PLACES
    wish(path, "WARM")
    live(path, world, fuse)
    fuse.left, world.is_late, world.come_back = 1000, True, lambda: wish(path, "WARM")
    wish(path, "COLD")
    live(path, world, fuse)
    assert fuse.left == 1000 - PLACES_BACK


# ------------------------------------------------------------ errors


def test_a_retryable_error_is_called_again(tmp_path: Path) -> None:
    """Less often than the bound: the row ends as wanted, and tells of no error."""
    world = World(errors=[StorageError(ErrorCode.STORE_UNAVAILABLE, "down")] * (reconciler.TRIES - 1))
    wish(tmp_path / "db", "WARM")
    row = live(tmp_path / "db", world, Fuse())
    assert (row.status, row.attempts, row.error_code, row.error_hint) == ("WARM", 0, None, None)


@pytest.mark.parametrize(
    ("code", "calls"), [(ErrorCode.STORE_UNAVAILABLE, reconciler.TRIES), (ErrorCode.VOLUME_CONFLICT, 1)]
)
def test_the_last_error_is_the_rows(tmp_path: Path, code: ErrorCode, calls: int) -> None:
    """ERROR with code and hint, after the bound or at once; a new request makes the same call again."""
    world = World(errors=[StorageError(code, "so it is")] * calls)
    wish(tmp_path / "db", "WARM")
    row = live(tmp_path / "db", world, Fuse())
    assert (row.status, row.operation, row.error_code) == ("ERROR", "PROVISIONING", code.value)
    assert (row.error, row.error_hint) == ("so it is", StorageError(code, "").hint)
    assert world.calls == ["provision"] * calls
    wish(tmp_path / "db", "WARM")
    assert live(tmp_path / "db", world, Fuse()).status == "WARM"


def test_tries_are_counted_across_crashes(tmp_path: Path) -> None:
    """A process that dies after each error still comes to the bound."""
    world = World(errors=[StorageError(ErrorCode.STORE_UNAVAILABLE, "down")] * reconciler.TRIES)
    wish(tmp_path / "db", "WARM")
    for _ in range(reconciler.TRIES):
        fuse = Fuse(4)  # passed: before and after the intent, before the call and the error; it dies after the error
        mortal = Reconciler(MortalTable(str(tmp_path / "db"), fuse), cast(StorageClient, MortalStorage(world, fuse)))
        with pytest.raises(Crash):
            asyncio.run(mortal.run(until_idle=True))
    assert [row.status for row in Table(str(tmp_path / "db")).rows()] == ["ERROR"]


# ------------------------------------------------------------ the process


def test_it_needs_the_client_alone() -> None:
    """Nothing of the service is imported, and nothing beyond what the client brings."""
    program = (
        f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r}); "
        "print(*sorted({'activities', 'workflows', 'worker', 'aioboto3', 'awscrt'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.split() == []


async def run_example(site: Site, path: Path, *arguments: str) -> str:
    """The example as a process of its own, to its end; what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        path,
        *arguments,
        env={**os.environ, "TEMPORAL_ADDRESS": site.environment["TEMPORAL_ADDRESS"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()


async def test_an_error_of_the_service_stands_in_the_row(common_site: Site, tmp_path: Path) -> None:
    """From the command line, on real servers: a stranger in the home's place is told with code and hint; without it,
    the same wish is fulfilled."""
    site, workspace, path = common_site, common_site.workspace_id(), tmp_path / "db"
    run = ("run", "--place", site.place, "--until-idle")
    for wanted in ("WARM", "COLD"):
        await run_example(site, path, "request", workspace, wanted)
        await run_example(site, path, *run)
    site.volume(workspace).mkdir()
    await run_example(site, path, "request", workspace, "WARM")
    await run_example(site, path, *run)
    said = await run_example(site, path, "list")
    assert f"{workspace:40} ERROR/RESTORING" in said
    assert "VolumeConflict: " in said
    assert StorageError(ErrorCode.VOLUME_CONFLICT, "").hint in said
    site.volume(workspace).rmdir()
    await run_example(site, path, "request", workspace, "WARM")
    await run_example(site, path, *run)
    assert f"{workspace:40} WARM/-" in await run_example(site, path, "list")
    assert site.volume(workspace).is_dir()
