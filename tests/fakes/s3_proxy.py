"""A hostile network in front of a real S3 server, programmed request by request.

    async with S3Proxy(server_port) as proxy:
        proxy.add(DropAnswer(), on(method="POST", query="uploadId"))

A fault (see `s3_faults`) acts on the first requests that its predicate fits, as often as it was told, then steps aside.
Requests are forwarded unchanged otherwise, Host included, so that their signatures stay valid. ``proxy.log`` has all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.s3_faults import Answer, Cut, CutRequest, Exchange, Fault, Instead, Predicate, on

CHUNK = 64 * 1024
_NO_BODY = (204, 304)

F = TypeVar("F", bound=Fault)


class S3Proxy:
    """Listens on a free port of loopback. Addresses buckets by path. Bodies of requests are held in memory."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._faults: list[tuple[Fault, Predicate]] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.log: list[Exchange] = []

    @property
    def endpoint_url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def add(self, fault: F, predicate: Predicate) -> F:
        """Lets a fault meet the requests that ``predicate`` fits; the fault itself, to be watched or released."""
        self._faults.append((fault, predicate))
        return fault

    def clear(self) -> None:
        """No faults from here on. What is held stays held."""
        self._faults.clear()

    def seen(self, predicate: Predicate) -> list[Exchange]:
        """The exchanges so far that fit."""
        return [exchange for exchange in self.log if predicate(exchange)]

    def received_by_part(self, key: str) -> dict[int, int]:
        """Bytes of uploads by part number, what was sent again included."""
        total: dict[int, int] = {}
        for exchange in self.seen(on(method="PUT", key=key)):
            if exchange.part is not None:
                total[exchange.part] = total.get(exchange.part, 0) + exchange.received
        return total

    async def __aenter__(self) -> Self:
        """Starts to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes everything, also what is held."""
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (Cut, ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # we are closing
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. False when the connection ends."""
        head = await _read_head(reader)
        if head is None:
            return False
        exchange, target = _parse_request(head)
        exchange.abandoned = reader.at_eof
        self.log.append(exchange)
        faults = self._meet(exchange)
        for fault in faults:
            answer = await fault.before(exchange)
            if answer is not None:
                await _read_body(reader, writer, exchange, None)
                return await _send(writer, exchange, answer, None, [])
        cut = next((fault for fault in faults if isinstance(fault, CutRequest)), None)
        body = await _read_body(reader, writer, exchange, cut.at if cut else None)
        if cut and cut.stall:
            await asyncio.Event().wait()
        try:
            for fault in faults:
                body = await fault.request_body(exchange, body)
        except Instead as instead:
            return await _send(writer, exchange, instead.answer, None, [])
        return await self._forward(exchange, target, body, writer, faults, is_cut=cut is not None)

    def _meet(self, exchange: Exchange) -> list[Fault]:
        fitting = [
            fault
            for fault, predicate in self._faults
            if (fault.times is None or fault.met < fault.times) and predicate(exchange)
        ]
        for fault in fitting:
            fault.met += 1
        return fitting

    async def _forward(
        self,
        exchange: Exchange,
        target: str,
        body: bytes,
        writer: asyncio.StreamWriter,
        faults: list[Fault],
        *,
        is_cut: bool,
    ) -> bool:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1024 * 1024)
        try:
            lines = [f"{exchange.method} {target} HTTP/1.1", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in exchange.headers.items()]
            to_server.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            await to_server.drain()
            exchange.forwarded = True
            if is_cut:
                raise Cut
            answer = await _read_answer(from_server, exchange.method)
            for fault in faults:
                answer = await fault.answered(exchange, answer)
            return await _send(writer, exchange, answer, from_server, faults)
        finally:
            exchange.answered.set()  # also where the server hung up: a part, say, of an upload that is gone by now
            to_server.close()


async def _read_head(reader: asyncio.StreamReader) -> list[str] | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    return raw.decode("latin-1").rstrip("\r\n").split("\r\n")


def _headers(lines: list[str]) -> dict[str, str]:
    return {name.title(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _parse_request(head: list[str]) -> tuple[Exchange, str]:
    method, target, _ = head[0].split(" ")
    url = urlsplit(target)
    headers = _headers(head[1:])
    headers.pop("Connection", None)
    key = unquote(url.path).lstrip("/").partition("/")[2]
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Exchange(method=method, key=key, query=query, headers=headers), target


async def _read_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: Exchange, at_most: int | None
) -> bytes:
    """The body, or its first bytes. Who waits for "100 Continue" gets it from us."""
    headers = dict(exchange.headers)
    if headers.pop("Expect", None):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    exchange.headers = headers
    if "Transfer-Encoding" in headers:
        raise Cut  # not needed over plain HTTP, so not built
    length = int(headers.get("Content-Length", "0"))
    wanted = length if at_most is None else min(length, at_most)
    pieces: list[bytes] = []
    while exchange.received < wanted:
        piece = await reader.read(min(CHUNK, wanted - exchange.received))
        if not piece:
            raise Cut
        exchange.received += len(piece)
        pieces.append(piece)
    return b"".join(pieces)


async def _read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    head = await _read_head(reader)
    if head is None:
        raise Cut
    _, status, *reason = head[0].split(" ", 2)
    headers = _headers(head[1:])
    headers.pop("Connection", None)
    answer = Answer(int(status), " ".join(reason), headers)
    if method == "HEAD" or answer.status in _NO_BODY:
        answer.whole = b""
    elif "Content-Length" in headers:
        answer.length = int(headers["Content-Length"])
    else:
        is_chunked = headers.pop("Transfer-Encoding", None) is not None
        answer.whole = await (_read_chunked(reader) if is_chunked else reader.read(-1))
        headers["Content-Length"] = str(len(answer.whole))
    return answer


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    return b"".join(pieces)


async def _send(
    writer: asyncio.StreamWriter,
    exchange: Exchange,
    answer: Answer,
    source: asyncio.StreamReader | None,
    faults: list[Fault],
) -> bool:
    """The answer to the client. False when the connection must end with it: less was sent than was announced."""
    exchange.status = answer.status
    exchange.answered.set()
    lines = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    await writer.drain()
    if exchange.method == "HEAD" or answer.status in _NO_BODY:
        return True
    at = 0
    async for data in _pieces(answer, source):
        changed = data
        for fault in faults:
            changed = await fault.response_bytes(exchange, answer, at, changed)
        at += len(data)
        exchange.sent += len(changed)
        writer.write(changed)
        await writer.drain()
    return answer.headers.get("Content-Length") == str(exchange.sent)


async def _pieces(answer: Answer, source: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    if answer.whole is not None or source is None:
        yield answer.whole or b""
        return
    left = answer.length
    while left:
        data = await source.read(min(CHUNK, left))
        if not data:
            raise Cut
        left -= len(data)
        yield data
