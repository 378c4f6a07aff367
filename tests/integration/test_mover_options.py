"""What a worker is told on its command line reaches its movers, and a mover that cannot start says so in one line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from activities.backends.directory.backend import DirectoryBackend
from activities.backends.starting import last_words, why_it_ended
from activities.dataplane.fingerprint import change_fingerprint
from codehub_storage import ErrorCode, StorageClient, StorageError
from tests.harness.homes import provisioned
from tests.harness.seaweed import Seaweed
from tests.harness.site import open_site
from worker.backends import MOVER_ENTRY, open_backend
from worker.cli.parser import commands_of
from worker.control import control_worker, lease_worker
from worker.dev.stack import DevStack
from worker.dev.temporal import TemporalServer
from worker.failpoint_wrappers import backend_with_failpoints
from worker.settings import Origin, Settings, variable
from worker.wiring import open_services

pytestmark = pytest.mark.field("S1")

PLACE = "elsewhere"


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[DevStack]:
    """An embedded stack in a folder that only `--data-dir` names."""
    async with DevStack(tmp_path / "stack") as stack:
        yield stack


def command(tmp_path: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """A command on another place of that stack's bucket; its home has no stack."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CODEHUB_STORAGE_")},
        "HOME": str(home),
        variable("place"): PLACE,
        variable("volume_root"): str(tmp_path / "volumes"),
    }
    return [sys.executable, "-m", "worker.cli.main", *arguments, "--data-dir", str(tmp_path / "stack")], environment


@contextmanager
def worker(tmp_path: Path) -> Iterator[Path]:
    """`codehub-storage worker --data-dir DIR`; its log."""
    log = tmp_path / "worker.log"
    words, environment = command(tmp_path, "worker")
    with log.open("ab") as out, subprocess.Popen(words, env=environment, stdout=out, stderr=out) as process:
        try:
            yield log
        finally:
            process.terminate()


async def test_a_workers_data_dir_reaches_its_movers(own_stack: DevStack, tmp_path: Path) -> None:
    """Archived and restored by movers that find the stack where the worker was told that it is."""
    (tmp_path / "volumes").mkdir()
    words, environment = command(tmp_path, "init")
    await asyncio.to_thread(subprocess.run, words, env=environment, check=True, capture_output=True)
    storage = await StorageClient.connect(
        target_host=own_stack.info.temporal_address, namespace=own_stack.info.namespace, place=PLACE
    )
    with worker(tmp_path):
        key = await storage.provision("ws1")
        (tmp_path / "volumes" / key / "file").write_text("first")
        archive = await asyncio.wait_for(storage.archive(key), 300)
        assert await storage.restore(archive) == key
        assert (tmp_path / "volumes" / key / "file").read_text() == "first"


def test_a_worker_has_no_option_that_is_no_setting() -> None:
    """Each option of the commands that start workers is one that a child is told of, or none of its business."""
    nobodys = {"--help", "-h", "--json", "--reset"}
    for name in ("worker", "dev"):
        options = {option for action in commands_of()[name]._actions for option in action.option_strings}
        assert {each.removeprefix("--").replace("-", "_") for each in options - nobodys} <= set(Settings.model_fields)


async def test_the_backend_of_movers_is_told_every_option(tmp_path: Path) -> None:
    """All settings that came from the command line, as the variables that a mover reads."""
    settings = Settings.load(tmp_path)
    options = [name for name in Settings.model_fields if settings.origin(name) is Origin.OPTION]
    assert settings.options() == {variable(name): str(getattr(settings, name)) for name in options}
    assert settings.options() == {"CODEHUB_STORAGE_DATA_DIR": str(tmp_path)}
    async with open_backend(settings) as backend:
        assert backend._starter.environment == settings.options()  # type: ignore[attr-defined]


# ------------------------------------------------------------ what keeps it from starting


async def test_a_mover_that_cannot_start_says_why(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """Its own code and hint, from the first mover and in one line: here its bucket is one that nobody made."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in site.environment.items():
                patch.setenv(name, value)
            settings = Settings.load()
        backend = DirectoryBackend(
            site.root,
            mover_entry=MOVER_ENTRY,
            walk=change_fingerprint,
            environment={**site.environment, variable("bucket"): "nobody-made-it"},
        )
        async with open_services(settings) as opened:
            services = replace(opened, backend=backend_with_failpoints(backend))
            async with control_worker(site.temporal, services), lease_worker(site.temporal, services, 1):
                _, key = await provisioned(site)
                with pytest.raises(StorageError) as failed:
                    await site.storage.archive(key)
        assert failed.value.code == ErrorCode.WRONG_STORE
        assert "nobody-made-it" in failed.value.message
        assert "\n" not in failed.value.message


@pytest.mark.parametrize("code", list(ErrorCode))
def test_the_last_words_of_a_mover(code: ErrorCode) -> None:
    """Final codes stay what they are; of others another mover may be luckier. One line each."""
    error = StorageError(code, 'it says "no"\nin two lines', hint="do that")
    found = why_it_ended(f"mover pid 7 ended with exit status 1; its last lines:\nbefore\n{last_words(error)}")
    assert "\n" not in last_words(error)
    assert found.hint == "do that"
    assert found.code == (ErrorCode.MOVER_FAILED if error.transient else code)


@pytest.mark.parametrize("death", ["SIGKILL", "x\nthe mover cannot start: {", "the mover cannot start: 5"])
def test_any_other_end_of_a_mover(death: str) -> None:
    """MoverFailed, with all that is known."""
    found = why_it_ended(death)
    assert (found.code, death in found.message) == (ErrorCode.MOVER_FAILED, True)
