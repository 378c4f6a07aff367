"""In CI a run that has proved nothing fails: nothing passed, or nothing of a suite that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
CONFTEST = """
from tests.harness.suites import OnDemand
def pytest_configure(config):
    config.pluginmanager.register(OnDemand())
"""
SKIPPED = "import pytest\ndef test_skipped(): pytest.skip('not here')\n"
PASSES = "def test_passes(): pass\n"


@pytest.mark.parametrize(
    ("module", "asked_for", "in_ci", "status"),
    [
        (PASSES, "", True, 0),
        (SKIPPED, "", True, 1),
        (SKIPPED, "", False, 0),
        (PASSES, "STORAGE_TESTS_K8S", True, 1),
        (PASSES, "STORAGE_TESTS_K8S", False, 0),
    ],
)
def test_a_run_that_proved_nothing_fails_in_ci(
    tmp_path: Path, module: str, asked_for: str, in_ci: bool, status: int
) -> None:
    """Whatever was skipped, and by whichever reason."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(module)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("STORAGE_TESTS_", "PYTEST_", "CI"))
    }
    environment = {
        **kept,
        "PYTHONPATH": str(TOP),
        **({asked_for: "1"} if asked_for else {}),
        **({"CI": "1"} if in_ci else {}),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == status
