"""What `s3_proxy.S3Proxy` does to requests and answers: delays, losses, lies and damage, one class each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/\d+")


@dataclass
class Exchange:
    """One request and what became of it.

    ``received``: body bytes from the client. ``sent``: body bytes back to it. ``answered``: the server's answer, or
    what stands for it, is known, though perhaps nobody waits for it any more: then ``abandoned`` is true.
    """

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    received: int = 0
    sent: int = 0
    forwarded: bool = False
    status: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: Callable[[], bool] = lambda: False

    @property
    def part(self) -> int | None:
        """The part's number, for an upload of one."""
        number = self.query.get("partNumber")
        return int(number) if number else None


Predicate = Callable[[Exchange], bool]


def on(
    *, method: str | None = None, key: str | None = None, query: str | None = None, part: int | None = None
) -> Predicate:
    """Fits requests of this method, for this key (or one that ends with it), with this query parameter, this part."""

    def fits(exchange: Exchange) -> bool:
        return (
            (method is None or exchange.method == method)
            and (key is None or exchange.key.endswith(key))
            and (query is None or query in exchange.query)
            and (part is None or exchange.part == part)
        )

    return fits


@dataclass
class Answer:
    """A response head. The body, ``length`` bytes, comes from the server as it arrives, unless ``whole`` holds it."""

    status: int
    reason: str
    headers: dict[str, str]
    whole: bytes | None = None
    length: int = 0


class Cut(Exception):
    """Close the client's connection now."""


class Instead(Exception):
    """Answer the client with this; the server learns nothing of the request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass
class Fault:
    """Does nothing; the base of all. ``times``: how many requests it meets, ``None`` for all."""

    times: int | None = 1
    met: int = field(default=0, init=False)

    async def before(self, exchange: Exchange) -> Answer | None:
        """The request's head is here, its body is not. An answer ends it there; the server learns nothing."""

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """The body as it is forwarded. Its length must stay."""
        return body

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """The server has acted; the answer as it goes on."""
        return answer

    async def response_bytes(self, exchange: Exchange, answer: Answer, at: int, data: bytes) -> bytes:
        """Bytes of the answer's body, the first of them number ``at``."""
        return data


@dataclass
class Hold(Fault):
    """Holds a request back before the server sees it, or its answer after the server acted, until ``release`` is set.

    A client that gives up meanwhile does not stop the request: it arrives late.
    """

    after: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    release: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """Waits here, with the body complete."""
        if not self.after:
            self.reached.set()
            await self.release.wait()
        return body

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Or waits here."""
        if self.after:
            self.reached.set()
            await self.release.wait()
        return answer


@dataclass
class DropAnswer(Fault):
    """The server acts, the client never hears of it."""

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Closes the connection in place of the answer."""
        raise Cut


@dataclass
class Silence(Fault):
    """The server acts (``forward``) or not, and nothing more is heard until the client gives up."""

    forward: bool = False

    async def before(self, exchange: Exchange) -> Answer | None:
        """Waits for ever."""
        if not self.forward:
            await asyncio.Event().wait()
        return None

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Waits for ever."""
        await asyncio.Event().wait()
        return answer


@dataclass
class Reply(Fault):
    """Answers in the server's place; with ``forward`` after the server acted, instead of its answer.

    The body is an error of ``code``, nothing without one, or what ``body`` says.
    """

    status: int = 503
    code: str | None = "SlowDown"
    body: bytes | None = None
    forward: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    async def before(self, exchange: Exchange) -> Answer | None:
        """At once, unless forwarded."""
        return None if self.forward else self._answer()

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """In place of the true one."""
        return self._answer()

    def _answer(self) -> Answer:
        error = f"<Error><Code>{self.code}</Code><Message>as told</Message></Error>" if self.code else ""
        body = error.encode() if self.body is None else self.body
        headers = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **self.headers}
        return Answer(self.status, "As told", headers, body)


@dataclass
class CutRequest(Fault):
    """Takes ``at`` bytes of the request's body, passes them on, and closes both connections.

    ``stall``: takes no more, passes nothing on, and closes nothing.
    """

    at: int = 0
    stall: bool = False


@dataclass
class CutResponse(Fault):
    """Closes the connection after ``at`` bytes of the answer's body; ``hide_length``: with no length announced."""

    at: int = 0
    hide_length: bool = False

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Without a length the end of the connection looks like the end of the body."""
        if self.hide_length:
            answer.headers.pop("Content-Length", None)
        return answer

    async def response_bytes(self, exchange: Exchange, answer: Answer, at: int, data: bytes) -> bytes:
        """Passes what is before the cut."""
        return data[: max(0, self.at - at)]


@dataclass
class Truncate(Fault):
    """Leaves out the end of the answer's body and announces the shorter length: a lie without a visible seam."""

    keep: int = 0

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """The shorter length."""
        answer.headers["Content-Length"] = str(min(self.keep, int(answer.headers.get("Content-Length", "0"))))
        return answer

    async def response_bytes(self, exchange: Exchange, answer: Answer, at: int, data: bytes) -> bytes:
        """Passes what is before the end."""
        return data[: max(0, self.keep - at)]


@dataclass
class LoseEnd(Fault):
    """The object has only its first ``keep`` bytes, whatever range is asked for; its ETag is as it was."""

    times: int | None = None
    keep: int = 1 << 40

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """As a server answers that has no more."""
        if answer.status >= 300:
            return answer
        start = _start(answer)
        length = min(int(answer.headers["Content-Length"]), self.keep - start)
        if length <= 0:
            return Reply(status=416, code="InvalidRange")._answer()
        answer.headers["Content-Length"] = str(length)
        if "Content-Range" in answer.headers:
            answer.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{self.keep}"
        return answer

    async def response_bytes(self, exchange: Exchange, answer: Answer, at: int, data: bytes) -> bytes:
        """Passes what there is."""
        return data[: max(0, self.keep - _start(answer) - at)] if answer.status < 300 else data


def _start(answer: Answer) -> int:
    """The place in the object of an answer's first byte."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


@dataclass
class FlipStored(Fault):
    """The object has one other bit at byte ``at``, whatever range is read: rot, as every reader sees it.

    The checksum that the server remembers goes out as it was, as real servers do: they remember, and do not look.
    """

    times: int | None = None
    at: int = 0

    async def response_bytes(self, exchange: Exchange, answer: Answer, at: int, data: bytes) -> bytes:
        """The bit is found by the range that the answer names."""
        place = self.at - _start(answer) - at
        return _flip(data, place) if 0 <= place < len(data) and answer.status < 300 else data


@dataclass
class FlipUpload(Fault):
    """One bit of the request's body changes on the way. Its checksum does not: it is part of what is signed."""

    at: int = 0

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """The other bytes."""
        return _flip(body, self.at)


def _flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)
