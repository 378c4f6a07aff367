"""The commands as programs, against real servers: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from codehub_storage.keys import archive_key, manifest_key, workflow_id
from tests.harness.commands import cli, end_of, running
from tests.harness.seaweed import Seaweed, free_ports
from tests.harness.site import Site, common_ground, common_site, open_site
from worker.cli.exits import Exit
from worker.dev.info import DevInfo
from worker.dev.temporal import TemporalServer

__all__ = ["common_ground", "common_site"]


async def test_a_workspace_s_life(common_site: Site) -> None:
    """Provision, archive, verify, restore, purge: keys on stdout for scripts, all fields for programs."""
    ws = common_site.workspace_id()
    made = await cli(common_site, "provision", ws)
    assert (made.status, made.out) == (Exit.DONE, f"ws_{ws}_home\n"), made
    (common_site.volume(ws) / "file").write_text("content")

    archived = await cli(common_site, "archive", f"ws_{ws}_home", "--json")
    assert archived.status == Exit.DONE, archived
    fields = archived.object()
    assert (fields["archive_key"], fields["home_store_key"]) == (archive_key(ws), f"ws_{ws}_home")
    assert all(fields[name] for name in ("volume_uid", "archive_id", "run_id"))
    assert fields["files"] == 1

    verified = await cli(common_site, "verify", archive_key(ws), "--json")
    assert verified.status == Exit.DONE, verified
    assert verified.object()["archive_id"] == fields["archive_id"]

    known = (await cli(common_site, "show", ws, "--json")).object()
    assert known["operation"]["operation"] == "archive"
    assert known["archive"]["proven"] is True

    restored = await cli(common_site, "restore", archive_key(ws))
    assert (restored.status, restored.out) == (Exit.DONE, f"ws_{ws}_home\n"), restored
    assert (common_site.volume(ws) / "file").read_text() == "content"

    purged = await cli(common_site, "purge", "--volume", f"ws_{ws}_home", "--archive", archive_key(ws), "--json")
    assert purged.status == Exit.DONE, purged
    assert sorted(purged.object()["removed"]) == sorted(
        [archive_key(ws), manifest_key(archive_key(ws)), f"ws_{ws}_home"]
    )
    known = (await cli(common_site, "show", ws, "--json")).object()
    assert (known["record"]["volume"], known["archive"]) == (None, None)


async def test_failure_of_an_operation(common_site: Site) -> None:
    """Status 4 where a person has to look; the object names code, hint and run, stdout is empty without `--json`."""
    ws = common_site.workspace_id()
    done = await cli(common_site, "restore", archive_key(ws), "--json")
    assert done.status == Exit.OPERATOR, done
    found = done.object()
    assert found["run_id"]
    error = found["error"]
    assert (error["code"], error["retryable"]) == ("ArchiveNotFound", False)
    assert error["hint"] in done.err
    done = await cli(common_site, "archive", f"ws_{ws}_home")
    assert (done.status, done.out) == (Exit.OPERATOR, ""), done
    error, safe, do = done.err.splitlines()[:3]
    assert error.startswith("error: VolumeNotFound: ")
    assert safe == "  safe:    nothing was touched: there is no such volume, and no archive of it"
    assert do.startswith("  do:      ")


@pytest.mark.parametrize(
    "line",
    [("provision", "BAD"), ("archive", "x/y"), ("restore", "ws_x_home"), ("verify", "X"), ("show", "archives")],
    ids=" ".join,
)
async def test_wrong_key(common_site: Site, line: tuple[str, ...]) -> None:
    """Status 2: nothing was touched."""
    done = await cli(common_site, *line, "--json")
    assert done.status == Exit.USAGE, done
    assert done.object()["error"]["code"] == "InvalidInput"


async def test_wrong_setting(common_site: Site) -> None:
    """Named by its variable; status 2."""
    done = await cli(common_site, "show", CODEHUB_STORAGE_MAX_MOVERS="none")
    assert done.status == Exit.USAGE, done
    assert "CODEHUB_STORAGE_MAX_MOVERS" in done.err


async def test_nobody_there(common_site: Site) -> None:
    """Status 3, and the hint says what to check."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    done = await cli(common_site, "provision", "ws1", "--json", TEMPORAL_ADDRESS=address)
    assert done.status == Exit.RETRY, done
    error = done.object()["error"]
    assert (error["code"], error["retryable"]) == ("BackendUnavailable", True)
    assert address in error["message"]
    assert "TEMPORAL_ADDRESS" in error["hint"]


async def test_interrupted_wait(common_site: Site) -> None:
    """Ctrl-C ends the command, not the operation, and says so; what asks for the workspace meanwhile is refused."""
    ws = common_site.workspace_id()
    async with running(common_site.environment, "provision", ws, "--place", "nobody-serves-it", "--json") as process:
        assert process.stderr is not None
        first = (await process.stderr.readline()).decode()
        assert "waits for a worker" in first
        process.send_signal(signal.SIGINT)
        done = await end_of(process, "provision")
    assert done.status == 128 + signal.SIGINT, done
    found = done.object()
    assert (found["operation"], found["interrupted"]) == ("provision", True)
    assert f"codehub-storage cancel {ws}" in done.err
    assert found["run_id"] in done.err

    other = await cli(common_site, "archive", f"ws_{ws}_home", "--json")
    assert other.status == Exit.RETRY, other
    assert other.object()["error"]["code"] == "OperationInProgress"
    listed = (await until_listed(common_site, found["run_id"]))["open"]
    assert ws in [each["workspace_id"] for each in listed]
    await common_site.temporal.get_workflow_handle(workflow_id(ws), run_id=found["run_id"]).terminate()


