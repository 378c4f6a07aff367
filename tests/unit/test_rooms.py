"""What a mover loads: the less it is, the sooner it starts, and the less can fail beside the bytes."""

from __future__ import annotations

import json
import subprocess
import sys

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
