"""The commands that look: `list`, `show`, `config`, `version`, on real servers; and that each answers as its schema."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.keys import archive_key, manifest_key, record_key, workflow_id
from tests.harness.commands import Done, cli
from tests.harness.homes import provisioned, write
from tests.harness.seaweed import Seaweed, free_ports
from tests.harness.site import Site, common_ground, common_site, open_site
from tests.harness.temporal import temporal_in
from worker.cli.answers import ANSWERS
from worker.cli.exits import Exit
from worker.dev.temporal import TemporalServer

__all__ = ["common_ground", "common_site"]


async def row_of(site: Site, workspace: str, *options: str, **environment: str) -> dict[str, Any] | None:
    """What the list says of a workspace."""
    found = (await cli(site, "list", "--json", *options, **environment)).object()["workspaces"]
    return next((each for each in found if each["workspace_id"] == workspace), None)


async def until_listed(site: Site, workspace: str, *, open_runs: int = 0) -> None:
    """The server's own list shows a run, and as many open ones as there are: it comes a moment later."""
    query = f"WorkflowId = '{workflow_id(workspace)}'"
    async with asyncio.timeout(60):
        while True:
            statuses = [each.status async for each in site.temporal.list_workflows(query)]
            if statuses and statuses.count(WorkflowExecutionStatus.RUNNING) == open_runs:
                return
            await asyncio.sleep(0.1)


@pytest.fixture
def own_temporal(tmp_path: Path) -> Iterator[TemporalServer]:
    """Where nothing runs but what the test starts: `list` shows all that is open."""
    with temporal_in(tmp_path) as server:
        yield server


async def test_list_tells_each_state(tmp_path: Path, own_temporal: TemporalServer, seaweed: Seaweed) -> None:
    """One workspace in each state that the bucket and Temporal can tell; filters take what they name."""
    async with open_site(tmp_path / "site", own_temporal, seaweed) as site:
        site.start_worker()
        made = await asyncio.gather(*(provisioned(site) for _ in range(6)))
        warm, cold, both, emptied, bare, lost = [workspace for workspace, _ in made]
        wanted = {warm: "warm"}
        await asyncio.gather(*(site.storage.archive(site.key(workspace)) for workspace in (cold, both, bare, lost)))
        await site.storage.restore(archive_key(both))
        await site.storage.purge(site.key(emptied), None)
        await site.truth.delete(manifest_key(archive_key(bare)))
        await site.truth.delete(archive_key(lost))
        wanted |= {cold: "cold", both: "both", emptied: "empty", bare: "unproven", lost: "lost"}
        foreign, broken, half = "foreign", "broken", "half"
        await site.truth.put_if(f"archives/{foreign}.tar.gz", b"x" * 100, etag=None)
        await site.truth.put_if(record_key(broken), b"no record", etag=None)
        await site.truth.put_if(record_key(half), half_done(half, site.place), etag=None)
        wanted |= {foreign: "unproven", broken: "unknown", half: "unfinished"}
        moving = site.workspace_id()
        handle = await site.storage.start_provision(moving, place="nobody-serves-it")
        wanted[moving] = "moving"
        for workspace in (warm, cold, both, emptied, bare, lost):
            await until_listed(site, workspace)
        await until_listed(site, moving, open_runs=1)

        listed = await cli(site, "list", "--json")
        rows = {each["workspace_id"]: each for each in listed.object()["workspaces"]}
        assert {name: row["state"] for name, row in rows.items()} == wanted
        assert listed.status == Exit.OPERATOR  # for the broken record, which is named
        assert listed.object()["error"]["code"] == "ArchiveCorrupt"
        assert record_key(broken) in rows[broken]["problem"]
        assert (rows[cold]["operation"], rows[cold]["status"]) == ("archive", "completed")
        assert rows[cold]["archive_bytes"] == (await site.truth.head(archive_key(cold))).size_bytes  # type: ignore[union-attr]
        assert 0 <= rows[cold]["archive_age_seconds"] < 3600
        assert rows[foreign]["archive_bytes"] == 100
        assert (rows[moving]["run_id"], rows[moving]["status"]) == (handle.run_id, "running")

        await site.truth.delete(record_key(broken))
        chosen = (await cli(site, "list", "--state", "cold", "--state", "both", "--json")).object()["workspaces"]
        assert {each["workspace_id"] for each in chosen} == {cold, both}
        first = (await cli(site, "list", "--limit", "2", "--json")).object()["workspaces"]
        assert [each["workspace_id"] for each in first] == sorted(wanted.keys() - {broken, moving})[:2]
        text = (await cli(site, "list")).out
        assert text.startswith("WORKSPACE")
        assert f"\n{cold}" in text
        await site.temporal.get_workflow_handle(workflow_id(moving)).terminate()


