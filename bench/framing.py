"""Requests of HTTP/1.1 as they come in on a connection: heads are read, bodies are measured and dropped uncopied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import parse_qsl, unquote, urlsplit

_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """``path``: unquoted, `/bucket/key`. ``headers``: by names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Begun:
    """The head of a request is in."""

    request: Request


@dataclass(frozen=True)
class Ended:
    """All of a request is in. ``body_bytes``: of what the body means; a body in signed chunks is a little longer."""

    request: Request
    body_bytes: int


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    TRAILER = auto()


class Framer:
    """The state of one connection."""

    def __init__(self) -> None:
        self._state = _State.HEAD
        self._line = bytearray()
        self._left = 0
        self._body_bytes = 0
        self._request = Request("", "", {}, {})

    def feed(self, data: memoryview) -> Iterator[Begun | Ended]:
        """Take the next bytes; what they begin and end. ``ValueError`` for what is no HTTP."""
        position = 0
        while position < len(data):
            if self._state in (_State.BODY, _State.CHUNK):
                taken = min(self._left, len(data) - position)
                position += taken
                self._left -= taken
                if self._left == 0:
                    yield from self._end_of_run()
            else:
                end = _HEAD_END if self._state is _State.HEAD else _LINE_END
                position, line = self._until(data, position, end)
                if line is not None:
                    yield from self._take_line(line)

    def _until(self, data: memoryview, position: int, end: bytes) -> tuple[int, bytes | None]:
        """What comes before ``end``, once it is there, and where it goes on."""
        before = len(self._line)
        self._line += data[position : position + (1 << 16)]
        found = self._line.find(end, max(0, before - len(end)))
        if found < 0:
            return position + len(self._line) - before, None
        line = bytes(self._line[:found])
        self._line.clear()
        return position + found + len(end) - before, line

    def _take_line(self, line: bytes) -> Iterator[Begun | Ended]:
        if self._state is _State.HEAD:
            yield from self._take_head(line)
        elif self._state is _State.CHUNK_LINE:
            size = int(line.split(b";")[0], 16)
            self._body_bytes += size
            self._left = size + len(_LINE_END)
            self._state = _State.CHUNK if size else _State.TRAILER
        elif not line:  # the empty line behind the trailers
            yield self._end()

    def _take_head(self, head: bytes) -> Iterator[Begun | Ended]:
        first, *lines = head.decode("latin-1").lstrip().split("\r\n")
        method, target, _ = first.split(" ")
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._request = Request(method, unquote(url.path), query, headers)
        self._body_bytes = 0
        yield Begun(self._request)
        if "chunked" in headers.get("transfer-encoding", ""):
            self._state = _State.CHUNK_LINE
            return
        self._body_bytes = self._left = int(headers.get("content-length", "0"))
        self._state = _State.BODY
        if not self._left:
            yield self._end()

    def _end_of_run(self) -> Iterator[Ended]:
        if self._state is _State.CHUNK:
            self._state = _State.CHUNK_LINE
        else:
            yield self._end()

    def _end(self) -> Ended:
        self._state = _State.HEAD
        decoded = self._request.headers.get("x-amz-decoded-content-length")
        return Ended(self._request, self._body_bytes if decoded is None else int(decoded))
