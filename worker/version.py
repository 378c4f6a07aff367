"""Which build of the service this is."""

from __future__ import annotations

from importlib.metadata import version

SERVICE = "codehub-storage-service"
"""The distribution."""


def service_version() -> str:
    """That of the installed distribution.

    It is the build id of every worker. Without one the SDK hashes the bytecode of all 1,200 loaded modules
    (``load_default_build_id`` of ``temporalio.worker``), which is 0.1 s of processor time at each start of a worker or
    mover, and 0.25 s where no bytecode is kept.
    """
    return version(SERVICE)
