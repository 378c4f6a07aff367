"""``codehub-archive`` as a process: one for each step, lines of JSON and bytes on its pipes.

It knows nothing of stores, and this side knows nothing of tar and gzip. A cancel is a kill; whatever ends it is a typed
error of the step.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from activities.runtime.cancellation import shield_until_done
from codehub_storage.errors import ErrorCode, StorageError

PROGRAM = "codehub-archive"
END_SECONDS = 20.0
"""For so long the end of a killed program is waited for: what writes may hang in the kernel. [B2]"""
GIVE_UP_STATUS = 75  # EX_TEMPFAIL
_FAILED = 3
_INSTALL = "In a clone, run `make install`; elsewhere, pip install 'codehub-storage-service[archiver]'."
_LONGEST_LINE = 256 << 10
"""A segment without holes: three paths of 16 KiB in base64."""
_PAYLOAD_BYTES = 1 << 20
"""The most that it says at once: `MAX_PAYLOAD` of archiver/src/frames.rs."""
_ERROR_BYTES = 64 << 10
_NO_MEMORY = re.compile(rb"memory allocation of \d+ bytes failed")
_PIPE_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Wall(StrEnum):
    """``DEMANDED``: no step without Landlock. ``AVAILABLE``: used where the kernel has it. ``OFF``: for tests."""

    DEMANDED = "demanded"
    AVAILABLE = "available"
    OFF = "off"


class ArchiverDied(StorageError):
    """``MoverFailed``: it was killed, broke, hangs, or said what nobody can read. A mover ends with it; whoever else
    runs it asks again, see ``as_passing``."""

    def __init__(self, command: str, how: str, *, hint: str | None = None) -> None:
        super().__init__(ErrorCode.MOVER_FAILED, f"{PROGRAM} {command} {how}", hint=hint)

    def as_passing(self) -> StorageError:
        """The same for a step of a process that goes on: ``BackendUnavailable``, so the step is tried again."""
        return StorageError(ErrorCode.BACKEND_UNAVAILABLE, self.message, hint=self.hint)


@dataclass(frozen=True)
class Frame:
    """A line, and the bytes that follow it."""

    line: dict[str, Any]
    payload: bytes = b""


def program() -> str:
    """Where it is: beside this interpreter, else on the path. ``Unsupported`` with what to do where it is missing."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise StorageError(ErrorCode.UNSUPPORTED, f"{PROGRAM} is not installed", hint=_INSTALL)
    return found


