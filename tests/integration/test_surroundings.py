"""No raw exception ever leaves the client: each public call, in each kind of broken surroundings."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

import codehub_storage
from codehub_storage import ErrorCode, OperationHandle, StorageClient, StorageError
from codehub_storage.contracts import Operation
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import workflow_id
from tests.harness.refusals import refused
from tests.harness.site import Site
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.field("E14")

CALLS: dict[str, Callable[[StorageClient], Awaitable[object]]] = {
    "provision": lambda storage: storage.provision("ws1"),
    "archive": lambda storage: storage.archive("ws_ws1_home"),
    "restore": lambda storage: storage.restore("ws1/home.tar.gz"),
    "purge": lambda storage: storage.purge("ws_ws1_home", None),
    "start_provision": lambda storage: storage.start_provision("ws1"),
    "start_archive": lambda storage: storage.start_archive("ws_ws1_home"),
    "start_restore": lambda storage: storage.start_restore("ws1/home.tar.gz"),
    "start_purge": lambda storage: storage.start_purge(None, "ws1/home.tar.gz"),
    "progress": lambda storage: storage.progress("ws1"),
    "cancel": lambda storage: storage.cancel("ws1"),
    "handle.result": lambda storage: handle_of(storage).result(),
    "handle.progress": lambda storage: handle_of(storage).progress(),
    "handle.cancel": lambda storage: handle_of(storage).cancel(),
}


def handle_of(storage: StorageClient) -> OperationHandle:
    """A handle of a run that was started once."""
    client = storage._client
    run = client.get_workflow_handle(workflow_id("ws1"), run_id="0a49ab80-f12e-4a15-9ff9-fb8dd5ecb1f5")
    return OperationHandle("ws1", Operation.ARCHIVE, "0a49ab80-f12e-4a15-9ff9-fb8dd5ecb1f5", run, client)


def test_every_public_call_is_called() -> None:
    """A new one is to be added above."""
    found = {name for name, _ in inspect.getmembers(StorageClient, inspect.isfunction) if not name.startswith("_")}
    found |= {
        f"handle.{name}"
        for name, _ in inspect.getmembers(OperationHandle, inspect.isfunction)
        if not name.startswith("_")
    }
    assert found == set(CALLS)


async def told(call: Awaitable[object]) -> StorageError:
    """The error of a call: it is one of ours, in one line, with a hint."""
    error = await refused(call)
    assert "\n" not in str(error)
    assert error.hint
    return error


# ------------------------------------------------------------ connecting


@pytest.mark.tool("unshare")
def test_the_guides_first_line_needs_no_settings() -> None:
    """localhost:7233, as the docs say; there is no server on it in a network of its own."""
    program = "import asyncio, codehub_storage as c\nasyncio.run(c.StorageClient.connect())"
    run = ["unshare", "--net", "--map-root-user", sys.executable, "-c", program]
    folder = str(Path(codehub_storage.__file__).parents[1])
    done = subprocess.run(run, env={"PATH": os.environ["PATH"], "PYTHONPATH": folder}, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("BackendUnavailable: no Temporal server at localhost:7233")


BAD_ENVIRONMENT = {
    "no server": ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, ErrorCode.BACKEND_UNAVAILABLE, "TEMPORAL_ADDRESS"),
    "no port": ({"TEMPORAL_ADDRESS": "127.0.0.1"}, ErrorCode.BACKEND_UNAVAILABLE, "TEMPORAL_ADDRESS"),
    "no host": ({"TEMPORAL_ADDRESS": ":7233"}, ErrorCode.INVALID_INPUT, "TEMPORAL_ADDRESS"),
    "no such port": ({"TEMPORAL_ADDRESS": "localhost:99999"}, ErrorCode.INVALID_INPUT, "TEMPORAL_ADDRESS"),
    "blank": ({"TEMPORAL_ADDRESS": "a b"}, ErrorCode.INVALID_INPUT, "TEMPORAL_ADDRESS"),
    "a URL": ({"TEMPORAL_ADDRESS": "http://127.0.0.1:1"}, ErrorCode.INVALID_INPUT, "TEMPORAL_ADDRESS"),
    "no text": ({"TEMPORAL_ADDRESS": "\udcff:7233"}, ErrorCode.INVALID_INPUT, "TEMPORAL_ADDRESS"),
    "no profile": ({"TEMPORAL_PROFILE": "nope"}, ErrorCode.INVALID_INPUT, "TEMPORAL_PROFILE"),
    "broken toml": ({"TEMPORAL_CONFIG_FILE": "{broken}"}, ErrorCode.INVALID_INPUT, "TEMPORAL_CONFIG_FILE"),
    "wrong type in toml": ({"TEMPORAL_CONFIG_FILE": "{types}"}, ErrorCode.INVALID_INPUT, "TEMPORAL_CONFIG_FILE"),
    "a folder for toml": ({"TEMPORAL_CONFIG_FILE": "{folder}"}, ErrorCode.INVALID_INPUT, "TEMPORAL_CONFIG_FILE"),
    "no certificate": (
        {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/none", "TEMPORAL_TLS_CLIENT_KEY_PATH": "/none"},
        ErrorCode.INVALID_INPUT,
        "TEMPORAL_TLS",
    ),
    "certificate without key": (
        {"TEMPORAL_TLS_CLIENT_CERT_PATH": "{garbage}"},
        ErrorCode.INVALID_INPUT,
        "TEMPORAL_TLS",
    ),
    "garbage for PEM": (
        {"TEMPORAL_TLS_CLIENT_CERT_PATH": "{garbage}", "TEMPORAL_TLS_CLIENT_KEY_PATH": "{garbage}"},
        ErrorCode.INVALID_INPUT,
        "TEMPORAL_TLS",
    ),
    "garbage for an authority": (
        {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "{garbage}"},
        ErrorCode.INVALID_INPUT,
        "TEMPORAL_TLS",
    ),
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """What the variables name, by what stands in braces."""
    texts = {
        "broken": "= [",
        "types": "[profile.default]\naddress = 5\n",
        "garbage": "no certificate",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {"folder": str(tmp_path), **{name: str(tmp_path / name) for name in texts}}


@pytest.mark.parametrize("kind", BAD_ENVIRONMENT)
async def test_bad_settings_are_told(kind: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One of our errors, whose hint names what to look at."""
    variables, code, hint = BAD_ENVIRONMENT[kind]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(**files))
    error = await told(StorageClient.connect())
    assert (error.code, hint in error.hint) == (code, True), error


