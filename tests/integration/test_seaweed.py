"""The S3 server of the embedded stack and of the tests, on disks as people have them."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.harness.seaweed import Seaweed, new_bucket
from tests.harness.trees import IS_ROOT

pytestmark = pytest.mark.integration
SMALL_DISK = "256m"
BUCKETS = 12
"""Three times what the server would allow by itself on that disk, at one for each 64 MiB that is free."""


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount a small disk")
def test_a_nearly_full_disk_takes_many_small_buckets(tmp_path: Path) -> None:
    """How many there may be does not hang on the space that was free when the server started."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", tmp_path], check=True)
    server = Seaweed(tmp_path / "data")
    try:
        server.start()
        with contextlib.closing(server.client()) as client:
            for bucket in [new_bucket(server) for _ in range(BUCKETS)]:
                client.put_object(Bucket=bucket, Key="k", Body=b"x")
                assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    finally:
        server.kill()
        subprocess.run(["umount", tmp_path], check=True)
