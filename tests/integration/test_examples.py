"""The examples beside the reconciler, on real servers: over HTTP, in bulk across a kill, and from sync code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fastapi import Request
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import archive_key
from examples import bulk_move, fastapi_handler, from_sync_code
from examples.bulk_move import BulkMove
from examples.from_sync_code import SyncStorage
from tests.harness.homes import provisioned, read, write
from tests.harness.site import Site
from tests.harness.stops import handle_of, until

NOBODY = "nobody"
"""A place without a worker: what is started there stays open."""


@asynccontextmanager
async def program(site: Site, *arguments: object) -> AsyncIterator[Process]:
    """A Python process with the site's Temporal; killed at the end. Its stderr is in its stdout."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", *map(str, arguments)),
        env={**os.environ, "TEMPORAL_ADDRESS": site.environment["TEMPORAL_ADDRESS"]},
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Whoever runs the suite in the background has shells that ignore it, and all their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def example(module: ModuleType, site: Site, *arguments: object) -> AbstractAsyncContextManager[Process]:
    """An example as a process of its own."""
    assert module.__file__ is not None
    return program(site, module.__file__, *arguments)


async def run(module: ModuleType, site: Site, *arguments: object) -> tuple[int | None, str]:
    """An example to its end: exit status, and what it said."""
    async with example(module, site, *arguments) as process:
        said, _ = await process.communicate()
        return process.returncode, said.decode()


async def told(process: Process, word: str) -> str:
    """The next line with that word."""
    assert process.stdout is not None
    async for line in process.stdout:
        if word in line.decode():
            return line.decode()
    raise AssertionError(f"it ended without a word of {word}")


