"""Ctrl-C at a terminal while an operation runs: the person is asked, and what was chosen happens."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import WorkflowExecutionStatus

from codehub_storage.keys import workflow_id
from tests.harness.site import Site, common_ground, common_site
from worker.cli.exits import Exit

__all__ = ["common_ground", "common_site"]


_IN_A_SESSION = """
import os, sys
os.setsid()
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the terminal becomes that of the session, so that its Ctrl-C is a signal
os.execv(sys.executable, [sys.executable, "-m", "worker.cli.main", *sys.argv[1:]])
"""


class Person:
    """A command whose stdin and stderr are one terminal, and who sits there."""

    def __init__(self, terminal: int, process: asyncio.subprocess.Process) -> None:
        self._terminal = terminal
        self.process = process
        self._seen = ""

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._terminal, keys.encode())

    async def see(self, words: str) -> None:
        """Read on until the words have come."""
        while words not in self._seen:
            try:
                read = await asyncio.to_thread(os.read, self._terminal, 1 << 12)
            except OSError:
                raise AssertionError(f"ended without {words!r}: {self._seen!r}") from None
            self._seen += read.decode(errors="replace")
        self._seen = self._seen.partition(words)[2]


@asynccontextmanager
async def at_a_terminal(site: Site, *arguments: str) -> AsyncIterator[Person]:
    """A command while it runs; killed at the end."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _IN_A_SESSION, *arguments),
        env={**os.environ, **site.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Person(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def status_of(site: Site, workspace_id: str) -> WorkflowExecutionStatus | None:
    """Of the workspace's latest run."""
    return (await site.temporal.get_workflow_handle(workflow_id(workspace_id)).describe()).status


@asynccontextmanager
async def asked(site: Site, workspace_id: str, *arguments: str) -> AsyncIterator[Person]:
    """A provision that nobody works at, interrupted once, so that it asks."""
    async with at_a_terminal(site, "provision", workspace_id, *arguments) as person:
        await person.see("waits for a worker")
        person.type("\x03")
        await person.see("[d]etach")
        yield person


async def goes_on(site: Site, workspace_id: str) -> bool:
    """Whether the operation is still open; it is ended."""
    status = await status_of(site, workspace_id)
    await site.temporal.get_workflow_handle(workflow_id(workspace_id)).terminate()
    return status is WorkflowExecutionStatus.RUNNING


async def test_wait_on_then_detach(common_site: Site) -> None:
    """Enter waits on, without a trace; `d` leaves the operation to itself, with the status of Ctrl-C."""
    ws = common_site.workspace_id()
    async with asked(common_site, ws, "--place", "nobody-serves-it") as person:
        person.type("\n")
        await person.see("unknown")
        person.type("\x03")
        await person.see("[d]etach")
        person.type("d\n")
        await person.see(f"codehub-storage cancel {ws}")
        assert await person.process.wait() == 130
    assert await goes_on(common_site, ws)


async def test_a_second_press_detaches(common_site: Site) -> None:
    """Who presses again instead of answering wants to be away."""
    ws = common_site.workspace_id()
    async with asked(common_site, ws, "--place", "nobody-serves-it") as person:
        person.type("\x03")
        assert await person.process.wait() == 130
    assert await goes_on(common_site, ws)


async def test_cancel(common_site: Site) -> None:
    """`c` asks the operation to stop, and the command waits for its end: at once where nobody has begun it."""
    ws = common_site.workspace_id()
    async with asked(common_site, ws, "--place", "nobody-serves-it") as person:
        person.type("c\n")
        await person.see("is asked to stop")
        await person.see("error: Cancelled")
        await person.see("it was undone, nothing was handed out")
        assert await person.process.wait() == Exit.CANCELLED
    assert await status_of(common_site, ws) is WorkflowExecutionStatus.TERMINATED
