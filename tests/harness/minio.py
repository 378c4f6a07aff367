"""MinIO, the real server, beside SeaweedFS: the second of the stores that we are tested on."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.harness import parts
from worker.dev.process import Child
from worker.dev.seaweed import Identity, create_bucket, free_ports, plain_client

_READY_SECONDS = 60.0


class Minio:
    """One server on one folder, an ``S3Server``. ``start`` after ``stop`` or ``kill`` goes on with the same data, port
    and administrator.

    ``address``: where it listens; loopback, unless containers shall reach it. ``admin``: somebody whose keys are known.
    ``ports``: one; a free one unless given.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        buckets: Sequence[str] = (),
        address: str = "127.0.0.1",
        admin: Identity | None = None,
        ports: Sequence[int] = (),
    ) -> None:
        self.data_dir = data_dir
        self.address = address
        self.admin = admin or Identity("admin")
        self.ports = tuple(ports) or free_ports(1)
        self._buckets = tuple(buckets)
        self.child = Child(
            "MinIO",
            [str(parts.binary("minio")), "server", str(data_dir), "--address", f"{address}:{self.ports[0]}", "--quiet"],
            log=data_dir.with_name(data_dir.name + ".log"),
            pid_file=data_dir.with_name(data_dir.name + ".pid"),
            environment=self._environment(),
        )

    @property
    def endpoint_url(self) -> str:
        """Where the S3 API answers."""
        return f"http://{self.address}:{self.ports[0]}"

    def start(self) -> None:
        """Start it and return when it is ready. Raises ``PartFailed``."""
        is_new = not self.data_dir.exists()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.child.start()
        try:
            self.child.wait_until(self._is_ready, _READY_SECONDS)
            for name in self._buckets if is_new else ():
                self.make_bucket(name)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order. Fine if it does not run."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Fine if it does not run."""
        self.child.kill()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def client(self, identity: Identity | None = None, endpoint_url: str | None = None) -> Any:
        """A plain boto3 client, for set-up and for looking at the store past our own code."""
        return plain_client(identity or self.admin, endpoint_url or self.endpoint_url)

    def make_bucket(self, name: str, *, versioned: bool = False, object_lock: bool = False) -> None:
        """A new bucket."""
        create_bucket(self.client(), name, versioned=versioned, object_lock=object_lock)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/minio/health/cluster", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        """Without console, without a look for updates, and with a home of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MINIO_"))}
        return {
            **kept,
            "HOME": str(self.data_dir.parent),
            "MINIO_BROWSER": "off",
            "MINIO_ROOT_PASSWORD": self.admin.secret_key,
            "MINIO_ROOT_USER": self.admin.access_key,
            "MINIO_UPDATE": "off",
        }


def missing() -> str | None:
    """Why it cannot be started here; ``None`` if it can. CI has what it takes."""
    if parts.can_build("minio") or os.environ.get("CI"):
        return None
    return "MinIO is not built, and there is no `go` to build it with (https://go.dev/dl)"
