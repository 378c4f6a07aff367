"""`codehub-storage dev`: the embedded stack until somebody ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from worker.dev.stack import DevStack


async def run(data_dir: Path, out: TextIO = sys.stdout) -> None:
    """Start the stack, say `ready`, and run until SIGINT or SIGTERM. Raises ``StackError`` if a part fails."""
    task = asyncio.ensure_future(_run(data_dir, out))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def _run(data_dir: Path, out: TextIO) -> None:
    def say(line: str) -> None:
        print(line, file=out, flush=True)

    async with DevStack(data_dir, note=say) as stack:
        info = stack.info
        say(
            f"ready: web UI {info.web_ui}, Temporal {info.temporal_address}, S3 {info.s3_endpoint}, "
            f"volumes {info.volume_root} (all of it in {stack.layout.data_dir}; Ctrl-C ends it)"
        )
        await stack.watch()
