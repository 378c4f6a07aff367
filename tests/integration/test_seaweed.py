"""The S3 server of the embedded stack and of the tests, on disks as people have them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.seaweed import Seaweed, new_bucket
from tests.harness.trees import IS_ROOT

SMALL_DISK = "256m"
BUCKETS = 12
"""Three times what the server would allow by itself on that disk, at one for each 64 MiB that is free."""


@pytest.fixture
def own_seaweed(tmp_path: Path) -> Iterator[Seaweed]:
    """A server on a small disk."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", tmp_path], check=True)
    server = Seaweed(tmp_path / "data")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount a small disk")
def test_a_nearly_full_disk_takes_many_small_buckets(own_seaweed: Seaweed) -> None:
    """How many there may be does not hang on the space that was free when the server started."""
    with contextlib.closing(own_seaweed.client()) as client:
        for bucket in [new_bucket(own_seaweed) for _ in range(BUCKETS)]:
            client.put_object(Bucket=bucket, Key="k", Body=b"x")
            assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
