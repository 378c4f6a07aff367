"""What an archive says about itself, in the pax comment of its last entry.

`verify --write-manifest` goes by it; every other reader refuses a manifest that says something else.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from activities.dataplane.manifest import Digest, Source, Totals, VolumeBlock


class Origin(BaseModel):
    """Where an archive comes from; the manifest says the same."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    archive_id: str
    workspace_id: str = ""
    created_at: str = ""
    source: Source | None = None
    volume: VolumeBlock | None = None


class Stated(BaseModel):
    """What of it the archiver tells to whoever reads by a manifest. ``segments``: how many come before the last one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    totals: Totals
    content_fingerprint: Digest
    segments: int


class Statement(Stated):
    """As it stands in the archive. The archiver has compared its digests with what it read."""

    origin: Origin
