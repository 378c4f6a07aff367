"""The images that are not the real ones are told with the result."""

from __future__ import annotations

import pytest

from tests.harness.standins import report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where this suite was collected."""
    terminalreporter.write_sep("=", "images that stood in for those of a registry")
    for line in report():
        terminalreporter.write_line(line)
