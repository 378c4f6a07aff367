"""What all tests share: real servers, one of each for the whole run, and the promise that no process is left.

Each test makes its own clients, in its own event loop.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import leftovers, parts, shared
from tests.harness.cluster.fixture import cluster
from tests.harness.docker import docker_engine
from tests.harness.fieldrows import FieldRows
from tests.harness.forked import no_server_stays
from tests.harness.habitats import prepare_habitats
from tests.harness.image import docker_image
from tests.harness.marks import mark_by_fixtures
from tests.harness.servers import minio, s3_server, seaweed, site_store, store_admin, temporal_server
from tests.harness.shared import shared_servers
from tests.harness.site import common_ground, common_site
from tests.harness.suites import OnDemand
from tests.harness.temporal import time_skipping

__all__ = [
    "cluster",
    "common_ground",
    "common_site",
    "docker_engine",
    "docker_image",
    "minio",
    "no_server_stays",
    "prepare_habitats",
    "s3_server",
    "seaweed",
    "shared_servers",
    "site_store",
    "store_admin",
    "temporal_server",
    "time_skipping",
]

PACKAGES = {
    "bsdtar": "libarchive-tools",
    "filefrag": "e2fsprogs",
    "find": "findutils",
    "getfacl": "acl",
    "getfattr": "attr",
    "losetup": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "setfacl": "acl",
    "setfattr": "attr",
}
"""The Debian package of a command where its name is another."""

LONGEST = (
    *("test_kill_points", "test_interruptions", "test_late_writers", "test_memory", "test_progress"),
    *("test_reconciler_kills", "test_proof_is_real", "test_late_effects", "test_retention"),
)
"""Files that take minutes."""


# Tests assert no times; a loaded machine is no fault of what is tested.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_configure(config: pytest.Config) -> None:
    """No test sees the settings of whoever runs it; every process that a test starts carries our mark."""
    config.pluginmanager.register(OnDemand())
    config.pluginmanager.register(FieldRows())
    parts.pin_cache_folder()
    for name in list(os.environ):
        if name.startswith(("AWS_", "CODEHUB_STORAGE_", "TEMPORAL_", "XDG_")):
            del os.environ[name]
    bin_dir = str(Path(sys.executable).parent)  # programs from packages, also where no environment is activated
    os.environ["PATH"] = os.pathsep.join([bin_dir, os.environ.get("PATH", os.defpath)])
    leftovers.mark()
    shared.begin(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of xdist is about to start."""
    shared.tell_worker(node.config, node.workerinput)


@pytest.hookimpl(tryfirst=True)  # before pytest's own selects by them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks by fixtures. The longest files first: a worker of xdist that takes one of them last would be waited for."""
    mark_by_fixtures(items)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.tool("pigz")``: skip where the command is missing, but fail in CI, which has all of them."""
    missing = [name for mark in item.iter_markers("tool") for name in mark.args if shutil.which(name) is None]
    if missing:
        reason = "apt-get install " + " ".join(sorted({PACKAGES.get(name, name) for name in missing}))
        if os.environ.get("CI"):
            pytest.fail(f"{', '.join(missing)} missing in CI: {reason}", pytrace=False)
        pytest.skip(f"{', '.join(missing)} missing: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI a failure is told when it happens: a run that is cut off would never come to its summary."""
    if report.failed and os.environ.get("CI") and not os.environ.get("PYTEST_XDIST_WORKER"):
        sys.stderr.write(f"\n== {report.nodeid} ({report.when})\n{report.longreprtext[-3000:]}\n")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """After the last fixture is gone, a process that still lives is a test's fault, and fails the run."""
    try:
        yield
    finally:
        shared.end(session)
        left = leftovers.end_all()
        if left:
            sys.stderr.write("".join(f"\nleft running by a test: {line}" for line in left) + "\n")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def volume_root(tmp_path: Path) -> Path:
    """An empty folder for volumes, of this test alone."""
    root = tmp_path / "volumes"
    root.mkdir()
    return root
