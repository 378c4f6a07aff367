"""A server that speaks as much of S3 as an upload needs and keeps nothing, so that the client's own limit shows.

`python -m bench.sink PORT`. What is remembered of an object is its size, its checksum and its metadata. ETags are
numbers, in a shape that no client takes for a digest.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bench.store import Place
from worker.dev.process import Child
from worker.dev.seaweed import Identity, free_ports

_KEPT = ("x-amz-meta-", "x-amz-checksum-crc64nvme", "x-amz-checksum-type")
_READY_SECONDS = 10.0


@dataclass
class _Upload:
    """``parts``: bytes by number."""

    headers: Mapping[str, str]
    parts: dict[str, int] = field(default_factory=dict)


class Sink:
    """What all connections share."""

    def __init__(self) -> None:
        self.requests = 0
        self._numbers = itertools.count(1)
        self._uploads: dict[str, _Upload] = {}
        self._objects: dict[str, dict[str, str]] = {}
        """Headers of what was sent, its length among them."""

    def application(self) -> web.Application:
        """The server."""
        application = web.Application()
        application.router.add_route("*", "/{Bucket}", self._bucket)
        application.router.add_route("*", "/{Bucket}/{Key:.+}", self._object)
        return application

    async def _bucket(self, request: web.Request) -> web.Response:
        """It is there, and tells nothing."""
        self.requests += 1
        return _xml("ListBucketResult", IsTruncated="false")

    async def _object(self, request: web.Request) -> web.Response:
        self.requests += 1
        body_bytes = await _drop_body(request)
        query, path = request.query, request.path
        if request.method == "POST" and "uploads" in query:
            number = f"upload-{next(self._numbers)}"
            self._uploads[number] = _Upload(_kept(request.headers))
            return _xml("InitiateMultipartUploadResult", **request.match_info, UploadId=number)
        if "uploadId" in query:
            return self._upload(request, query["uploadId"], body_bytes)
        if request.method == "PUT":
            return web.Response(headers={"ETag": self._put(path, body_bytes, _kept(request.headers))})
        if request.method == "DELETE":
            self._objects.pop(path, None)
            return web.Response(status=204)
        if path not in self._objects or request.method != "HEAD":  # what was sent is gone
            return web.Response(status=404)
        return web.Response(headers={"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **self._objects[path]})

    def _upload(self, request: web.Request, number: str, body_bytes: int) -> web.Response:
        if number not in self._uploads:
            return web.Response(status=404)
        if request.method == "PUT":
            self._uploads[number].parts[request.query["partNumber"]] = body_bytes
            return web.Response(headers={"ETag": self._etag()})
        if request.method == "GET":
            return web.Response(status=501)
        upload = self._uploads.pop(number)
        if request.method == "DELETE":
            return web.Response(status=204)
        headers = {**upload.headers, **_kept(request.headers)}
        etag = self._put(request.path, sum(upload.parts.values()), headers)
        return _xml("CompleteMultipartUploadResult", **request.match_info, ETag=etag)

    def _put(self, path: str, size_bytes: int, headers: Mapping[str, str]) -> str:
        etag = self._etag()
        self._objects[path] = {**headers, "ETag": etag, "Content-Length": str(size_bytes)}
        return etag

    def _etag(self) -> str:
        return f'"{next(self._numbers):032x}-1"'


async def _drop_body(request: web.Request) -> int:
    """Its bytes; of a body in signed chunks what it means, which is a little less."""
    received = 0
    async for data in request.content.iter_any():
        received += len(data)
    return int(request.headers.get("x-amz-decoded-content-length", received))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith(_KEPT)}


def _xml(name: str, **fields: str) -> web.Response:
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in fields.items())
    return web.Response(text=f"<{name}>{inner}</{name}>", content_type="application/xml")


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


def main(port: int) -> None:
    """Until it is killed."""
    web.run_app(Sink().application(), host="127.0.0.1", port=port, print=lambda _: print("listening", flush=True))


if __name__ == "__main__":
    main(int(sys.argv[1]))
