"""The API server, as the harness speaks to it: plain objects over HTTPS, without any client library's opinion."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from tests.harness.cluster.pki import Identity

Json = dict[str, Any]

_CALL_SECONDS = 30.0
_LOOK_SECONDS = 0.1


class ApiError(Exception):
    """It answered with an error; ``status`` is HTTP's, the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Calls as the holder of ``who``. Each has a connection of its own, so a restart of the server breaks none."""

    def __init__(self, address: str, port: int, authority: str, who: Identity) -> None:
        self.address, self._port = address, port
        self._context = ssl.create_default_context(cafile=authority)
        self._context.load_cert_chain(who.certificate, who.key)

    def get(self, path: str) -> Json:
        """One object, or a list."""
        return self.call("GET", path)

    def create(self, path: str, body: Json) -> Json:
        """A new object in the collection ``path``."""
        return self.call("POST", path, body)

    def delete(self, path: str, **options: Any) -> Json:
        """Ask for its deletion. ``options`` are those of DeleteOptions."""
        return self.call("DELETE", path, options or None)

    def text(self, path: str) -> str:
        """What is no object: a log, a health check."""
        return self._call("GET", path, None).decode(errors="replace")

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """Raises ``ApiError``, or ``OSError`` where nobody answers."""
        answer: Json = json.loads(self._call(method, path, body))
        return answer

    def exists(self, path: str) -> bool:
        """Is there such an object."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def is_ready(self) -> bool:
        """Does it answer, and call itself ready."""
        try:
            return self.text("/readyz") == "ok"
        except (ApiError, OSError, http.client.HTTPException):
            return False

    def _call(self, method: str, path: str, body: Json | None) -> bytes:
        connection = http.client.HTTPSConnection(self.address, self._port, timeout=_CALL_SECONDS, context=self._context)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, data.decode(errors="replace"))
        return data


def wait_for(what: str, is_so: Callable[[], object], timeout: float = 60.0) -> None:
    """Look until it is so. Raises ``TimeoutError`` that says what was waited for."""
    deadline = time.monotonic() + timeout
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        time.sleep(_LOOK_SECONDS)
