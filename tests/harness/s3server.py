"""The one face of the S3 servers that tests run on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from worker.dev.seaweed import Identity


class S3Server(Protocol):
    """See ``Seaweed`` and ``Minio``. ``ports``: that of the S3 API first."""

    data_dir: Path
    ports: tuple[int, ...]

    def __init__(self, data_dir: Path, *, buckets: Sequence[str] = ()) -> None: ...

    @property
    def endpoint_url(self) -> str:
        """Where the S3 API answers."""
        ...

    @property
    def admin(self) -> Identity:
        """Who may do everything."""
        ...

    def start(self) -> None:
        """Start it, or start it again with the same data."""
        ...

    def stop(self) -> None:
        """End it in order."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def restart(self) -> None:
        """Kill it and start it again."""
        ...

    def client(self, identity: Identity | None = None, endpoint_url: str | None = None) -> Any:
        """A plain boto3 client."""
        ...

    def make_bucket(self, name: str, *, versioned: bool = False, object_lock: bool = False) -> None:
        """A new bucket."""
        ...
