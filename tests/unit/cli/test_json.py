"""What each command prints with `--json` is what the schema of its model says, on a store in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from activities.control import adoption as adopting
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.contracts import CancelOutcome, Operation, OperationResult, Phase, Progress
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key, record_key
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive
from tests.harness.json_schema import differences
from worker.cli.answers import (
    ANSWERS,
    CompletionAnswer,
    Failed,
    ListAnswer,
    RunsAnswer,
    ShowAnswer,
    Started,
    VersionAnswer,
)
from worker.cli.main import run

KEY = "ws1/home.tar.gz"


class Handle:
    """An operation that has ended."""

    def __init__(self, operation: Operation) -> None:
        self.operation, self.workspace_id, self.run_id = operation, "ws1", "run-1"

    async def result(self) -> OperationResult:
        """What an old worker may leave out is printed, too."""
        return OperationResult(operation=self.operation.value, workspace_id="ws1", home_store_key="ws_ws1_home")

    async def progress(self) -> Progress:
        """It waits."""
        return Progress(operation=self.operation.value, workspace_id="ws1", phase=Phase.COPYING)


class Storage:
    """Stands in for ``StorageClient``. ``called``: what it was asked for last, and with which keys."""

    called: ClassVar[tuple[object, ...]] = ()

    def __init__(self, client: object, *, place: str = "default") -> None:
        pass

    async def _start(self, operation: Operation, keys: tuple[object, ...]) -> Handle:
        type(self).called = (operation.value, *keys)
        return Handle(operation)

    async def start_provision(self, *keys: object, **options: object) -> Handle:
        """See ``StorageClient``."""
        return await self._start(Operation.PROVISION, keys)

    async def start_archive(self, *keys: object, **options: object) -> Handle:
        """See ``StorageClient``."""
        return await self._start(Operation.ARCHIVE, keys)

    async def start_restore(self, *keys: object, **options: object) -> Handle:
        """See ``StorageClient``."""
        return await self._start(Operation.RESTORE, keys)

    async def start_purge(self, *keys: object, **options: object) -> Handle:
        """See ``StorageClient``."""
        return await self._start(Operation.PURGE, keys)

    async def cancel(self, workspace_id: str) -> CancelOutcome:
        """See ``StorageClient``."""
        return CancelOutcome.TOO_LATE

    async def progress(self, workspace_id: str) -> Progress:
        """See ``StorageClient``."""
        return Progress(operation="archive", workspace_id=workspace_id, run_id="run-1", phase=Phase.DONE, closed=True)


class Server:
    """Stands in for Temporal's client: one run has ended, one is open for all that the list knows."""

    def list_workflows(self, query: str, **options: object) -> AsyncIterator[Any]:
        """See ``Client``."""
        attributes: list[SearchAttributePair[Any]] = [
            SearchAttributePair(SearchAttributeKey.for_keyword("WsId"), "ws1"),
            SearchAttributePair(SearchAttributeKey.for_int("WsPhase"), 7),  # of a namespace that has it otherwise
        ]
        run = SimpleNamespace(
            id="storage/ws1",
            run_id="run-1",
            namespace="default",
            workflow_type="archive",
            status=WorkflowExecutionStatus.COMPLETED,
            typed_search_attributes=TypedSearchAttributes(attributes),
            start_time=datetime.now(UTC),
            close_time=None,
        )

        async def runs() -> AsyncIterator[Any]:
            if "ExecutionStatus != 'Running'" not in query:
                yield SimpleNamespace(**{**vars(run), "status": WorkflowExecutionStatus.RUNNING})
            yield run

        return runs()

    def get_workflow_handle(self, workflow_id: str, *, run_id: str) -> Any:
        """One that has ended since it was listed."""

        async def describe() -> Any:
            return SimpleNamespace(status=WorkflowExecutionStatus.COMPLETED)

        return SimpleNamespace(describe=describe)


class World:
    """A bucket with an archive, a place with nothing, and nobody who works."""

    def __init__(self) -> None:
        self.store = MemoryStore(min_part_bytes=0, versioned=True)
        self.store_error: StorageError | None = None

    @asynccontextmanager
    async def open_store(self, *_: object) -> AsyncIterator[MemoryStore]:
        """In place of a connection."""
        if self.store_error is not None:
            raise self.store_error
        yield self.store

    async def fill(self, tree: Path) -> None:
        """An archive that is proven, an older one, and a record that calls a volume ready."""
        tree.mkdir()
        (tree / "file").write_bytes(b"x" * 9000)
        for archive_id in ("00000000-older", "00000000-archive"):
            made = await make_archive(tree, self.store, archive_id=archive_id)
            found = await self.store.head(manifest_key(KEY))
            await self.store.put_if(manifest_key(KEY), made.manifest.to_json(), etag=found.etag if found else None)
        owner = Owner(run_id="run-1", operation="restore", signed_off=True)
        volume = VolumeRecord(uid="u1", state=VolumeState.READY)
        record = Record(workspace_id="ws1", place="default", owner=owner, volume=volume)
        await self.store.put_if(record_key("ws1"), record.model_dump_json().encode(), etag=None)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """All that commands reach for."""
    world = World()
    (tmp_path / "volumes").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEHUB_STORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CODEHUB_STORAGE_VOLUME_ROOT", str(tmp_path / "volumes"))
    for module in ("worker.cli.bucket", "worker.store", "worker.wiring"):
        monkeypatch.setattr(f"{module}.open_store", world.open_store)
    for module in ("worker.cli.session", "worker.cli.workspace", "codehub_storage.client"):
        monkeypatch.setattr(f"{module}.StorageClient", Storage)

    async def connect(**_: object) -> Server:
        return Server()

    async def adopt(services: object, home_store_key: str) -> str:
        return f"uid of {home_store_key}"

    monkeypatch.setattr("worker.cli.session.connect", connect)
    monkeypatch.setattr(adopting, "adopt", adopt)
    assert run(["init"], StringIO(), StringIO()) == 0
    asyncio.run(world.fill(tmp_path / "tree"))
    return world


