"""Suites that start an engine, or install packages, run when they are asked for; and then they do run.

Asked for is what is named by its variable, or by its path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_VARIABLES = {
    _TESTS / "compose": "STORAGE_TESTS_COMPOSE",
    _TESTS / "docker": "STORAGE_TESTS_DOCKER",
    _TESTS / "k8s": "STORAGE_TESTS_K8S",
    _TESTS / "packaging": "STORAGE_TESTS_PACKAGING",
    _TESTS / "pages": "STORAGE_TESTS_PAGES",
}


class OnDemand:
    """A plugin. In CI a run fails unless a test has passed, and one of each suite that its variable asks for."""

    def __init__(self) -> None:
        self._passed: set[Path] = set()
        self._any_passed = False

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Leave out what nobody asked for."""
        variable = _VARIABLES.get(collection_path)
        if variable is None or os.environ.get(variable) or _is_named(collection_path, config):
            return None
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what ran."""
        if report.when == "call" and report.passed:
            self._any_passed = True
            self._passed.update(path for path in _VARIABLES if path.name in Path(report.location[0]).parts)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A suite of which everything was skipped has proved nothing."""
        if not os.environ.get("CI") or session.config.option.collectonly or hasattr(session.config, "workerinput"):
            return
        if not self._any_passed:
            sys.stderr.write("\nno test passed\n")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for path, variable in _VARIABLES.items():
            if os.environ.get(variable) and path not in self._passed:
                sys.stderr.write(f"\n{variable} is set, and no test of tests/{path.name} passed\n")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_named(suite: Path, config: pytest.Config) -> bool:
    """Is one of the arguments the suite, or in it."""
    named = [(config.invocation_params.dir / each.partition("::")[0]).resolve() for each in config.args]
    return any(path.is_relative_to(suite) for path in named)
