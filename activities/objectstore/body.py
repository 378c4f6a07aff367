"""The body of a part: the buffers that compression made, sent as they are.

The client library reads a file for its body 64 KiB at a time, each time in another thread, which took more than half of
the processor time of an upload. Its HTTP client asks a `Payload` to write itself, and passes our memory to the socket.
"""

from __future__ import annotations

import io
from typing import Any

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from activities.objectstore.base import Buffers

_STEP_BYTES = 256 << 10


class _Buffers(io.RawIOBase):
    """Several buffers as one file, read in order and never joined."""

    def __init__(self, buffers: Buffers) -> None:
        self.pieces = [memoryview(each) for each in buffers if each]
        self.size = sum(len(each) for each in self.pieces)
        self._position = 0
        self._index = 0
        self._within = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: a request that is sent again starts over."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To any position within."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = rest = min(max(base + offset, 0), self.size)
        self._index = 0
        while self._index < len(self.pieces) and rest >= len(self.pieces[self._index]):
            rest -= len(self.pieces[self._index])
            self._index += 1
        self._within = rest
        return self._position

    def readinto(self, target: Any) -> int:
        """Fills ``target`` from the present buffer; 0 only at the end."""
        if self._index == len(self.pieces):
            return 0
        buffer = self.pieces[self._index]
        piece = buffer[self._within : self._within + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        self._within += len(piece)
        if self._within == len(buffer):
            self._index, self._within = self._index + 1, 0
        return len(piece)


class PartBody(Payload):
    """Several buffers as one body: a part is in memory once. ``read``, ``seek`` and ``tell`` are for the signer."""

    def __init__(self, buffers: Buffers) -> None:
        super().__init__(buffers)
        self._buffers = _Buffers(buffers)
        self.read = self._buffers.read
        self.seek = self._buffers.seek
        self.tell = self._buffers.tell

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return self._buffers.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """For the library's debugging only."""
        raise TypeError("the body of a part is no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """The whole body, each time from its beginning: a request that is sent again starts over."""
        for buffer in self._buffers.pieces:
            for at in range(0, len(buffer), _STEP_BYTES):
                await writer.write(buffer[at : at + _STEP_BYTES])

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """The whole body; its announced length is its own."""
        if content_length not in (None, self.size):
            raise ValueError(f"a body of {self.size} bytes was announced as {content_length}")
        await self.write(writer)
