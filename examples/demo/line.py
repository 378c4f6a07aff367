"""The line between worker, movers and store: it counts what is sent to the store, and can be made slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.harness.relay import Relay


class Line(Relay):
    """``with Line(target)`` listens on a free port of loopback and passes each connection on to ``target()``.

    ``target`` is called for each connection, so the server behind it may be started later.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        super().__init__("127.0.0.1", 0)
        self._find = target
        self._free_at = 0.0
        self.bytes_per_second: int | None = None
        """How fast all connections together may send to the target; ``None``: as fast as they can."""
        self.sent_bytes = 0
        """What was sent to the target so far, by connections that were cut too."""

    @property
    def target(self) -> tuple[str, int]:
        """Host and port of what it leads to now."""
        url = urlsplit(self._find())
        return str(url.hostname), url.port or 80

    async def passing(self, data: bytes) -> None:
        """Count, and wait until that many bytes may go."""
        self.sent_bytes += len(data)
        if self.bytes_per_second is not None:
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + len(data) / self.bytes_per_second
            await asyncio.sleep(self._free_at - now)
