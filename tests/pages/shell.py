"""One bash in which commands are typed one after the other, as a reader of a page does it in one terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.harness.enclosure import child_of

# The commands come by a descriptor of their own; what is typed finds an end of file where it would read a keyboard.
_TYPING = r"""
exec 3<&0 </dev/null
dev=
trap '[ -z "$dev" ] || kill -KILL -- "-$dev" 2>/dev/null || :' EXIT
while IFS= read -r line <&3; do
    eval "$line" 3<&-
    printf '\036'
done
"""
_DONE = b"\x1e"
_DEV = re.compile(r"(\S*/)?codehub-storage (--\S+ )*dev( --\S+)*( *#.*)?")
_COMMAND_SECONDS = 1200.0
_IDLE_SECONDS, _END_SECONDS = 2.0, 10.0
_READY = (
    "until grep -qw ready $dev_log; do "
    "kill -0 $dev 2>/dev/null || { cat $dev_log; echo 'it has ended, and was never ready'; exit 1; }; "
    "sleep 0.02; done"
)
_INTERRUPT = (
    "said=$(wc -c <$dev_log); { kill -INT -- -$dev && wait $dev; } || { status=$?; cat $dev_log; exit $status; }; dev="
)


class CommandFailed(Exception):
    """A command of the page ended with another status than 0, or not at all; the message is what it said."""


@dataclass(frozen=True)
class Ran:
    """A command that has done its work. ``seconds``: of `dev`, until it was ready."""

    command: str
    output: str
    seconds: float


def is_dev(command: str) -> bool:
    """Does it run until somebody ends it."""
    return _DEV.fullmatch(command) is not None


class Shell:
    """``with Shell(prefix, environment)``: bash by way of ``prefix``, until the first command that fails."""

    def __init__(self, prefix: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            # A shell cannot trap what it was started to ignore: SIGINT, if these tests run in the background.
            [*prefix, "env", "--default-signal=INT", "bash", "--noprofile", "--norc", "-ec", _TYPING],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        self._runs_dev = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it by force, with all that it has started and that has not left its group."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_IDLE_SECONDS)
        inner = child_of(self.pid)
        if inner is not None:  # of a namespace the first process: the outer one waits until all in there are gone
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The process that was started; what comes by way of a prefix is below it."""
        return self._process.pid

    def run(self, command: str) -> Ran:
        """Type a command. `dev` goes on in the background once it is ready; another one ends it first."""
        if is_dev(command):
            self.interrupt_dev()
            return self._start_dev(command)
        began = time.monotonic()
        output = self._type(command)
        return Ran(command, output, time.monotonic() - began)

    def interrupt_dev(self) -> Ran | None:
        """Ctrl-C for the `dev` that runs, which must end well; ``None`` if none runs."""
        if not self._runs_dev:
            return None
        self._runs_dev = False
        began = time.monotonic()
        self._type(_INTERRUPT, "Ctrl-C for dev")
        seconds = time.monotonic() - began
        return Ran("^C", self._type("tail -c +$((said + 1)) $dev_log; rm $dev_log"), seconds)

    def _start_dev(self, command: str) -> Ran:
        """In a group of its own, as a terminal would start it: only so does it hear SIGINT."""
        began = time.monotonic()
        self._type(f"dev_log=$(mktemp); set -m; eval {shlex.quote(f'exec {command}')} >$dev_log 2>&1 & dev=$!; set +m")
        self._type(_READY, command)
        seconds = time.monotonic() - began
        self._runs_dev = True
        return Ran(command, self._type("cat $dev_log"), seconds)

    def _type(self, line: str, shown: str | None = None) -> str:
        """Type a line and answer what was said until it is done. Raises ``CommandFailed`` with what is ``shown``."""
        shown = shown or line
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise CommandFailed(f"{shown}\nthe shell has ended before") from None
        said, deadline = b"", time.monotonic() + _COMMAND_SECONDS
        while not said.endswith(_DONE):
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise CommandFailed(f"{shown}\nhas not ended after {_COMMAND_SECONDS:.0f} s\n{_text(said)}")
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                raise CommandFailed(f"{shown}\nended with status {self._process.wait()}\n{_text(said)}")
            said += more
        return _text(said.removesuffix(_DONE))


def _text(said: bytes) -> str:
    return said.decode(errors="replace")
