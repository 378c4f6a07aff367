"""Entry of ``python -m examples.demo [--keep] [--data-dir DIR]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codehub_storage.errors import StorageError
from examples.demo.commands import CommandFailed
from examples.demo.kills import MissedTheMiddle
from examples.demo.line import Line
from examples.demo.reference import remove
from examples.demo.story import Story
from examples.demo.telling import Telling
from worker.cli.format import size
from worker.cli.main import interruptible
from worker.cli.output import Output
from worker.dev.process import StackError
from worker.dev.stack import DevStack

_NEEDED_BYTES = 2 << 30
_DISK = Path("/var/tmp")
"""Where files of this size belong: /tmp may be memory."""
_SETTINGS = {"segment_bytes": "8MiB", "mover_concurrency": "2", "time_scale": "0.1"}
"""Few and small segments in flight, so that a small home has a middle. A tenth of all timeouts: that a mover is dead
shows when its heartbeat is missed, after 12 seconds instead of two minutes."""


def main() -> None:
    """Exit status: 0 equal, 1 a difference or a failure, 2 something is missing here, 130 or 143 after a signal."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack running until Ctrl-C")
    parser.add_argument("--data-dir", type=Path, help="work there, and keep it (default: a temporary folder)")
    args = parser.parse_args()
    signals: list[int] = []
    try:
        if shutil.which("rsync") is None:
            raise _Missing(
                "rsync is not installed; the demo compares with it. On Debian and Ubuntu: sudo apt-get install rsync"
            )
        with _folder(args.data_dir) as folder:
            status = asyncio.run(interruptible(_run(folder, args.keep), signals))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("\ninterrupted; everything that was started has ended", file=sys.stderr)
        status = 128 + (signals[0] if signals else signal.SIGINT)
    except (StackError, StorageError, CommandFailed, MissedTheMiddle, _Missing) as error:
        hint = f" ({error.hint})" if isinstance(error, StorageError) else ""
        print(f"\nthe demo failed: {error}{hint}", file=sys.stderr)
        status = 2 if isinstance(error, _Missing) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the SDK's threads can abort a process in the interpreter's teardown


class _Missing(Exception):
    """A program or the space that the demo needs."""


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The directory to work in; a temporary one is removed."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        folder = given.absolute()
    else:
        parent = _DISK if _DISK.is_dir() and not os.environ.get("TMPDIR") else None
        folder = Path(tempfile.mkdtemp(prefix="codehub-storage-demo-", dir=parent))
    try:
        free = shutil.disk_usage(folder).free
        if free < _NEEDED_BYTES:
            needed = size(_NEEDED_BYTES)
            raise _Missing(f"{folder} has {size(free)} free, {needed} are needed; name another by --data-dir")
        yield folder
    finally:
        if given is None:
            remove(folder)


async def _run(folder: Path, keep: bool) -> int:
    telling = Telling(Output(as_json=False, stdout=sys.stdout, stderr=sys.stderr))
    with Line(lambda: stack.info.s3_endpoint) as line:
        with telling.step("start") as step:
            settings = {"s3_endpoint": line.url, **_SETTINGS}
            stack = DevStack(folder / "stack", note=telling.say, settings=settings)
            await stack.__aenter__()
            step.what = f"Temporal, SeaweedFS, worker (a tenth of its usual timeouts) in {folder / 'stack'}"
        try:
            return await _tell(stack, line, folder, telling, keep)
        finally:
            await asyncio.shield(stack.__aexit__(None, None, None))


async def _tell(stack: DevStack, line: Line, folder: Path, telling: Telling, keep: bool) -> int:
    """The story, while the servers are watched."""
    watching = asyncio.create_task(stack.watch())
    telling_it = asyncio.create_task(Story(stack, line, folder, telling).tell())
    try:
        await asyncio.wait([watching, telling_it], return_when=asyncio.FIRST_COMPLETED)
        if not telling_it.done():
            await watching
        equal = await telling_it
        telling.report(equal=equal)
        if keep:
            telling.say(
                f"web UI: {stack.info.web_ui}\nThe stack goes on until Ctrl-C; look at it there, or with\n"
                f"  codehub-storage --data-dir {stack.layout.data_dir} show"
            )
            await watching
        telling.say(f"web UI: {stack.info.web_ui} until now; with --keep (make demo ARGS=--keep) it goes on")
        return 0 if equal else 1
    finally:
        for task in (telling_it, watching):
            task.cancel()
        await asyncio.wait([telling_it, watching])


if __name__ == "__main__":
    main()
