"""Other people's programs, run to their end; an interrupted demo leaves none of them behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAIL_LINES = 8


class CommandFailed(Exception):
    """A program ended with an error; the message ends with what it said last."""


async def run_command(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What it prints. Raises ``CommandFailed``, also if it is not installed. Cancelled, it and its children end."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env={**os.environ, **(environment or {}), "LC_ALL": "C.UTF-8"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise CommandFailed(f"{command[0]} is not installed") from error
    try:
        said = (await process.communicate())[0].decode(errors="backslashreplace")
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(said.splitlines()[-_TAIL_LINES:])
        raise CommandFailed(f"{command[0]} ended with status {process.returncode}:\n{tail}")
    return said
