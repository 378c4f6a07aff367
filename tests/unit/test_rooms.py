"""What a mover loads: the less it is, the sooner it starts, and the less can fail beside the bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.exits import Exit

OURS = ("activities", "codehub_storage", "worker", "workflows")
MODULES_AT_MOST = 72
"""It was 110 with the workflows and a backend among them. 15 are the data plane, which was 42 modules in Python."""


def _loaded_by(module: str) -> list[str]:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [name for name in json.loads(found.stdout) if name.partition(".")[0] in OURS]


def test_a_mover_loads_no_workflow_and_no_backend() -> None:
    """Import rules say so of imports; this is what Python really loads."""
    loaded = _loaded_by("worker.mover")
    assert [name for name in loaded if name.startswith("workflows.")] == ["workflows.messages"]
    assert [name for name in loaded if name.startswith("activities.control")] == []
    for backend in ("directory", "docker", "kubernetes"):
        assert f"activities.backends.{backend}" not in loaded
    assert len(loaded) <= MODULES_AT_MOST, loaded


def test_what_replays_loads_no_activity() -> None:
    """Workflows replay without what activities need."""
    assert [name for name in _loaded_by("workflows.archive") if name.startswith(("activities", "worker"))] == []


@pytest.mark.parametrize("command", ["provision", "archive", "restore", "purge", "cancel"])
def test_a_command_that_asks_temporal_alone_loads_no_client_of_s3(command: str, tmp_path: Path) -> None:
    """It would take half a second of a processor, for nothing. Nothing answers here: by then all is loaded."""
    program = (
        f"import sys; from worker.cli.main import run; print(run({[command, 'ws1', '--data-dir', str(tmp_path)]}))"
    )
    program += "; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "TEMPORAL_ADDRESS": "127.0.0.1:9", "CODEHUB_STORAGE_BACKEND": "directory"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    status, loaded = found.stdout.splitlines()[-2:]
    assert int(status) == Exit.RETRY, found.stderr
    assert "temporalio" in loaded.split()
    assert not {"aioboto3", "botocore", "aiodocker", "kubernetes_asyncio"} & set(loaded.split())
