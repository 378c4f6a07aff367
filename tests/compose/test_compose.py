"""docker-compose.yml comes up as an operator brings it up, works, and goes down."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import activities
from tests.harness.compose import Compose
from tests.harness.docker import inspected
from tests.harness.trees import make_rich_tree, snapshot

SERVERS = {"minio", "postgresql", "temporal", "temporal-ui", "worker"}
ONCE = {"bucket", "init", "temporal-namespace", "temporal-schema"}
CHECKED = {"minio", "postgresql", "worker"}
"""They say of themselves whether they are healthy."""
MOVER_SECONDS = 120.0
HEALTHY_SECONDS = 300.0


@pytest.fixture
def running(compose: Compose) -> Compose:
    """All of it up; where it is already, this changes nothing."""
    compose.up()
    return compose


def fill(home: Path) -> None:
    """A small real tree and one of difficult names and kinds, without what no mover on Docker may carry."""
    make_rich_tree(home)
    shutil.copytree(Path(activities.__file__).parent, home / "project")
    for path in (home / "a/x", home / "zz-link"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("trusted."):
                os.removexattr(path, name, follow_symlinks=False)


def home_of(compose: Compose, key: str) -> Path:
    """Where the engine keeps a volume."""
    return compose.engine.data_root / "volumes" / key / "_data"


def tree(compose: Compose, key: str) -> dict[bytes, Any]:
    """All that stands in a volume. Holes are kept in large files only, see docs/archive-format.md."""
    return snapshot(home_of(compose, key), ignore=frozenset({"sparse"}))


def volumes(compose: Compose) -> set[str]:
    return set(compose.engine.docker("volume", "ls", "--quiet").split())


def test_comes_up(running: Compose) -> None:
    """Servers run, those with a check are healthy, the rest has done its work; each port answers on the host."""
    services = running.services()
    assert services.keys() == SERVERS | ONCE
    assert {name: services[name]["State"] for name in SERVERS} == dict.fromkeys(SERVERS, "running")
    assert {name: services[name]["ExitCode"] for name in ONCE} == dict.fromkeys(ONCE, 0)
    assert {name: services[name]["Health"] for name in CHECKED} == dict.fromkeys(CHECKED, "healthy")
    assert running.storage("show")["open"] == []
    assert "<html" in running.fetch("http://127.0.0.1:8233/").lower()
    found = json.loads(running.fetch("http://127.0.0.1:8233/api/v1/namespaces"))["namespaces"]
    assert "default" in {each["namespaceInfo"]["name"] for each in found}
    assert "<html" in running.fetch("http://127.0.0.1:9001/").lower()
    running.fetch("http://127.0.0.1:9000/minio/health/ready")


def test_worker_is_not_root(running: Compose) -> None:
    """It may use the engine's socket because of a group, and has no capability."""
    user, group, *groups = running("exec", "worker", "sh", "-c", "id -u; id -g; id -G").split()
    assert (user, group) == ("10001", "10001")
    assert "0" not in groups
    status = running("exec", "worker", "cat", "/proc/1/status")
    assert [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "NoNewPrivs"))] == [
        "0" * 16,
        "1",
    ]
    services = running.services()
    assert inspected(running.engine, services["worker"]["ID"])["HostConfig"]["ReadonlyRootfs"]


def test_the_whole_cycle(running: Compose) -> None:
    """All four operations, from container and host: the same tree comes back, and in the end nothing is left."""
    before = volumes(running)
    said = running("exec", "worker", "codehub-storage", "provision", "--json", "ws1")
    key = json.loads(said)["home_store_key"]
    fill(home_of(running, key))
    expected = tree(running, key)
    archive = running.storage("archive", key)["archive_key"]
    assert volumes(running) == before
    assert running.storage("restore", archive)["home_store_key"] == key
    assert tree(running, key) == expected
    running.storage("purge", "--volume", key, "--archive", archive)
    assert volumes(running) == before
    stored = running("exec", "minio", "find", "/data/codehub-archives/ws1", "-type", "f")
    assert "home.tar.gz" not in stored  # the record stays, as a tombstone


def test_the_worker_restarts_in_mid_archive(running: Compose) -> None:
    """The operation goes on, and ends well."""
    key = running.storage("provision", "ws2")["home_store_key"]
    home = home_of(running, key)
    fill(home)
    (home / "noise").write_bytes(os.urandom(48 << 20))
    expected = tree(running, key)
    with running.start_storage("archive", key) as archiving:
        wait_for_mover(running, "ws2")
        assert archiving.poll() is None
        running("restart", "worker")
        answer, said = archiving.communicate(timeout=600)
    assert archiving.returncode == 0, said.decode()
    assert key not in volumes(running)
    archive = json.loads(answer)["archive_key"]
    running.storage("restore", archive)
    assert tree(running, key) == expected
    running.storage("purge", "--volume", key, "--archive", archive)


def wait_for_mover(compose: Compose, workspace_id: str) -> None:
    """Until the workspace's home is being moved."""
    command = ("ps", "--quiet", "--filter", f"label=codehub-storage.workspace={workspace_id}")
    deadline = time.monotonic() + MOVER_SECONDS
    while not compose.engine.docker(*command).strip():
        assert time.monotonic() < deadline, "no mover was started"
        time.sleep(0.05)


@pytest.mark.field("O3")
@pytest.mark.parametrize("fall", ["kill", "crash"])
def test_the_engine_crashes_in_mid_archive(running: Compose, fall: str) -> None:
    """Nobody says `up`: all servers come back with the engine, and the operation, or the next one, ends well."""
    key = running.storage("provision", "ws4")["home_store_key"]
    home = home_of(running, key)
    fill(home)
    (home / "noise").write_bytes(os.urandom(48 << 20))
    expected = tree(running, key)
    with running.start_storage("archive", key) as archiving:
        wait_for_mover(running, "ws4")
        getattr(running.engine, fall)()
        archiving.kill()  # who has called is on that machine, too
    running.engine.start()
    wait_until_healthy(running)
    archive = running.storage("archive", key)["archive_key"]
    assert key not in volumes(running)
    running.storage("restore", archive)
    assert tree(running, key) == expected
    running.storage("purge", "--volume", key, "--archive", archive)


def wait_until_healthy(compose: Compose) -> None:
    """Until each server runs, and those that say so are well."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        services = compose.services()
        runs = {name for name in SERVERS if services.get(name, {}).get("State") == "running"}
        if runs == SERVERS and all(services[name]["Health"] == "healthy" for name in CHECKED):
            return
        assert time.monotonic() < deadline, f"{services}\n{compose('logs', '--tail', '40')}"
        time.sleep(0.5)


def test_archives_outlive_the_deployment(running: Compose) -> None:
    """After `down` and `up` the archive is there, and so is the operation's history."""
    key = running.storage("provision", "ws3")["home_store_key"]
    fill(home_of(running, key))
    expected = tree(running, key)
    archive = running.storage("archive", key)["archive_key"]
    running("down")
    assert running.services() == {}
    running.up()
    assert "ws3" in {each["workspace_id"] for each in running.storage("show")["ended"]}
    running.storage("restore", archive)
    assert tree(running, key) == expected
    running.storage("purge", "--volume", key, "--archive", archive)


def test_down_with_volumes_leaves_nothing(running: Compose) -> None:
    """But the images, and homes, if there were any."""
    running("down", "--volumes")
    engine = running.engine
    assert engine.docker("ps", "--all", "--quiet") == ""
    assert volumes(running) == set()
    assert set(engine.docker("network", "ls", "--format", "{{.Name}}").split()) == {"bridge", "host", "none"}
