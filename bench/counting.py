"""How many requests a command makes: a relay before the server that sees their heads, in a run that is not timed."""

from __future__ import annotations

import re
from collections import Counter

from tests.harness.relay import Relay

_HEAD = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) /\S* HTTP/1\.1\r\n")


class RequestCounter(Relay):
    """Before the server at ``target_port``, within a ``with`` block. ``methods``: requests seen, by method. Signatures
    stay valid: bytes are passed on as they are."""

    def __init__(self, target_port: int) -> None:
        super().__init__("127.0.0.1", target_port)
        self.methods: Counter[str] = Counter()

    async def passing(self, data: bytes) -> None:
        """Count. A client awaits the response before its next request, so a head is what is read first."""
        if found := _HEAD.match(data):
            self.methods[found[1].decode()] += 1
