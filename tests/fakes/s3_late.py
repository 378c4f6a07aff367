"""Writes that the network delivers long after the client has lost hope, tried again and gone on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from tests.fakes.s3_faults import Answer, Exchange, Fault, Instead

_ATTEMPTS_OF_ONE_CALL = "Amz-Sdk-Invocation-Id"


@dataclass
class Late(Fault):
    """Keeps the first try of every call that it meets back and tells its client to slow down; the second try passes.

    What was kept is delivered by ``deliver``, signature and all, as often as one likes.
    """

    bucket: str = ""
    times: int | None = None
    kept: list[tuple[Exchange, bytes]] = field(default_factory=list, init=False)
    _calls: set[str] = field(default_factory=set, init=False)

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """The body is complete."""
        call = exchange.headers[_ATTEMPTS_OF_ONE_CALL]
        if call in self._calls:
            return body
        self._calls.add(call)
        self.kept.append((exchange, body))
        raise Instead(Answer(503, "Slow Down", {"Content-Length": "0"}, b""))

    async def deliver(self, port: int) -> list[int]:
        """All that was kept, in its order, to the server; its answers."""
        return [await self._send(port, exchange, body) for exchange, body in self.kept]

    async def _send(self, port: int, exchange: Exchange, body: bytes) -> int:
        target = quote(f"/{self.bucket}/{exchange.key}")
        if exchange.query:
            target += "?" + urlencode(exchange.query, quote_via=quote)
        lines = [f"{exchange.method} {target} HTTP/1.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in exchange.headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            await reader.read(-1)
        finally:
            writer.close()
        return status
