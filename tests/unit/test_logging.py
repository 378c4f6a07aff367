"""The logs: every line says what it is about, in one line, and never shows a key."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from tests.harness.speaking import Speaking, speak
from worker.dev.temporal import TemporalServer
from worker.logging import configure
from worker.settings import Settings

log = logging.getLogger("tests.logging")
SETTINGS = Settings.model_validate(
    {"log_format": "json", "log_level": "DEBUG", "s3_access_key": "hush-access", "s3_secret_key": "hush-secret"}
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; pytest's own handlers and the levels are put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    target = io.StringIO()
    configure(SETTINGS, target)
    yield target
    root.handlers, root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line(stream: io.StringIO) -> None:
    """One object for each record: level, logger, message, and the fields of ``extra``."""
    log.info("moved %s", "x", extra={"size_bytes": 5})
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "INFO", "logger": "tests.logging", "message": "moved x", "size_bytes": 5}


def test_secrets_are_masked(stream: io.StringIO) -> None:
    """A key is masked in messages, extras and tracebacks."""
    try:
        raise RuntimeError("refused hush-secret")
    except RuntimeError:
        log.exception("with hush-access", extra={"answer": "hush-secret"})
    assert "hush" not in stream.getvalue()
    assert "***" in lines(stream)[0]["error"]


def test_request_headers_are_not_logged(stream: io.StringIO) -> None:
    """At DEBUG the client library would print signed requests."""
    logging.getLogger("botocore.auth").debug("Authorization: x")
    log.debug("ours")
    assert [line["message"] for line in lines(stream)] == ["ours"]


def test_text_cannot_forge_a_line(stream: io.StringIO) -> None:
    """A file name with a line break does not make a second line."""
    configure(SETTINGS.model_copy(update={"log_format": "text"}), stream)
    log.warning("cannot read %s", "a\nb", extra={"workspace": "ws1", "operation": "archive", "run": "r1"})
    (line,) = stream.getvalue().splitlines()
    assert "WARNING" in line
    assert "[ws1 archive r1] cannot read a\\nb" in line


async def test_temporal_names_the_run(temporal_server: TemporalServer, stream: io.StringIO) -> None:
    """In a workflow and in an activity the fields come from Temporal."""
    client = await Client.connect(temporal_server.address)
    async with Worker(client, task_queue="logging", workflows=[Speaking], activities=[speak]):
        handle = await client.start_workflow(Speaking.run, id="storage/ws7", task_queue="logging")
        await handle.result()
    said = {line["message"]: line for line in lines(stream)}
    for message in ("from the workflow", "from the activity"):
        line = said[message]
        run = handle.first_execution_run_id
        assert (line["workspace"], line["operation"], line["run"]) == ("ws7", "archive", run)
