"""Our bare data plane as a command, without Temporal: `python -m bench.ours archive|verify|restore JOB PROOF`.

It works with the bounds that a mover has by default. ``JOB`` is a file that says where (``Job``), ``PROOF`` one for the
manifest, which `archive` writes and the others read. Each prints the seconds of its phases as a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import worker.preloaded  # noqa: F401 - what movers are forked from has read it, too
from activities.dataplane.copy import Means, Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.manifest import Manifest, Source, VolumeBlock
from activities.dataplane.parts import parts_of
from activities.dataplane.plan import PlanLimits, scan_volume
from activities.dataplane.proof import build_manifest
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.segments import SegmentRecord
from activities.dataplane.tail import Origin
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ARCHIVE_ID, Capabilities, ObjectStore
from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import open_store
from worker.settings import Settings

_ARCHIVE_ID = "00000000-bench"
_KEY = "bench/home.tar.gz"
_SETTINGS = Settings()
_IMPORTED_BY = os.getpid()


@dataclass(frozen=True)
class Job:
    """``folder`` is archived, or restored into."""

    folder: str
    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str

    def write(self, path: Path) -> None:
        """Store it for the command."""
        path.write_text(json.dumps(asdict(self)))


class Phases:
    """Seconds by name of what was done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time the block."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)


def ignore(_: object) -> None:
    """A callback that does nothing."""


async def archive(job: Job, store: ObjectStore, proof: Path, phases: Phases) -> None:
    """What a mover's steps do between the scan and the completed object."""
    means = Means(threads=_SETTINGS.mover_concurrency, memory_bytes=_SETTINGS.budget_bytes)
    with tempfile.TemporaryDirectory(prefix="bench-spool-") as spool:
        with phases.of("scan"):
            plan = await scan_volume(Path(job.folder), Path(spool), PlanLimits(), ignore)
        upload = UploadRef(_KEY, await store.create_upload(_KEY, {ARCHIVE_ID: _ARCHIVE_ID}), _ARCHIVE_ID)
        records, place, at_end = list[SegmentRecord](), Place(), plan.summary.data_segments == 0
        with phases.of("copy"):
            while not at_end:
                batch = await copy_segments(
                    plan, store, upload, place, done=[], accepted=ignore, progress=ignore, means=means
                )
                records, place, at_end = records + batch.records, batch.next, batch.at_end
        origin = Origin(
            archive_id=_ARCHIVE_ID,
            workspace_id="bench",
            created_at="2026-01-01T00:00:00Z",
            source=Source(volume_uid="uid", place="bench", change_fingerprint=plan.summary.change_fingerprint),
            volume=VolumeBlock(backend="directory"),
        )
        with phases.of("tail"):
            tail = await copy_tail(
                plan, store, upload, place, before=records, origin=origin, progress=ignore, means=means
            )
        records += tail.records
        with phases.of("complete"):
            info = await store.complete_upload(_KEY, upload.upload_id, parts_of(records), archive_id=_ARCHIVE_ID)
        manifest = await build_manifest(plan, records, info, origin=origin)
        proof.write_bytes(manifest.to_json())


async def verify(job: Job, store: ObjectStore, proof: Path, phases: Phases) -> None:
    """The whole object is read back."""
    info = await store.head(_KEY)
    assert info is not None
    manifest = Manifest.from_json(proof.read_bytes())
    with phases.of("verify"):
        await verify_archive(store, info, manifest, progress=ignore, lanes=_SETTINGS.mover_concurrency)


async def restore(job: Job, store: ObjectStore, proof: Path, phases: Phases) -> None:
    """Into an empty folder, compared and on disk at the end."""
    manifest = Manifest.from_json(proof.read_bytes())
    filling = ArchiveRestore(Path(job.folder), store, manifest, lanes=_SETTINGS.mover_concurrency)
    with phases.of("prepare"):
        await filling.prepare()
    with phases.of("segments"):
        if filling.data_segments:
            await filling.restore_segments(1, filling.data_segments)
    with phases.of("finish"):
        await filling.finish()
    with phases.of("sync"):
        await filling.sync()


async def run(operation: str, path: Path, proof: Path) -> dict[str, float]:
    """One operation; the seconds of its phases, and of all of it."""
    job, phases = Job(**json.loads(path.read_text())), Phases()
    settings = S3Settings(
        bucket=job.bucket,
        endpoint_url=job.endpoint_url,
        access_key=job.access_key,
        secret_key=job.secret_key,
        addressing_style="path",
    )
    with phases.of("dataplane"):
        async with open_store(settings, Capabilities(full_object_crc=True)) as store:
            await {"archive": archive, "verify": verify, "restore": restore}[operation](job, store, proof, phases)
    return phases.seconds


def run_as_mover(operation: str, path: str, proof: str) -> str:
    """The phases as JSON, from a process that was forked after this module was imported. ``RuntimeError`` otherwise."""
    if os.getpid() == _IMPORTED_BY:
        raise RuntimeError("the fork server has not imported this module: run from the folder of the repository")
    return main(operation, path, proof)


def main(operation: str, path: str, proof: str) -> str:
    """The phases as JSON."""
    return json.dumps(asyncio.run(run(operation, Path(path), Path(proof))))


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
