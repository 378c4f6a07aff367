"""Processes for what computes, forked before anything else is: the parent keeps the network and the event loop.

Threads take turns at Python's lock, at every file that one opens or closes: with four of them a restore took twice the
processor time of one thread. A pool of the standard library cannot be stopped amid its work, nor be fed as it works.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from activities.dataplane.child import FRAME, Kind, read_answer, serve
from activities.dataplane.running import P, T, Work, closing, nothing
from activities.runtime.cancellation import shield_until_done
from codehub_storage.errors import ErrorCode, StorageError

_MOST_CHILDREN = 8
_MOST_BYTES = 1 << 28
"""Of one frame from a child; a piece of a compressed segment has less than a mebibyte."""


class ChildPool:
    """A ``Runner`` whose work runs in processes. Make it with ``fork``; ``close`` ends them."""

    def __init__(self, children: list[_Child]) -> None:
        self._children = children
        self._idle = asyncio.Queue[_Child]()
        for child in children:
            self._idle.put_nowait(child)

    @classmethod
    def fork(
        cls,
        size: int | None = None,
        *,
        name: str = "storage-child",
        on_loss: Callable[[], None] = lambda: None,
        beside: ChildPool | None = None,
    ) -> Self:
        """``size`` children (default: one for each core, at most 8) of this process.

        It must not have threads that hold locks, nor an event loop. ``beside``: the pool that it has already.
        ``on_loss`` is called when one died; work in it fails with ``MoverFailed``, then and later.
        """
        gc.freeze()  # so that the collector does not write to pages that are shared
        children: list[_Child] = []
        older = beside._children if beside else []
        parent = os.getpid()
        for _ in range(size or min(_MOST_CHILDREN, len(os.sched_getaffinity(0)))):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if not pid:
                _be_child(ours, theirs, older + children, parent, name)
            theirs.close()
            ours.setblocking(False)
            children.append(_Child(pid, ours, on_loss))
        return cls(children)

    async def run(
        self,
        work: Work[P, T],
        /,
        *arguments: Any,
        source: AsyncIterator[bytes] | None = None,
        on_chunk: Callable[[int], None] | None = None,
        emitted: list[bytes | bytearray] | None = None,
    ) -> T:
        """See ``Runner.run``. ``work`` is a function of a module; arguments and answer are copied."""
        async with closing(source or nothing()):
            child = await self._idle.get()
            try:
                answer: T = await child.call(pickle.dumps((work, arguments)), source, on_chunk, emitted)
                return answer
            finally:
                self._idle.put_nowait(child)

    @property
    def pids(self) -> list[int]:
        """Of the children."""
        return [child.pid for child in self._children]

    def close(self) -> None:
        """End the children, whatever they are at, and wait for that."""
        for child in self._children:
            child.close()


def _be_child(ours: socket.socket, theirs: socket.socket, older: list[_Child], parent: int, name: str) -> None:
    """Never returns. Sockets of the others are closed: their children end when the last holder is gone."""
    status = 1
    try:
        ours.close()
        for child in older:
            child.forget()
        serve(theirs, parent, name.encode())
        status = 0
    finally:
        os._exit(status)


class _Child:
    """One process, its socket, and where the exchange with it stands."""

    def __init__(self, pid: int, sock: socket.socket, on_loss: Callable[[], None]) -> None:
        self.pid = pid
        self._socket = sock
        self._on_loss = on_loss
        self._unsent: list[memoryview] = []
        self._has_ended = True

    async def call(
        self,
        call: bytes,
        source: AsyncIterator[bytes] | None,
        on_chunk: Callable[[int], None] | None,
        emitted: list[bytes | bytearray] | None,
    ) -> Any:
        """One exchange. However it ends, the child is ready for the next."""
        answer = asyncio.create_task(self._answer(emitted))
        last = Kind.STOP
        try:
            self._has_ended = False
            await self._send(Kind.CALL, call)
            if source is not None:
                await self._feed(source, on_chunk, answer)
            kind, data = await asyncio.shield(answer)
            last = Kind.END
        finally:
            await shield_until_done(self._end(last, answer))
        return read_answer(kind, data)

    async def _feed(
        self, source: AsyncIterator[bytes], on_chunk: Callable[[int], None] | None, answer: asyncio.Task[Any]
    ) -> None:
        """Send what there is, unless the child has answered before it saw the end."""

        async def send() -> None:
            async for chunk in source:
                await self._send(Kind.CHUNK, chunk)
                if on_chunk is not None:
                    on_chunk(len(chunk))
            self._has_ended = True  # from here on it is on its way, also if it is cut off
            await self._send(Kind.END)

        sending = asyncio.create_task(send())
        try:
            await asyncio.wait({sending, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            await shield_until_done(asyncio.wait([sending]))
        if not sending.cancelled():
            sending.result()

    async def _end(self, kind: Kind, answer: asyncio.Task[Any]) -> None:
        """The last frame of ours, if it was not sent, and the answer, wanted or not."""
        with contextlib.suppress(StorageError):  # the answer tells the same
            if self._has_ended:
                await self._flush()
            else:
                self._has_ended = True
                await self._send(kind)
        await asyncio.wait([answer])
        answer.exception()

    async def _answer(self, emitted: list[bytes | bytearray] | None) -> tuple[Kind, bytearray]:
        while True:
            number, length = FRAME.unpack(await self._receive(FRAME.size))
            if length > _MOST_BYTES or number not in set(Kind):
                raise self._lost()  # it is no longer what was forked
            kind, data = Kind(number), await self._receive(length)
            if kind is not Kind.EMITTED:
                return kind, data
            if emitted is not None:
                emitted.append(data)

    async def _receive(self, length: int) -> bytearray:
        data, done, loop = bytearray(length), 0, asyncio.get_running_loop()
        view = memoryview(data)
        while done < length:
            try:
                count = await loop.sock_recv_into(self._socket, view[done:])
            except OSError as error:
                raise self._lost() from error
            if not count:
                raise self._lost()
            done += count
        return data

    async def _send(self, kind: Kind, data: bytes = b"") -> None:
        """A frame. One that a cancellation cut off goes on with the next."""
        self._unsent += [memoryview(FRAME.pack(kind, len(data))), memoryview(data)]
        await self._flush()

    async def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._socket.sendmsg(self._unsent)
            except BlockingIOError:
                await self._writable()
                continue
            except OSError as error:
                self._unsent.clear()
                raise self._lost() from error
            while self._unsent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.pop(0))
            if sent:
                self._unsent[0] = self._unsent[0][sent:]

    async def _writable(self) -> None:
        loop, writable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._socket, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._socket)

    def _lost(self) -> StorageError:
        self._on_loss()
        return StorageError(ErrorCode.MOVER_FAILED, f"a process of the mover died (pid {self.pid})")

    def forget(self) -> None:
        """In a younger child."""
        self._socket.close()

    def close(self) -> None:
        """End the process, and wait for that."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
