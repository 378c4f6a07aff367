"""A worker of the directory backend as a process of its own, for one call: it can be killed, paused, and looked at.

``python -m tests.fakes.directory_worker ROOT RECORD RUN CALL [ENTRY OUT]``. Prints ``begun`` and, at the end, the
answer or the error's code.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from activities.backends.base import MoverSpec
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.runtime import failpoints
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile

WS = "ws1"
UID = "u1"


def start(root: Path, record: RecordFile, call: str, *more: str, point: str | None = None) -> subprocess.Popen[str]:
    """The call in a process; ``point`` arms a failpoint there. Its output is read by ``finish``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if point is not None:
        environment[failpoints.VARIABLE] = point
    command = [sys.executable, "-m", __name__, str(root), str(record.path), record.run_id, call, *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(worker: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and last line."""
    with worker:
        assert worker.stdout is not None
        lines = worker.stdout.read().split("\n")
    return worker.returncode, lines[-2] if len(lines) > 1 else ""


async def _run(root: str, record_path: str, run_id: str, call: str, *more: str) -> str:
    record = RecordFile(Path(record_path), WS, run_id)
    entry, out = (*more, "idle", "")[:2]
    backend = DirectoryBackend(
        root,
        mover_entry=f"tests.fakes.movers:{entry}",
        walk=change_fingerprint,
        wait_policy=WaitPolicy(lock_seconds=20, grace_seconds=5),
        preload=(),
    )
    fence = record.fence
    if call == "mark":
        return await backend.mark("place-1", adopt=False)
    if call == "create":
        return str((await backend.create(WS, UID, restored_from="a1", spec={}, fence=fence)).uid)
    if call == "inspect":
        view = await backend.inspect(WS, fence=fence)
        return str(view and view.uid)
    if call in ("delete", "delete-refused"):
        refusal = StorageError(ErrorCode.VOLUME_CHANGED, "no") if call == "delete-refused" else None
        await backend.delete(WS, UID, fence=fence, deletion=record.deletion(fails=refusal))
        return "gone"
    assert call == "attach"
    spec = MoverSpec(WS, UID, run_id, f"mover/{run_id}/1", True, {"TEST_OUT": out})
    mover = await backend.attach(spec, fence=fence)
    while (death := await mover.wait(60)) is None:
        pass
    return death.splitlines()[0]


if __name__ == "__main__":
    print("begun", flush=True)
    try:
        print(asyncio.run(_run(*sys.argv[1:])), flush=True)
    except StorageError as error:
        print(error.code.value, flush=True)