@pytest.mark.parametrize("module", [bulk_move, fastapi_handler, from_sync_code])
def test_they_need_the_client_alone(module: ModuleType) -> None:
    """Nothing of the service is imported, nor what it brings."""
    program = (
        f"import runpy, sys; runpy.run_path({module.__file__!r}); "
        "print(*sorted({'activities', 'workflows', 'worker', 'aioboto3', 'awscrt'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.split() == []


# ------------------------------------------------------------ fastapi_handler


@asynccontextmanager
async def service(site: Site, monkeypatch: pytest.MonkeyPatch, place: str) -> AsyncIterator[httpx.AsyncClient]:
    """The web service of a place, and a client of it."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", site.environment["TEMPORAL_ADDRESS"])
    app = fastapi_handler.create_app(place)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        yield client


async def test_a_life_over_http(common_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started with 202 and polled, or waited for with 200; in the end nothing is left."""
    site, workspace = common_site, common_site.workspace_id()
    async with service(site, monkeypatch, site.place) as http:
        made = await http.post(f"/workspaces/{workspace}/provision?wait=60")
        assert (made.status_code, made.json()["home_store_key"]) == (200, site.key(workspace))
        write(site, workspace, "first")

        started = await http.post(f"/workspaces/{workspace}/archive")
        assert started.status_code == 202
        assert started.json().keys() == {"operation", "workspace_id", "run_id"}
        found = {}

        async def is_closed() -> bool:
            found.update((await http.get(started.headers["location"])).json())
            return bool(found["closed"])

        await until(is_closed, "the archive does not end")
        assert (found["operation"], found["phase"], found["run_id"]) == ("archive", "done", started.json()["run_id"])
        assert not site.volume(workspace).exists()

        again = await http.post(f"/workspaces/{workspace}/archive?wait=60")
        assert (again.json()["archive_key"], again.json()["moved"]) == (archive_key(workspace), False)
        assert (await http.post(f"/workspaces/{workspace}/restore?wait=60")).status_code == 200
        assert read(site, workspace) == "first"
        assert (await http.post(f"/workspaces/{workspace}/cancel")).json() == {"outcome": "cancelled"}
        removed = await http.delete(f"/workspaces/{workspace}?wait=60")
        assert site.key(workspace) in removed.json()["removed"]


async def test_what_runs_is_joined_over_http(common_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request has the same run, waiting or not; another is refused with 409, code and hint."""
    workspace = common_site.workspace_id()
    async with service(common_site, monkeypatch, NOBODY) as http:
        first, second = [await http.post(f"/workspaces/{workspace}/provision?wait={wait}") for wait in (0, 0.2)]
        assert (first.status_code, second.status_code) == (202, 202)
        assert second.json() == first.json()
        other = await http.post(f"/workspaces/{workspace}/archive")
    assert (other.status_code, other.headers["retry-after"]) == (409, str(fastapi_handler.RETRY_SECONDS))
    error = other.json()["error"]
    assert (error["code"], error["retryable"]) == ("OperationInProgress", True)
    assert f"codehub-storage cancel {workspace}" in error["hint"]
    assert error["details"]["run_id"] == first.json()["run_id"]
    handle = handle_of(common_site, workspace)
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await handle.terminate()


async def test_errors_over_http(common_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad id, nothing there, an operation that fails while it is waited for, and a workspace nobody knows."""
    workspace = common_site.workspace_id()
    async with service(common_site, monkeypatch, common_site.place) as http:
        answers = [
            await http.post("/workspaces/No_Id/provision"),
            await http.post(f"/workspaces/{workspace}/archive?wait=60"),
            await http.post(f"/workspaces/{workspace}/restore?wait=60"),
            await http.get(f"/workspaces/{common_site.workspace_id()}"),
        ]
    assert [answer.status_code for answer in answers] == [400, 404, 404, 404]
    codes = [answer.json().get("error", {}).get("code") for answer in answers]
    assert codes == ["InvalidInput", "VolumeNotFound", "ArchiveNotFound", None]


STATUS = {
    400: {"InvalidInput"},
    404: {"VolumeNotFound", "ArchiveNotFound"},
    409: {"OperationInProgress", "NotYours", "Cancelled"}
    | {"VolumeInUse", "VolumeChanged", "VolumeConflict", "LineageConflict"},
    500: {"WrongStore", "AccessDenied", "ArchiveUnproven", "ArchiveCorrupt", "ArchiveTooLarge", "ArchiveLocked"}
    | {"Unsupported", "Unknown", "VolumeLost"},
    503: {"StoreUnavailable", "BackendUnavailable", "VolumeUnreadable", "MoverFailed", "PurgeIncomplete"},
    507: {"NoSpace"},
}


async def test_each_code_has_a_status() -> None:
    """Of the whole list; whatever may be sent again says when, and nothing else does."""
    found: dict[int, set[str]] = {}
    for code in ErrorCode:
        error = StorageError(code, "so it is")
        answer = await fastapi_handler.answer_error(Request({"type": "http"}), error)
        found.setdefault(answer.status_code, set()).add(code.value)
        assert ("retry-after" in answer.headers) == error.retryable
    assert found == STATUS


# ------------------------------------------------------------ bulk_move

MANY = 100
"""Workspaces that are provisioned in bulk: the cheapest of the real operations."""
FEW = 6
"""Those that are archived, which takes a mover each."""
SOON = 0.01
"""The first pause of a bulk move that shall not wait."""
PROVISION = """
import asyncio, pathlib, sys
from codehub_storage import StorageClient
from examples.bulk_move import BulkMove

async def main():
    storage = await StorageClient.connect(place=sys.argv[2])
    bulk = BulkMove(storage.start_provision, pathlib.Path(sys.argv[1]))
    await bulk.run()
    print(bulk.summary())

asyncio.run(main())
"""
"""The bulk move with another operation."""


def listed(path: Path, keys: Iterable[str]) -> Path:
    """A file with a key on each line."""
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


async def test_a_hundred_go_on_after_a_kill(common_site: Site, tmp_path: Path) -> None:
    """Killed in the middle and run again: all are there, and none that had ended was called again."""
    site = common_site
    workspaces = [site.workspace_id() for _ in range(MANY)]
    path = listed(tmp_path / "ids.txt", workspaces)
    done = path.with_name("ids.txt.done")
    async with program(site, "-c", PROVISION, path, site.place) as process:
        await told(process, f"{MANY // 3}/{MANY}")
        process.kill()
    before = done.read_text().split()
    assert MANY // 3 <= len(before) < MANY
    async with program(site, "-c", PROVISION, path, site.place) as process:
        said, _ = await process.communicate()
    assert f"{MANY - len(before)} moved, {len(before)} were moved before, 0 not\n" in said.decode()
    assert sorted(done.read_text().split()) == sorted(workspaces)
    assert all(site.volume(workspace).is_dir() for workspace in workspaces)
    assert await runs_of(site, "provision", before) == dict.fromkeys(before, 1)


async def test_homes_go_cold_across_a_kill_and_come_back(common_site: Site, tmp_path: Path) -> None:
    """The program as README has it: COLD, killed, COLD again, once more for nothing; then WARM, each as it was."""
    site = common_site
    workspaces = [workspace for workspace, _ in [await provisioned(site) for _ in range(FEW)]]
    homes = listed(tmp_path / "homes.txt", map(site.key, workspaces))
    arguments = ("COLD", homes, "--place", site.place)
    async with example(bulk_move, site, *arguments) as process:
        await told(process, f"1/{FEW}")
        process.kill()
    status, said = await run(bulk_move, site, *arguments)
    assert status == 0, said
    assert not any(site.volume(workspace).exists() for workspace in workspaces)
    assert await run(bulk_move, site, *arguments) == (0, f"0 moved, {FEW} were moved before, 0 not\n")
    archives = listed(tmp_path / "archives.txt", map(archive_key, workspaces))
    status, said = await run(bulk_move, site, "WARM", archives, "--place", site.place)
    assert status == 0, said
    assert [read(site, workspace) for workspace in workspaces] == ["first"] * FEW


async def runs_of(site: Site, operation: str, workspaces: Iterable[str]) -> Counter[str]:
    """How many runs of that operation the server knows of each."""
    found = site.temporal.list_workflows(f'WsOp="{operation}" AND TaskQueue="storage/{site.place}"')
    ids = [run.id.removeprefix("storage/") async for run in found]
    return Counter(each for each in ids if each in set(workspaces))


async def test_a_bulk_move_goes_on_past_errors(common_site: Site, tmp_path: Path) -> None:
    """A volume in use is tried again until it is free; one that is not there is told with its hint: status 4."""
    site = common_site
    (busy, _), (free, _) = [await provisioned(site) for _ in range(2)]
    absent = site.workspace_id()
    homes = listed(tmp_path / "homes.txt", map(site.key, [busy, absent, free]))
    async with AsyncExitStack() as life:
        with site.habitat.using(busy):
            process = await life.enter_async_context(example(bulk_move, site, "COLD", homes, "--place", site.place))
            assert f"{site.key(busy)}: VolumeInUse" in await told(process, "tried again")
        said, _ = await process.communicate()
    assert process.returncode == 4
    summary = said.decode().partition("2 moved, 0 were moved before, 1 not\n")[2]
    assert f"{site.key(absent)}: VolumeNotFound" in summary
    assert StorageError(ErrorCode.VOLUME_NOT_FOUND, "").hint in summary
    assert sorted(homes.with_name("homes.txt.done").read_text().split()) == sorted(map(site.key, [busy, free]))


async def test_a_retryable_error_is_not_tried_for_ever(common_site: Site, tmp_path: Path) -> None:
    """The last one is told: status 3, and the same list goes on later."""
    site = common_site
    busy, key = await provisioned(site)
    homes = listed(tmp_path / "homes.txt", [key])
    with site.habitat.using(busy):
        bulk = BulkMove(site.storage.start_archive, homes, first_pause_seconds=SOON)
        await bulk.run()
    assert (bulk.status, list(bulk.failed)) == (3, [key])
    assert (await runs_of(site, "archive", [busy]))[busy] == bulk_move.TRIES
    later = BulkMove(site.storage.start_archive, homes)
    await later.run()
    assert (later.status, later.moved) == (0, 1)


async def test_what_a_power_cut_left_of_a_line_is_no_key(common_site: Site, tmp_path: Path) -> None:
    """Its workspace is called again, and the next one's line stays whole."""
    site = common_site
    _, key = await provisioned(site)
    homes = listed(tmp_path / "homes.txt", [key])
    done = homes.with_name("homes.txt.done")
    done.write_text(key[:-3])
    bulk = BulkMove(site.storage.start_archive, homes)
    await bulk.run()
    assert bulk.moved == 1
    assert done.read_text().split() == [key[:-3], key]


# ------------------------------------------------------------ from_sync_code


async def test_a_life_from_sync_code(common_site: Site) -> None:
    """The script, told what it does; in the end nothing is left."""
    workspace = common_site.workspace_id()
    status, said = await run(from_sync_code, common_site, workspace, "--place", common_site.place)
    assert status == 0, said
    lines = [line for line in said.splitlines() if not line.startswith(" ")]
    home = common_site.key(workspace)
    assert lines == [f"provisioned {home}", f"archived    {archive_key(workspace)}", f"restored    {home}", "purged"]
    assert not common_site.volume(workspace).exists()


async def test_threads_have_a_storage_each(common_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, as in the threads of a web server."""
    site = common_site
    monkeypatch.setenv("TEMPORAL_ADDRESS", site.environment["TEMPORAL_ADDRESS"])

    def provision(workspace: str) -> str:
        with SyncStorage(site.place) as storage:
            return storage.provision(workspace)

    workspaces = [site.workspace_id() for _ in range(3)]
    made = await asyncio.gather(*(asyncio.to_thread(provision, workspace) for workspace in workspaces))
    assert made == [site.key(workspace) for workspace in workspaces]


async def test_interrupting_sync_code_ends_the_call_alone(common_site: Site) -> None:
    """Ctrl-C while it waits: the program ends, the operation stays open."""
    workspace = common_site.workspace_id()
    handle = handle_of(common_site, workspace)
    async with example(from_sync_code, common_site, workspace, "--place", NOBODY) as process:

        async def is_started() -> bool:
            try:
                await handle.describe()
            except RPCError:
                return False
            return True

        await until(is_started, "it starts nothing")
        process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
    assert "KeyboardInterrupt" in said.decode()
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await handle.terminate()
