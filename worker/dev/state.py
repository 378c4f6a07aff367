"""What a start of the embedded stack needs again after a kill: its ports and its credentials; and who may start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.backends.directory.trash import remove_tree
from activities.runtime.linux.syscalls import inode
from codehub_storage.errors import StorageError
from worker.dev.info import Layout, write_private
from worker.dev.process import StackError
from worker.dev.seaweed import free_ports
from worker.dev.temporal import USUAL_PORTS

_USUAL_STORE_PORT = 8333
_STORE_PORTS = 10
_ANY = 0
_PATIENCE_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_TURN = b"\0codehub-storage-dev-ports"
_TURN_SECONDS = 60.0


class StackRuns(StackError):
    """Another stack runs on this directory."""


class StackState(BaseModel):
    """Kept in the data directory; only its owner may read it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    temporal_ports: tuple[int, ...] = (*USUAL_PORTS, _ANY)
    store_ports: tuple[int, ...] = (_USUAL_STORE_PORT, *[_ANY] * (_STORE_PORTS - 1))
    access_key: str
    secret_key: str

    @classmethod
    def load(cls, layout: Layout) -> Self:
        """The state of the last start, or a first one; with other ports where another process has them by now."""
        try:
            state, seconds = cls.model_validate_json(layout.state.read_bytes()), _PATIENCE_SECONDS
        except FileNotFoundError:
            state, seconds = cls(access_key=secrets.token_hex(10), secret_key=secrets.token_hex(20)), 0.0
        except ValidationError as error:
            raise StackError(f"{layout.state} is damaged; remove it for new ports and credentials") from error
        ports = usable_ports((*state.temporal_ports, *state.store_ports), seconds)
        middle = len(state.temporal_ports)
        state = state.model_copy(update={"temporal_ports": ports[:middle], "store_ports": ports[middle:]})
        write_private(layout.state, state.model_dump_json(indent=2) + "\n")
        return state


def usable_ports(wanted: Sequence[int], seconds: float) -> tuple[int, ...]:
    """The wanted ports of loopback, another one for each that is 0 or still taken after ``seconds`` seconds.

    A killed server gives its ports back a moment after its death.
    """
    deadline = time.monotonic() + seconds
    while not all(_is_free(port) for port in wanted if port) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    spare = iter(set(free_ports(2 * len(wanted))) - set(wanted))
    return tuple(port if port and _is_free(port) else next(spare) for port in wanted)


def take_turn(seconds: float = _TURN_SECONDS) -> socket.socket:
    """Wait for the turn to choose ports. It is held until the returned socket is closed: when the servers are bound.

    Two stacks that start at once would find the same ports free. The turn is a name among the sockets of the network
    namespace, as ports are, and ends with its holder, however that ends. After ``seconds`` it is no longer
    waited for: a process that holds it so long is stuck, and ports are mostly free.
    """
    turn, deadline = socket.socket(socket.AF_UNIX), time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            turn.bind(_TURN)
            break
        time.sleep(_LOOK_SECONDS)
    return turn


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections may linger on it
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def reset(layout: Layout) -> bool:
    """Remove all that stacks left in the directory: servers' data, volumes, archives, ports, credentials, logs. False
    if there was nothing. For the holder of ``sole_stack``, whose file stays. What else is in the directory is not
    touched.

    ``StackError`` for a directory that no stack has made, and for what may not be removed.
    """
    if not layout.state.exists():
        strange = [path for path in layout.folders if path.exists()]
        if strange:
            raise StackError(
                f"{strange[0]} was not made by a stack, since {layout.state} is missing; nothing was removed"
            )
        return False
    try:
        for path in layout.folders:
            if (found := inode(path)) is not None:
                remove_tree(path, found)
        for path in layout.data_dir.glob(f"{layout.temporal_db.name}*"):  # its write-ahead log, too
            path.unlink()
        layout.info.unlink(missing_ok=True)
        layout.state.unlink()  # last: what is removed by half can be reset again
    except (OSError, StorageError) as error:
        raise StackError(f"not all of {layout.data_dir} could be removed: {error}") from error
    return True


@contextlib.contextmanager
def sole_stack(path: Path) -> Iterator[None]:
    """Hold the lock of the directory. Raises ``StackRuns`` if another process does; a killed holder holds nothing."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            raise StackRuns(f"a stack runs on {path.parent} already (pid {holder}); use it, or stop it first") from None
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
