"""docker-compose.yml on an engine of our own: the file as it is, by compose itself, and the host's side of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness import parts
from tests.harness.docker import OwnEngine
from tests.pages.shell import Shell

FILE = Path(__file__).parents[2] / "docker-compose.yml"
GROUP = "4321"
"""Of the socket, as on a machine where the engine's users are a group."""
_CALL_SECONDS = 900.0


class ComposeError(Exception):
    """A command failed; the message is what it said."""


class Compose:
    """The deployment on one engine, whose socket is of ``GROUP``.

    ``settings``: what an operator would write into `.env`.
    """

    def __init__(self, engine: OwnEngine, settings: Mapping[str, str]) -> None:
        self.engine = engine
        self._program = parts.binary("docker-compose")
        self._settings = dict(settings)
        self._environment = {**engine.environment(), "DOCKER_GID": GROUP, **settings}

    def __call__(self, *arguments: str) -> str:
        """What ``docker compose ARGUMENTS`` printed. Raises ``ComposeError``."""
        command = [str(self._program), "--file", str(FILE), "--env-file", os.devnull, "--progress", "plain", *arguments]
        return _said(command, self._environment)

    def up(self) -> None:
        """Bring it up, and return when all of it is healthy. Its images are there: nothing is built, nothing pulled."""
        try:
            self("up", "--no-build", "--pull", "never", "--wait", "--wait-timeout", "600")
        except ComposeError as error:
            raise ComposeError(f"{error}\n{self('ps', '--all')}\n{self('logs', '--tail', '40')}") from error

    def services(self) -> dict[str, dict[str, Any]]:
        """What compose says of each service's container, also of those that ended."""
        lines = self("ps", "--all", "--format", "json").splitlines()
        return {each["Service"]: each for each in map(json.loads, lines)}

    def host(self, *command: str) -> str:
        """What a command on the host prints; the engine's enclosure is the host here. Raises ``ComposeError``."""
        return _said(self.engine.enclosure.command(command), self._on_host())

    def shell(self, folder: Path) -> Shell:
        """A terminal on the host, where `docker compose` is a command as for everybody."""
        engine = {name: value for name, value in self._environment.items() if name.startswith("DOCKER_")}
        plugin = Path(engine["DOCKER_CONFIG"], "cli-plugins", self._program.name)
        plugin.parent.mkdir(parents=True, exist_ok=True)
        if not plugin.is_symlink():
            plugin.symlink_to(self._program)
        del engine["DOCKER_GID"]
        environment = {**self._settings, **engine, "HOME": str(self.engine.folder), "PATH": os.environ["PATH"]}
        return Shell(self.engine.enclosure.command(("env", f"--chdir={folder}")), environment)

    def storage(self, *arguments: str) -> dict[str, Any]:
        """What `codehub-storage --json` answers on the host, through the published port."""
        answer: dict[str, Any] = json.loads(self.host(*_storage(arguments)))
        return answer

    def start_storage(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same, and it is not waited for."""
        return subprocess.Popen(
            self.engine.enclosure.command(_storage(arguments)),
            env=self._on_host(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def fetch(self, url: str) -> str:
        """The page at an address, as the host sees it. Raises ``ComposeError``."""
        return self.host("curl", "--fail", "--silent", "--show-error", "--location", "--max-time", "30", url)

    def _on_host(self) -> dict[str, str]:
        """An environment without settings; nothing of this user's own stack is found."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CODEHUB_", "TEMPORAL_"))}
        return {**kept, "TEMPORAL_ADDRESS": "127.0.0.1:7233", "CODEHUB_STORAGE_DATA_DIR": str(self.engine.folder)}


def _storage(arguments: Sequence[str]) -> list[str]:
    command, *rest = arguments
    return [str(Path(sys.executable).with_name("codehub-storage")), command, "--json", *rest]


def _said(command: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CALL_SECONDS,
    )
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}".strip()[-8000:]
        raise ComposeError(f"{' '.join(command)}: status {done.returncode}\n{said}")
    return done.stdout
