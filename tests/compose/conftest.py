"""An engine for the deployment; which of its images are not the real ones is told with the result."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import standins
from tests.harness.compose import GROUP, Compose
from tests.harness.docker import OwnEngine, their_engine
from tests.harness.standins import report


@pytest.fixture(scope="package")
def compose() -> Iterator[Compose]:
    """An engine with all images."""
    if their_engine() is not None:
        pytest.skip("needs root, dockerd and debootstrap, to start an engine of its own")
    with OwnEngine(GROUP) as engine:
        standins.provide(engine)
        yield Compose(engine, {"CODEHUB_STORAGE_SETTLE": "1"})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where this suite was collected."""
    terminalreporter.write_sep("=", "images that stood in for those of a registry")
    for line in report():
        terminalreporter.write_line(line)
