"""What a mover in a container is, whichever engine runs it: its image, its commands, its rights.

Movers and walks take the volume at ``VOLUME``; a mover is passed what to do as its last argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from activities.backends.base import MoverSpec

VOLUME = "/volume"
"""Where the one volume is mounted."""
SCRATCH = "/tmp"
"""The one other place that can be written to."""

READING = ("DAC_OVERRIDE", "FOWNER")
"""DAC_OVERRIDE: read files of any owner and mode. FOWNER: open them without changing their access times.

Never DAC_READ_SEARCH: it unlocks ``open_by_handle_at``, a way out of the container.
"""
WRITING = (*READING, "CHOWN", "FSETID", "SETFCAP")
"""DAC_OVERRIDE: write into directories of any owner and mode. FOWNER: modes, times and xattrs of files of others.
CHOWN: owners. FSETID: keep setgid. SETFCAP: file capabilities. Devices but whiteouts would need MKNOD, ``trusted.*``
SYS_ADMIN."""


@dataclass(frozen=True)
class MoverImage:
    """How containers for movers are made. ``environment`` holds settings and credentials, and is never logged.

    ``memory_bytes``: their limit; what a mover needs is bounded by `budget_bytes`, for packing and for sending.
    """

    image: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    mover_command: tuple[str, ...] = ("python", "-m", "worker.mover")
    walk_command: tuple[str, ...] = ("python", "-m", "worker.walk")
    memory_bytes: int = 512 << 20
    pids: int = 256

    def mover_arguments(self, spec: MoverSpec) -> list[str]:
        """The command of a mover; the spec in it is JSON and has no credentials."""
        own = {name: value for name, value in asdict(spec).items() if name != "environment"}
        return [*self.mover_command, json.dumps(own)]

    def variables(self, spec: MoverSpec | None = None) -> dict[str, str]:
        """The environment of a container: the settings, and what the spec adds."""
        return {**self.environment, **(spec.environment if spec else {}), "TMPDIR": SCRATCH}


def other_protocol(spec: MoverSpec, spoken: int) -> str:
    """Why a mover that lives is not adopted."""
    return f"the mover on queue {spec.queue} speaks protocol {spoken}, this worker {spec.protocol}; it was ended"


def read_spec(text: str) -> MoverSpec:
    """The other end of ``mover_arguments``."""
    return MoverSpec(**json.loads(text))