@dataclass
class Archiver:
    """A program that runs. Use ``running``."""

    _process: asyncio.subprocess.Process
    _errors: asyncio.Task[bytes]
    _command: str
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def frames(self) -> AsyncIterator[Frame]:
        """What it says, until it has said all. Raises the error that it ended with."""
        while (frame := await self._frame()) is not None:
            yield frame
        await self.finish()

    async def _frame(self) -> Frame | None:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            if not line:
                return None
            said = json.loads(line)
            size = said.get("bytes", 0)
            if not 0 <= size <= _PAYLOAD_BYTES:
                raise ValueError(size)
        except (ValueError, AttributeError, TypeError) as error:  # whoever reads archives may say anything
            if self._process.stdout.at_eof():
                await self.finish()  # it ended within a line, and how it ended tells more
            raise ArchiverDied(self._command, "said what is no frame") from error
        try:
            return Frame(said, await self._process.stdout.readexactly(size) if size else b"")
        except asyncio.IncompleteReadError:
            await self.finish()  # it has said why
            raise ArchiverDied(self._command, "ended within a frame") from None

    async def answer(self, name: str, *, progress: Any = None) -> Any:
        """The value of the last frame with ``name``; ``progress`` gets the numbers before it."""
        found: Any = None
        async for frame in self.frames():
            if progress is not None and "progress" in frame.line:
                progress(frame.line["progress"])
            found = frame.line.get(name, found)
        if found is None:
            raise ArchiverDied(self._command, "ended without its answer")
        return found

    async def send(self, line: Mapping[str, Any], payload: bytes | memoryview = b"") -> None:
        """Tell it something, and wait while its pipe is full."""
        assert self._process.stdin is not None
        text = json.dumps({**line, "bytes": len(payload)} if payload else line).encode()
        async with self._sending:  # lines and payloads of two segments must not mix
            try:
                self._process.stdin.write(text + b"\n")
                if payload:
                    self._process.stdin.write(payload)
                await self._process.stdin.drain()
            except ConnectionError:
                await self.finish()  # it has said why
                raise ArchiverDied(self._command, "stopped reading") from None

    def end_input(self) -> None:
        """All was said."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def finish(self) -> None:
        """Wait until it has ended. Raises the error that it ended with; ``MoverFailed`` where it could not say one."""
        status = await self._process.wait()
        if status:
            raise _failure(self._command, status, await self._errors)

    async def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone: it may have been writing.

        ``ArchiverDied`` where it does not go: then a mover ends, with the lock of the volume still held by what
        hangs. [B2]
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._drained()
                await self._process.wait()
        except TimeoutError:
            raise ArchiverDied(self._command, f"cannot be ended: it hangs for {END_SECONDS:g} s") from None
        finally:
            self._errors.cancel()

    async def _drained(self) -> None:
        """Read what nobody wants: ``wait`` waits for the end of the pipe, too, and one that is full is not read on."""
        assert self._process.stdout is not None
        while await self._process.stdout.read(_PIPE_BYTES):
            pass


@contextlib.asynccontextmanager
async def running(
    command: str, *arguments: str | os.PathLike[str], wall: Wall = Wall.AVAILABLE, lock_fd: int | None = None
) -> AsyncIterator[Archiver]:
    """Run a command within the block; it is gone behind it. ``lock_fd`` is held open by it, too. [B1]

    It gets no environment, so neither credentials nor a proxy.
    """
    tied = ["--parent", str(os.getpid()), "--wall", wall]
    if lock_fd is not None:
        tied += ["--lock-fd", str(lock_fd)]
    # Started by the loop's own thread: the kernel ends the program when the *thread* that started it ends.
    started = partial(
        asyncio.create_subprocess_exec,
        program(),
        command,
        *arguments,
        *tied,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        pass_fds=() if lock_fd is None else (lock_fd,),
        limit=_LONGEST_LINE,
    )
    try:
        process = await started(pipesize=_PIPE_BYTES)
    except PermissionError:
        # An ordinary user has so much for all pipes together (pipe-user-pages-soft); 64 KiB do, too.
        process = await started()
    assert process.stderr is not None
    archiver = Archiver(process, asyncio.create_task(_last_of(process.stderr)), command)
    try:
        yield archiver
    finally:
        await shield_until_done(archiver.end())


async def check_version(expected: str) -> None:
    """``Unsupported`` where the program is of another version than the service: it may speak otherwise. A kill says
    nothing of its version, and is an ``ArchiverDied``."""
    process = await asyncio.create_subprocess_exec(program(), "--version", stdout=asyncio.subprocess.PIPE, env={})
    said = (await process.communicate())[0].decode(errors="replace").split()
    assert process.returncode is not None
    if process.returncode < 0:
        raise _failure("--version", process.returncode, b"")
    if said[1:2] != [expected]:
        raise StorageError(
            ErrorCode.UNSUPPORTED,
            f"{program()} is {' '.join(said[1:]) or 'broken'}, the service is {expected}",
            hint=_INSTALL,
        )


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    """The end of what it says; all of it is read, so that it never waits for us."""
    last = b""
    while data := await stream.read(_ERROR_BYTES):
        last = (last + data)[-_ERROR_BYTES:]
    return last


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return f"signal {number}"


def _failure(command: str, status: int, said: bytes) -> StorageError:
    last, hint = said.strip().rpartition(b"\n")[2], None
    if status == _FAILED:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = json.loads(last)["error"]
            if error["code"] == ErrorCode.MOVER_FAILED:
                return ArchiverDied(command, f"failed: {error['message']}", hint=error.get("hint"))
            return StorageError.from_type(
                error["code"], error["message"], hint=error.get("hint"), details=error.get("details")
            )
    if status < 0:
        how = f"was killed by {_signal_name(-status)}"
        # Rust's allocator says so and aborts; the kernel kills without a word.
        if no_memory := _NO_MEMORY.search(said):
            how += f": {no_memory[0].decode()}"
        if no_memory or status == -signal.SIGKILL:
            hint = "If nobody killed it, its memory ended: give movers more."
    else:
        how = f"ended with {status}: {last.decode(errors='replace')}"
    return ArchiverDied(command, how, hint=hint)