async def until_listed(site: Site, run_id: str) -> dict[str, Any]:
    """The list, once it shows the run: the server's list comes a moment later."""
    async with asyncio.timeout(60):
        while True:
            found = (await cli(site, "show", "--json")).object()
            if any(each["run_id"] == run_id for each in (*found["open"], *found["ended"])):
                return found


async def test_no_wait(common_site: Site) -> None:
    """Prints the run id and leaves; the same call again joins that run or finds its work done."""
    ws = common_site.workspace_id()
    started = await cli(common_site, "provision", ws, "--no-wait")
    assert started.status == Exit.DONE, started
    run_id = started.out.strip()
    result = await common_site.temporal.get_workflow_handle(workflow_id(ws), run_id=run_id).result()
    assert result["home_store_key"] == f"ws_{ws}_home"
    again = await cli(common_site, "provision", ws)
    assert (again.status, again.out) == (Exit.DONE, f"ws_{ws}_home\n"), again


async def test_cancel(common_site: Site) -> None:
    """`cancelled` with status 0 where the volume is ready, `too_late` with 6 where it is gone."""
    ws = common_site.workspace_id()
    await common_site.storage.provision(ws)
    done = await cli(common_site, "cancel", ws)
    assert (done.status, done.out) == (Exit.DONE, "cancelled\n"), done
    await common_site.storage.archive(f"ws_{ws}_home")
    done = await cli(common_site, "cancel", ws, "--json")
    assert done.status == Exit.TOO_LATE, done
    assert done.object() == {"workspace_id": ws, "outcome": "too_late"}


async def test_lost_manifest(common_site: Site) -> None:
    """Without its manifest an archive is not restored; `verify --write-manifest` proves it anew, and it is."""
    ws = common_site.workspace_id()
    await common_site.storage.provision(ws)
    (common_site.volume(ws) / "file").write_text("content")
    key = await common_site.storage.archive(f"ws_{ws}_home")
    await common_site.truth.delete(manifest_key(key))
    done = await cli(common_site, "verify", key, "--json")
    assert done.status == Exit.OPERATOR, done
    assert done.object()["error"]["code"] == "ArchiveUnproven"
    done = await cli(common_site, "verify", key, "--write-manifest", "--json")
    assert done.status == Exit.DONE, done
    assert done.object()["manifest_written"] is True
    done = await cli(common_site, "restore", key)
    assert done.status == Exit.DONE, done
    assert (common_site.volume(ws) / "file").read_text() == "content"


async def test_init_again(common_site: Site) -> None:
    """A place that is marked already answers with its marks."""
    first = await cli(common_site, "init", "--json")
    again = await cli(common_site, "init", "--json")
    assert (first.status, again.status) == (Exit.DONE, Exit.DONE), (first, again)
    assert first.object() == again.object()
    assert first.object()["place"] == common_site.place


async def test_worker(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """`worker` serves the place that the settings name; SIGTERM ends it with status 0."""
    async with (
        open_site(tmp_path / "site", temporal_server, seaweed) as site,
        running(site.environment, "worker") as process,
    ):
        ws = site.workspace_id()
        assert await site.storage.provision(ws) == f"ws_{ws}_home"
        process.terminate()
        done = await end_of(process)
    assert (done.status, done.out) == (Exit.DONE, ""), done


async def test_worker_in_the_wrong_place(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """A worker whose volume root bears no mark refuses to serve."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        (tmp_path / "empty").mkdir()
        done = await cli(site, "worker", CODEHUB_STORAGE_VOLUME_ROOT=str(tmp_path / "empty"))
    assert done.status == Exit.OPERATOR, done
    assert "error: WrongStore: " in done.err


@pytest.fixture
def own_stack_folder(tmp_path: Path) -> Path:
    """Where a test starts stacks itself."""
    return tmp_path / "data"


async def test_dev(tmp_path: Path, own_stack_folder: Path) -> None:
    """A line with `ready` and one with what to type next; the other commands find it by its folder; a second one is
    refused, even to reset; SIGTERM ends all. `--reset` begins with nothing, and leaves what is not the stack's."""
    folder = own_stack_folder
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    async with running(environment, "dev", "--data-dir", str(folder)) as stack:
        assert stack.stdout is not None
        assert "ready" in (await stack.stdout.readline()).decode()
        assert f"codehub-storage --data-dir {folder} provision ws1" in (await stack.stdout.readline()).decode()
        info = DevInfo.read(folder)
        assert info is not None
        async with running(environment, "--data-dir", str(folder), "provision", "ws1") as process:
            made = await end_of(process)
        assert (made.status, made.out) == (Exit.DONE, "ws_ws1_home\n"), made
        assert (Path(info.volume_root) / "ws_ws1_home").is_dir()
        async with running(environment, "dev", "--data-dir", str(folder), "--reset") as process:
            second = await end_of(process)
        assert second.status == Exit.RETRY, second
        assert "runs on" in second.err
        assert (Path(info.volume_root) / "ws_ws1_home").is_dir()
        stack.terminate()
        done = await end_of(stack)
    assert (done.status, done.out) == (Exit.DONE, ""), done
    assert DevInfo.read(folder) is None
    (folder / "notes.txt").write_text("of a person")
    async with running(environment, "dev", "--data-dir", str(folder), "--reset") as stack:
        assert stack.stdout is not None
        assert "were removed" in (await stack.stdout.readline()).decode()
        assert "ready" in (await stack.stdout.readline()).decode()
        assert list((folder / "volumes").glob("ws_*")) == []
        async with running(environment, "show", "--json", "--data-dir", str(folder)) as process:
            assert json.loads((await end_of(process)).out) == {"open": [], "ended": []}
        stack.terminate()
        await end_of(stack)
    assert (folder / "notes.txt").read_text() == "of a person"
