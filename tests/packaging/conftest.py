"""Both distributions, built once as `make dist` builds them, in a copy of the repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.sources import TOP, copy_sources, sources


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with ``dist/`` in it."""
    folder = tmp_path_factory.mktemp("checkout") / "codehub-storage"
    copy_sources(sources(), folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory", "dist"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="session")
def constraints() -> dict[str, str]:
    """What tells pip to install the versions that all other tests ran with."""
    return {"PIP_CONSTRAINT": str(TOP / "constraints.txt")}
