"""A server that speaks as much of S3 as an upload needs and keeps nothing, so that the client's own limit shows.

`python -m bench.sink PORT`. Every connection receives into the same buffer; what is remembered of an object is its
size, its checksum and its metadata. ETags are numbers, in a shape that no client takes for a digest.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from bench.framing import Begun, Framer, Request
from bench.store import Place
from worker.dev.process import Child
from worker.dev.seaweed import Identity, free_ports

_BUFFER_BYTES = 1 << 20
_KEPT = ("x-amz-meta-", "x-amz-checksum-crc64nvme", "x-amz-checksum-type")
_READY_SECONDS = 10.0


@dataclass
class _Upload:
    """``parts``: bytes by number."""

    headers: Mapping[str, str]
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Object:
    size_bytes: int
    etag: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Answer:
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    length: int | None = None
    """Of a body that HEAD is told of and does not get."""


class Sink:
    """What all connections share."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.requests = 0
        self._numbers = itertools.count(1)
        self._uploads: dict[str, _Upload] = {}
        self._objects: dict[str, _Object] = {}

    async def listen(self, port: int = 0) -> asyncio.Server:
        """Serve on loopback."""
        return await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", port)

    def answer(self, request: Request, body_bytes: int) -> _Answer:
        """To a request that is all in."""
        self.requests += 1
        query, path = request.query, request.path
        if request.method == "POST" and "uploads" in query:
            return self._create(path, request.headers)
        if "uploadId" in query:
            return self._upload(request, self._uploads.get(query["uploadId"]), body_bytes)
        if request.method == "PUT":
            self._objects[path] = _Object(body_bytes, self._etag(), _kept(request.headers))
            return _Answer(headers={"ETag": self._objects[path].etag})
        if request.method == "DELETE":
            self._objects.pop(path, None)
            return _Answer(HTTPStatus.NO_CONTENT)
        if path.strip("/").count("/") == 0:  # the bucket: it is there, and tells nothing
            listing = _xml("ListBucketResult", IsTruncated="false")
            return listing if request.method == "GET" else _Answer()
        found = self._objects.get(path)
        if found is None or request.method != "HEAD":  # what was sent is gone
            return _Answer(HTTPStatus.NOT_FOUND)
        headers = {"ETag": found.etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **found.headers}
        return _Answer(headers=headers, length=found.size_bytes)

    def _create(self, path: str, headers: Mapping[str, str]) -> _Answer:
        number = f"upload-{next(self._numbers)}"
        self._uploads[number] = _Upload(_kept(headers))
        bucket, _, key = path.lstrip("/").partition("/")
        return _xml("InitiateMultipartUploadResult", Bucket=bucket, Key=key, UploadId=number)

    def _upload(self, request: Request, upload: _Upload | None, body_bytes: int) -> _Answer:
        if upload is None:
            return _Answer(HTTPStatus.NOT_FOUND)
        if request.method == "PUT":
            upload.parts[request.query["partNumber"]] = body_bytes
            return _Answer(headers={"ETag": self._etag()})
        if request.method == "GET":
            return _Answer(HTTPStatus.NOT_IMPLEMENTED)
        del self._uploads[request.query["uploadId"]]
        if request.method == "DELETE":
            return _Answer(HTTPStatus.NO_CONTENT)
        made = _Object(sum(upload.parts.values()), self._etag(), {**upload.headers, **_kept(request.headers)})
        self._objects[request.path] = made
        bucket, _, key = request.path.lstrip("/").partition("/")
        return _xml("CompleteMultipartUploadResult", Bucket=bucket, Key=key, ETag=made.etag)

    def _etag(self) -> str:
        return f'"{next(self._numbers):032x}-1"'


class _Connection(asyncio.BufferedProtocol):
    """The loop fills the buffer and hands it over in one step, so connections may share it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._sink.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self._transport is not None
        for event in self._framer.feed(self._sink.buffer[:nbytes]):
            if not isinstance(event, Begun):
                self._transport.write(_encoded(self._sink.answer(event.request, event.body_bytes)))
            elif event.request.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith(_KEPT)}


def _xml(name: str, **fields: str) -> _Answer:
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in fields.items())
    return _Answer(headers={"Content-Type": "application/xml"}, body=f"<{name}>{inner}</{name}>")


def _encoded(answer: _Answer) -> bytes:
    body = answer.body.encode()
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body) if answer.length is None else answer.length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def sink_process(folder: Path) -> Iterator[Place]:
    """A sink as a process of its own, whose time is nobody's; a place in it."""
    (port,) = free_ports(1)
    child = Child(
        "sink",
        [sys.executable, "-m", "bench.sink", str(port)],
        log=folder / "sink.log",
        pid_file=folder / "sink.pid",
    )
    child.start()
    try:
        child.wait_until(lambda: child.log.read_text().startswith("listening"), _READY_SECONDS)
        yield Place(f"http://127.0.0.1:{port}", Identity("admin"), "sink", {"RCLONE_S3_USE_MULTIPART_ETAG": "false"})
    finally:
        child.stop()


async def main(port: int) -> None:
    """Until it is killed."""
    server = await Sink().listen(port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