def half_done(workspace: str, place: str) -> bytes:
    """The record of a workspace whose run never came to its end."""
    volume = VolumeRecord(uid="u", state=VolumeState.RESTORING, made_by="r")
    record = Record(workspace_id=workspace, place=place, owner=Owner(run_id="r", operation="restore"), volume=volume)
    return record.model_dump_json(exclude_none=True).encode()


async def test_list_without_one_of_its_sides(common_site: Site) -> None:
    """Temporal or the store away: the other side's rows, the error, and status 3."""
    ws, _ = await provisioned(common_site)
    await until_listed(common_site, ws)
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    done = await cli(common_site, "list", "--json", TEMPORAL_ADDRESS=nowhere)
    row = next(each for each in done.object()["workspaces"] if each["workspace_id"] == ws)
    assert (row["state"], row["operation"], row["status"]) == ("warm", "provision", None)
    assert (done.status, done.object()["error"]["code"]) == (Exit.RETRY, "BackendUnavailable")
    done = await cli(common_site, "list", "--json", CODEHUB_STORAGE_S3_ENDPOINT=f"http://{nowhere}")
    row = next(each for each in done.object()["workspaces"] if each["workspace_id"] == ws)
    assert (row["state"], row["operation"], row["status"]) == ("unknown", "provision", "completed")
    assert (done.status, done.object()["error"]["code"]) == (Exit.RETRY, "StoreUnavailable")


