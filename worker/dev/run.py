"""`codehub-storage dev`: the embedded stack, until a signal."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from worker.dev.stack import DevStack
from worker.settings import default_data_dir


async def run(data_dir: Path, out: TextIO = sys.stdout, *, reset: bool = False) -> None:
    """Start the stack, print `ready` and what to type next, and run until SIGINT or SIGTERM.

    ``reset``: begin with nothing. Raises ``StackError`` if a part fails.
    """
    task = asyncio.ensure_future(_run(data_dir, out, reset))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def _run(data_dir: Path, out: TextIO, reset: bool) -> None:
    def say(line: str) -> None:
        print(line, file=out, flush=True)

    async with DevStack(data_dir, reset=reset, note=say) as stack:
        info = stack.info
        say(
            f"ready: web UI {info.web_ui}, Temporal {info.temporal_address}, S3 {info.s3_endpoint}, "
            f"volumes {info.volume_root} (all of it in {stack.layout.data_dir}; Ctrl-C ends it)"
        )
        elsewhere = "" if data_dir.absolute() == default_data_dir() else f" --data-dir {shlex.quote(str(data_dir))}"
        say(f"next, in another terminal: codehub-storage{elsewhere} provision ws1")
        await stack.watch()
