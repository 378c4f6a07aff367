"""A process that does one piece of work after the other for its parent: the loop that it runs, and its protocol.

Frames go both ways over a stream socket. The parent sends a call, then stored bytes, and at its end exactly one ``END``
or ``STOP``; the child sends what the work emits, and exactly one answer. So both know where they are, whoever gives up.

The child trusts its parent and not the other way round: it reads what somebody may have made up, in a process without
an open connection, and its answers are taken only if they are of the few kinds that work gives.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import pickle
import signal
import socket
import struct
import traceback
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from activities.dataplane.entries import Content
from activities.dataplane.gzipmember import PackedMember
from activities.dataplane.report import RestoreReport
from activities.dataplane.threads import Stop, Stopped
from codehub_storage.errors import ErrorCode, StorageError

FRAME = struct.Struct("<BQ")
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_ANSWERS = {(kind.__module__, kind.__qualname__): kind for kind in (Content, Counter, PackedMember, RestoreReport)}


class Kind(IntEnum):
    """Of a frame. ``STOPPED``, ``RESULT``, ``ERROR`` (a ``StorageError``) and ``FAILED`` (any other) are answers."""

    CALL = 1
    CHUNK = 2
    END = 3
    STOP = 4
    EMITTED = 5
    RESULT = 6
    ERROR = 7
    STOPPED = 8
    FAILED = 9


def serve(parent: socket.socket, parent_pid: int, name: bytes) -> None:
    """Work until the parent is gone. It has no other way to end: SIGTERM and Ctrl-C are for the parent to heed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NAME, name)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return  # it died before it could be heard of
    port = _ParentPort(parent)
    while port.answer_next():
        pass


class _ParentGone(Exception):
    """The socket is closed."""


class _ParentPort:
    """A ``Port`` to the parent."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._buffer = bytearray(1 << 18)
        self._is_over = False
        self.stop: Stop = _AskedToStop(parent)

    def __iter__(self) -> Iterator[memoryview]:
        while not self._is_over:
            kind, data = self._read()
            if kind is Kind.CHUNK:
                yield data
            self._is_over = kind is not Kind.CHUNK
            if kind is Kind.STOP:
                raise Stopped

    def emit(self, data: bytes) -> None:
        """Send stored bytes out."""
        self._write(Kind.EMITTED, data)

    def answer_next(self) -> bool:
        """Answer one call; false if there is no parent any more."""
        try:
            _, call = self._read()
            self._is_over = False
            work, arguments = pickle.loads(call)
            self._write(*self._run(work, arguments))
            while not self._is_over:  # what was not asked for stands before the end
                self._is_over = self._read()[0] in (Kind.END, Kind.STOP)
        except (_ParentGone, ConnectionError):
            return False
        return True

    def _run(self, work: Any, arguments: tuple[Any, ...]) -> tuple[Kind, bytes]:
        try:
            return Kind.RESULT, pickle.dumps(work(self, *arguments))
        except (_ParentGone, ConnectionError):
            raise
        except Stopped:
            return Kind.STOPPED, b""
        except StorageError as error:
            return Kind.ERROR, json.dumps([error.code, error.message, error.hint, error.details]).encode()
        except Exception:
            return Kind.FAILED, traceback.format_exc().encode("utf-8", "backslashreplace")

    def _read(self) -> tuple[Kind, memoryview]:
        """A whole frame; its data are valid until the next."""
        self._fill(FRAME.size)
        kind, length = FRAME.unpack_from(self._buffer)
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        return Kind(kind), self._fill(length)

    def _fill(self, length: int) -> memoryview:
        view = memoryview(self._buffer)[:length]
        done = 0
        while done < length:
            count = self._parent.recv_into(view[done:])
            if not count:
                raise _ParentGone
            done += count
        return view

    def _write(self, kind: Kind, data: bytes) -> None:
        self._parent.sendall(FRAME.pack(kind, len(data)))
        self._parent.sendall(data)


class _AskedToStop(Stop):
    """Looks whether the parent is gone, or its next word is ``STOP``. Between two frames, which is where work asks.

    A stop stands behind the bytes that were sent before it, so work that takes bytes sees it when it has taken those.
    """

    def __init__(self, parent: socket.socket) -> None:
        super().__init__()
        self._parent = parent

    def check(self) -> None:
        """Raises ``Stopped`` once the work is to end."""
        try:
            next_kind = self._parent.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if next_kind in (b"", bytes([Kind.STOP])):
            raise Stopped


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ANSWERS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_answer(kind: Kind, data: bytes | bytearray) -> Any:
    """The result, or the error raised. Of what it did not expect it makes a ``RuntimeError``."""
    if kind is Kind.RESULT:
        try:
            return _Reader(io.BytesIO(data)).load()
        except Exception as error:  # pickle raises nearly any
            raise RuntimeError(f"a child process answered what it may not: {error}") from error
    if kind is Kind.ERROR:
        code, message, hint, details = json.loads(data)
        raise StorageError(ErrorCode(code), message, hint=hint, details=details)
    if kind is Kind.STOPPED:
        raise Stopped
    raise RuntimeError(f"work in a child process failed:\n{bytes(data).decode('utf-8', 'replace')}")
