"""Where the embedded stack keeps its things, and what it publishes about itself (``dev.json``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Layout:
    """The directories and files below the stack's data directory."""

    data_dir: Path

    @property
    def info(self) -> Path:
        """What the other commands read while the stack runs."""
        return self.data_dir / "dev.json"

    @property
    def state(self) -> Path:
        """What a later start needs again: ports and credentials."""
        return self.data_dir / "stack.json"

    @property
    def lock(self) -> Path:
        """Held by the one stack that runs on this directory."""
        return self.data_dir / "dev.lock"

    @property
    def temporal_db(self) -> Path:
        """Temporal's database."""
        return self.data_dir / "temporal.db"

    @property
    def store(self) -> Path:
        """SeaweedFS's data."""
        return self.data_dir / "seaweedfs"

    @property
    def volumes(self) -> Path:
        """The volume root of the directory backend."""
        return self.data_dir / "volumes"

    @property
    def logs(self) -> Path:
        """One log of each part."""
        return self.data_dir / "logs"

    @property
    def run(self) -> Path:
        """Pid files of the parts."""
        return self.data_dir / "run"

    @property
    def folders(self) -> tuple[Path, ...]:
        """All directories of the stack."""
        return self.store, self.volumes, self.logs, self.run


class DevInfo(BaseModel):
    """How to reach a running stack. Other programs read this file: fields are added, never renamed."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    temporal_address: str
    namespace: str
    web_ui: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    bucket: str
    volume_root: str
    logs: str

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """What the stack of this directory published; ``None`` if none runs. ``ValidationError`` for a broken file."""
        try:
            return cls.model_validate_json(Layout(data_dir).info.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, data_dir: Path) -> None:
        """Make the file whole or not at all, for its owner's eyes only."""
        write_private(Layout(data_dir).info, self.model_dump_json(indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; mode 0600 from its first byte."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