async def test_show(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Record, manifest, volume and its user, kept archives, runs with links; for people the same in lines."""
    async with open_site(
        tmp_path / "site", temporal_server, seaweed, versioned=True, CODEHUB_STORAGE_RETENTION="keep"
    ) as site:
        site.start_worker()
        ws, volume = await provisioned(site, text="first")
        first = await (await site.storage.start_archive(volume)).result()
        await site.storage.restore(archive_key(ws))
        write(site, ws, "second")
        second = await (await site.storage.start_archive(volume)).result()
        await site.storage.restore(archive_key(ws))
        await until_listed(site, ws)
        with site.habitat.using(ws) as user:
            done = await cli(site, "show", ws, "--json", CODEHUB_STORAGE_WEB_UI="http://ui.example/")
            found = done.object()
        assert done.status == Exit.DONE, done
        assert found["record"]["volume"]["state"] == "ready"
        assert (found["archive"]["archive_id"], found["archive"]["proven"]) == (second.archive_id, True)
        assert found["archive"]["segments"] >= 2
        assert found["archive"]["source"]["place"] == site.place
        assert [each["archive_id"] for each in found["kept"]] == [first.archive_id]
        assert found["volume"]["uid"] == found["record"]["volume"]["uid"]
        assert any(user in each["name"] for each in found["volume"]["users"])
        assert [each["operation"] for each in found["runs"]] == [
            "restore",
            "archive",
            "restore",
            "archive",
            "provision",
        ]
        run = found["runs"][0]
        assert run["link"] == (f"http://ui.example/namespaces/default/workflows/storage%2F{ws}/{run['run_id']}/history")
        text = (await cli(site, "show", ws)).out
        for words in (f"volume: {volume}, uid", "proven", f"kept: {first.archive_id}", "OPERATION"):
            assert words in text
        nowhere = f"127.0.0.1:{free_ports(1)[0]}"
        done = await cli(site, "show", ws, "--json", TEMPORAL_ADDRESS=nowhere)
        assert (done.status, done.object()["error"]["code"]) == (Exit.RETRY, "BackendUnavailable")
        assert (done.object()["archive"], done.object()["runs"]) == (found["archive"], [])
        away = (await cli(site, "show", ws, "--json", CODEHUB_STORAGE_VOLUME_ROOT=str(tmp_path))).object()
        assert away["volume"] is None
        assert "not mounted, or never marked" in away["volume_unknown"]


async def test_config(common_site: Site, tmp_path: Path) -> None:
    """What is in force, from where, and no secret of it."""
    done = await cli(
        common_site,
        "config",
        "--json",
        "--data-dir",
        str(tmp_path),
        CODEHUB_STORAGE_DOCKER_VOLUME_OPTIONS='{"o": "addr=x,password=hunter2", "type": "cifs"}',
        CODEHUB_STORAGE_DOCKER_HOST="tcp://user:hunter2@engine:2376",
    )
    assert done.status == Exit.DONE, done
    found = {each["variable"].removeprefix("CODEHUB_STORAGE_"): each for each in done.object()["settings"]}
    assert (found["BUCKET"]["value"], found["BUCKET"]["source"]) == (common_site.bucket, "environment")
    assert (found["DATA_DIR"]["value"], found["DATA_DIR"]["source"]) == (str(tmp_path), "option")
    assert (found["MAX_MOVERS"]["value"], found["MAX_MOVERS"]["source"]) == (4, "default")
    assert found["DOCKER_VOLUME_OPTIONS"]["value"]["type"] == "cifs"
    temporal = done.object()["temporal"]
    assert (temporal["address"], temporal["source"]) == (common_site.environment["TEMPORAL_ADDRESS"], "environment")
    for secret in (common_site.store.secret_key or "", common_site.store.access_key or "", "hunter2"):
        assert secret not in done.out
    text = await cli(common_site, "config")
    assert str(common_site.store.secret_key) not in text.out
    assert f"CODEHUB_STORAGE_BUCKET {common_site.bucket}" in " ".join(text.out.split())


async def test_version(common_site: Site) -> None:
    """Those of the servers too, where they answer; without them it still answers at once."""
    found = (await cli(common_site, "version", "--json")).object()
    assert found["temporal_server"]
    assert "SeaweedFS" in found["store"]
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    done = await cli(
        common_site, "version", "--json", TEMPORAL_ADDRESS=nowhere, CODEHUB_STORAGE_S3_ENDPOINT=f"http://{nowhere}"
    )
    assert (done.status, done.object()["temporal_server"], done.object()["store"]) == (Exit.DONE, None, None)
    assert (await cli(common_site, "--version")).out == f"codehub-storage {found['service']}\n"


async def test_every_command_answers_as_its_schema_says(common_site: Site, tmp_path: Path) -> None:
    """No key that docs/json.md does not have. What is not called here fails to be in the list of commands."""
    ws = common_site.workspace_id()
    volume, archive = f"ws_{ws}_home", archive_key(ws)
    (tmp_path / "stack.json").write_text("{")  # which `dev` refuses
    wrong = {"CODEHUB_STORAGE_VOLUME_ROOT": str(tmp_path)}

    async def answers(*lines: list[str], **environment: str) -> list[Done]:
        return await asyncio.gather(*(cli(common_site, *line, "--json", **environment) for line in lines))

    answered = [*await answers(["provision", ws]), *await answers(["archive", volume]), *await answers(["cancel", ws])]
    answered += await answers(["verify", archive], ["list"], ["show"], ["show", ws])
    answered += await answers(["config"], ["doctor"], ["version"], ["completion", "bash"], ["init"])
    answered += await answers(["restore", archive, "--no-wait"])
    await common_site.temporal.get_workflow_handle(workflow_id(ws)).result()
    answered += await answers(["purge", "--volume", volume, "--archive", archive])
    refused = await answers(["adopt", volume], ["worker"], ["dev", "--data-dir", str(tmp_path)], **wrong)
    assert {done.command for done in (*answered, *refused)} == set(ANSWERS)
    assert [done for done in refused if "error" not in done.object()] == []
    assert [done for done in answered if "error" in done.object()] == []