@pytest.mark.parametrize("kind", BAD_ENVIRONMENT)
def test_the_cli_tells_them_in_a_line(kind: str, files: dict[str, str]) -> None:
    """No traceback; the line of the error, and one of what to do."""
    variables, code, _ = BAD_ENVIRONMENT[kind]
    environment = {**os.environ, **{name: value.format(**files) for name, value in variables.items()}}
    command = [sys.executable, "-m", "worker.cli.main", "show"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    error, do = done.stderr.splitlines()
    assert error.startswith(f"error: {code.value}: ")
    assert do.startswith("  do: ")


@pytest.mark.parametrize(
    "options",
    [
        {"target_host": 5},
        {"target_host": None},
        {"nonsense": 1},
        {"target_host": "127.0.0.1:1", "data_converter": 3},
        {"target_host": "127.0.0.1:1", "tls": "perhaps"},
        {"target_host": "127.0.0.1:1", "place": 3},
    ],
)
async def test_bad_options_are_told(options: dict[str, Any]) -> None:
    """Of the wrong type, or unknown."""
    await told(StorageClient.connect(**options))


async def test_a_client_is_made_of_a_client() -> None:
    """And of nothing else."""
    with pytest.raises(StorageError) as caught:
        StorageClient("localhost:7233")  # type: ignore[arg-type]
    assert "connect()" in caught.value.hint


# ------------------------------------------------------------ calling


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_is_away_is_told(call: str) -> None:
    """BackendUnavailable, by every call."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        client = await Client.connect(f"127.0.0.1:{silent.getsockname()[1]}", lazy=True, data_converter=DATA_CONVERTER)
        error = await told(CALLS[call](StorageClient(client)))
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE


@pytest.mark.parametrize("call", CALLS)
async def test_a_namespace_that_is_missing_is_told(temporal_server: TemporalServer, call: str) -> None:
    """InvalidInput, and how to make it; never that the workspace is unknown, or that nothing runs."""
    storage = await StorageClient.connect(target_host=temporal_server.address, namespace="nosuch")
    error = await told(CALLS[call](storage))
    assert (error.code, "namespace create -n nosuch" in error.hint) == (ErrorCode.INVALID_INPUT, True), error


BAD_ARGUMENTS: list[Callable[[StorageClient], Awaitable[object]]] = [
    lambda storage: storage.provision(None),  # type: ignore[arg-type]
    lambda storage: storage.provision("ws1", place=5),  # type: ignore[arg-type]
    lambda storage: storage.provision("ws1", place="NO"),
    lambda storage: storage.provision("ws1", accept_loss="NO"),
    lambda storage: storage.provision("ws1", size_bytes="much"),  # type: ignore[arg-type]
    lambda storage: storage.provision("ws1", size_bytes=0),
    lambda storage: storage.provision("ws1", storage_class=7),  # type: ignore[arg-type]
    lambda storage: storage.provision("ws1", storage_class="\udcff"),
    lambda storage: storage.provision("ws1", storage_class="x" * (5 << 20)),
    lambda storage: storage.archive(b"ws_ws1_home"),  # type: ignore[arg-type]
    lambda storage: storage.archive("ws_ws1_home", expected_volume_uid=5),  # type: ignore[arg-type]
    lambda storage: storage.archive("ws_ws1_home", remove_stopped="perhaps"),  # type: ignore[arg-type]
    lambda storage: storage.restore(["ws1/home.tar.gz"]),  # type: ignore[arg-type]
    lambda storage: storage.restore("ws1/home.tar.gz", archive_id={}),  # type: ignore[arg-type]
    lambda storage: storage.purge("ws_ws1_home", "ws2/home.tar.gz"),
    lambda storage: storage.purge(5, None),  # type: ignore[arg-type]
    lambda storage: storage.start_purge(None, None),
    lambda storage: storage.progress(object()),  # type: ignore[arg-type]
    lambda storage: storage.cancel("ws1", place=[]),  # type: ignore[arg-type]
    lambda storage: storage.cancel("archives"),
    lambda storage: storage.provision(),  # type: ignore[call-arg]
]


@pytest.mark.parametrize("number", range(len(BAD_ARGUMENTS)))
async def test_bad_arguments_are_told(common_site: Site, number: int) -> None:
    """InvalidInput, and nothing is started."""
    error = await told(BAD_ARGUMENTS[number](common_site.storage))
    assert error.code is ErrorCode.INVALID_INPUT, error