def printed(*line: str) -> dict[str, Any]:
    """The one object on stdout."""
    out, err = StringIO(), StringIO()
    run([*line, "--json"], out, err)
    assert out.getvalue().count("\n") == 1, err.getvalue()
    found = json.loads(out.getvalue())
    assert isinstance(found, dict)
    return found


LINES: dict[str, list[tuple[tuple[str, ...], type[BaseModel]]]] = {
    "init": [((), ANSWERS["init"][0])],
    "adopt": [(("ws1",), ANSWERS["adopt"][0])],
    "provision": [(("ws1",), OperationResult), (("ws1", "--no-wait"), Started)],
    "archive": [(("ws1",), OperationResult), (("ws_ws1_home", "--no-wait"), Started)],
    "restore": [(("ws1",), OperationResult), ((KEY, "--no-wait"), Started)],
    "purge": [(("ws1",), OperationResult), (("--archive", "ws1", "--no-wait"), Started)],
    "cancel": [(("ws1",), ANSWERS["cancel"][0])],
    "verify": [(("ws1",), ANSWERS["verify"][0])],
    "list": [((), ListAnswer)],
    "show": [(("ws1",), ShowAnswer), (("ws2",), ShowAnswer), ((), RunsAnswer)],
    "config": [((), ANSWERS["config"][0])],
    "doctor": [((), ANSWERS["doctor"][0])],
    "version": [((), VersionAnswer)],
    "completion": [(("bash",), CompletionAnswer)],
}


def test_no_command_is_left_out() -> None:
    """Each answer of each command is printed by a line."""
    told = {name: {model for _, model in lines} for name, lines in LINES.items()}
    assert told == {name: set(models) for name, models in ANSWERS.items() if models}


@pytest.mark.parametrize(
    ("line", "model"),
    [((name, *words), model) for name, lines in LINES.items() for words, model in lines],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_printed_is_what_the_schema_says(world: World, line: tuple[str, ...], model: type[BaseModel]) -> None:
    """Every key of it, and no other."""
    assert differences(printed(*line), model.model_json_schema(mode="serialization")) == []


def test_show_tells_what_both_sides_know(world: World) -> None:
    """The operation, the record, the proven archive, the older one that is kept, the volume that is lost, the runs."""
    found = printed("show", "ws1")
    assert (found["operation"]["phase"], found["record"]["volume"]["state"]) == ("done", "ready")
    assert (found["archive"]["proven"], found["volume_lost"]) == (True, True)
    assert [each["archive_id"] for each in found["kept"]] == ["00000000-older"]
    assert [each["phase"] for each in found["runs"]] == [None, None]
    out = StringIO()
    run(["show", "ws1"], out, StringIO())
    lines = [line.partition(":")[0] for line in out.getvalue().splitlines() if not line.startswith(" ")]
    assert lines == ["operation", "record", "LOST", "volume", "archive", "runs"]


@pytest.mark.parametrize(("line", "model"), [(("list",), ListAnswer), (("show", "ws1"), ShowAnswer)])
def test_what_is_known_is_printed_beside_the_error(world: World, line: tuple[str, ...], model: type[BaseModel]) -> None:
    """Of the store that does not answer nothing is known, of the runs all."""
    world.store_error = StorageError(ErrorCode.STORE_UNAVAILABLE, "no answer", details={"tries": (1, 2)})
    found = printed(*line)
    assert differences(found, model.model_json_schema(mode="serialization")) == []
    assert (found["error"]["code"], found["error"]["details"]) == ("StoreUnavailable", {"tries": [1, 2]})
    assert "run-1" in json.dumps(found)


@pytest.mark.parametrize("line", [("archive",), ("archive", "x/y"), ("show", "archives"), ("verify", "ws3")])
def test_a_failure_is_printed_as_its_schema_says(world: World, line: tuple[str, ...]) -> None:
    """Also that of a line that makes no sense."""
    assert differences(printed(*line), Failed.model_json_schema(mode="serialization")) == []


def test_a_key_more_or_less_is_a_difference() -> None:
    """The comparison itself can fail."""
    schema = ShowAnswer.model_json_schema(mode="serialization")
    found = ShowAnswer(workspace_id="ws1").model_dump(mode="json")
    assert differences(found, schema) == []
    assert differences({**found, "more": 1}, schema) == ["$.more: not in the schema"]
    assert differences({name: value for name, value in found.items() if name != "kept"}, schema) == ["$.kept: absent"]
    assert len(differences({**found, "kept": [{}], "volume_lost": 1}, schema)) > 1


@pytest.mark.parametrize(
    ("line", "called"),
    [
        (("archive", "ws1"), ("archive", "ws_ws1_home")),
        (("archive", "ws-a-home"), ("archive", "ws-a-home")),
        (("restore", "ws1"), ("restore", KEY)),
        (("restore", "archives/ws1.tar.gz"), ("restore", "archives/ws1.tar.gz")),
        (("purge", "ws1"), ("purge", "ws_ws1_home", KEY)),
        (("purge", "--volume", "ws1"), ("purge", "ws_ws1_home", None)),
        (("purge", "--archive", "ws1"), ("purge", None, KEY)),
    ],
)
def test_a_workspace_stands_for_its_keys(world: World, line: tuple[str, ...], called: tuple[object, ...]) -> None:
    """What the service is asked for in the end."""
    assert "error" not in printed(*line)
    assert Storage.called == called
