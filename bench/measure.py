"""One command, from its start to its end: wall time, CPU time with all its children, and the memory of all of them.

Each leads a session of its own; by that its children are known. A thread of ours looks at their memory now and then,
which costs each contender the same. A command of ours is forked from a process that has imported all of it, as movers
are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.harness.watching import pss_of

_SAMPLE_SECONDS, _REST = 0.05, 30
"""At least that long between two looks, and that many times what a look took: one at 150 MiB takes the kernel 3 ms."""
_TAIL_CHARACTERS = 2000
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class CommandFailed(Exception):
    """A measured command ended with an error; the message ends with what it said last."""


@dataclass(frozen=True)
class Measured:
    """``cpu_seconds``: user and system time of the command and of all children that were waited for. ``pss_bytes``: the
    most that was seen of them together at a time, shared pages divided among those who share them. ``said``: its
    standard output."""

    wall_seconds: float
    cpu_seconds: float
    pss_bytes: int
    said: str


def measure(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run it. Raises ``CommandFailed``."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        with Sampler(partial(_of_session, process.pid)) as sampler:
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said, complained = output.read(), errors.read()
    if process.returncode:
        shown = (said + complained)[-_TAIL_CHARACTERS:]
        raise CommandFailed(f"{' '.join(command)} ended with status {process.returncode}:\n{shown}")
    return Measured(wall, used.ru_utime + used.ru_stime, sampler.most, said)


def measure_forked(module: str, function: Callable[..., str], *arguments: str) -> Measured:
    """Call ``function`` of ``module`` in a process that has the module already; what it returns is what it said.

    Raises ``CommandFailed``; why it failed is told on our standard error.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    context.Process(target=_nothing).start()  # the first starts the server, which imports
    for child in multiprocessing.active_children():
        child.join()
    with tempfile.NamedTemporaryFile("r") as answer:
        process = context.Process(target=_answer, args=(answer.name, function, arguments), daemon=True)
        began = time.monotonic()
        process.start()
        assert process.pid is not None
        with Sampler(partial(_of_session, process.pid)) as sampler:
            process.join()
            wall = time.monotonic() - began
        if process.exitcode:
            raise CommandFailed(f"{module} {' '.join(arguments)} ended with status {process.exitcode}")
        found = json.load(answer)
    return Measured(wall, found["cpu_seconds"], sampler.most, found["said"])


def _nothing() -> None:
    """It takes a process to start a fork server."""


def _answer(path: str, function: Callable[..., str], arguments: Sequence[str]) -> None:
    """In the child, which nobody but the fork server could ask for its times."""
    os.setsid()
    said = function(*arguments)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    Path(path).write_text(
        json.dumps({"said": said, "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in spent)})
    )


class Sampler:
    """The most that ``look`` answers, asked now and then from a thread within a ``with`` block."""

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampler")
        self.most = 0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = _SAMPLE_SECONDS
        while not self._stop.wait(pause):
            began = time.monotonic()
            self.most = max(self.most, self._look())
            pause = max(_SAMPLE_SECONDS, _REST * (time.monotonic() - began))


def _of_session(leader: int) -> int:
    """Memory of the session's processes in bytes."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return sum(pss_of(pid) for pid in pids if _session(pid) == leader)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except _GONE:
        return None
