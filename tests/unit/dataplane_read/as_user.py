"""Restores an archive as an ordinary user: a program of its own, because a process cannot change its user back.

Arguments: the folder, the archive object, the manifest. Prints the report as JSON.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  the interpreter's own folder may be closed to that user
import json
import os
import sys
from pathlib import Path

from activities.dataplane.archiver import Wall
from activities.dataplane.manifest import Manifest
from activities.dataplane.restore import ArchiveRestore
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import restore_archive


async def main(root: Path, archive: Path, manifest: Path) -> None:
    """Drop all rights, then restore."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    store = MemoryStore()
    proof = Manifest.from_json(manifest.read_bytes())
    assert proof.object is not None
    info = await store.put_if(proof.object.key, archive.read_bytes(), etag=None)
    proof = proof.model_copy(update={"object": proof.object.model_copy(update={"etag": info.etag})})
    report = await restore_archive(ArchiveRestore(root, store, proof, wall=Wall.AVAILABLE))
    print(json.dumps({"files": report.files, "bytes": report.bytes, "skipped": report.skipped}))


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:4])))
