"""The tail: everything that is no file's data, and the archive's statement about itself.

Symlinks, further names of hard links and specials come first, then all folders, those inside before the outer, the
root at the very end. The root's extended header carries a pax ``comment`` with the statement: what the archive was
made from, and digests over all raw bytes before it. Plain readers ignore it; `verify --write-manifest` needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.dataplane.cutting import raw_size
from activities.dataplane.entries import EMPTY_CONTENT, Content
from activities.dataplane.gzipmember import MemberWriter, PackedMember
from activities.dataplane.manifest import Source, Totals, VolumeBlock
from activities.dataplane.plan import Plan
from activities.dataplane.spool import Spooled
from activities.dataplane.tarheader import END_OF_ARCHIVE
from activities.dataplane.tarwrite import build_header
from activities.dataplane.threads import Stop

_FORMAT = "codehub-storage"
_BATCH_BYTES = 1 << 18


class Origin(BaseModel):
    """What an archive says about where it comes from; the manifest says the same."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    archive_id: str
    workspace_id: str = ""
    created_at: str = ""
    source: Source | None = None
    volume: VolumeBlock | None = None


class Statement(BaseModel):
    """What stands in the pax comment of the archive's last entry.

    ``segments``: how many come before the last one. ``segments_sha256``: SHA-256 over their SHA-256 digests (32 bytes
    each, in order). ``last_sha256``: SHA-256 of the last segment's raw bytes before the header of its last entry.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: str = _FORMAT
    version: int = 1
    origin: Origin
    totals: Totals
    content_fingerprint: str
    segments: int
    segments_sha256: str
    last_sha256: str

    @classmethod
    def from_comment(cls, comment: bytes) -> Statement | None:
        """The statement, or ``None`` for a comment that is none of ours."""
        try:
            statement = cls.model_validate_json(comment)
        except ValidationError:
            return None
        return statement if statement.format == _FORMAT else None


@dataclass(frozen=True)
class TailSegment:
    """A packed segment of the tail."""

    member: PackedMember
    content: Content


def pack_tail(plan: Plan, origin: Origin, data_digests: Iterable[bytes], stop: Stop) -> Iterator[TailSegment]:
    """The tail's segments, one after the other. ``data_digests``: the SHA-256 of each data segment, in order."""
    before, count = hashlib.sha256(), 0
    for digest in data_digests:
        before.update(digest)
        count += 1
    current = _OpenSegment()
    for starts_segment, (_, entry, content) in tail_cuts(plan):
        stop.check()
        if starts_segment:
            done = current.close()
            before.update(done.member.sha256)
            count += 1
            yield done
            current = _OpenSegment()
        if entry.path:
            current.add(build_header(entry), content)
            continue
        statement = Statement(
            origin=origin,
            totals=plan.summary.totals,
            content_fingerprint=plan.summary.content_fingerprint,
            segments=count,
            segments_sha256=before.hexdigest(),
            last_sha256=current.digest.hexdigest(),
        )
        current.add(build_header(entry, comment=statement.model_dump_json(exclude_none=True)), content)
    current.write(END_OF_ARCHIVE)
    yield current.close()


def tail_cuts(plan: Plan) -> Iterator[tuple[bool, Spooled]]:
    """The tail's entries in order, each with whether another segment than the first begins with it."""
    weight = 0
    for spooled in plan.tail_entries():
        raw = raw_size(spooled.entry)
        starts_segment = weight > 0 and weight + raw > plan.limits.segment_bytes
        weight = raw if starts_segment else weight + raw
        yield starts_segment, spooled


class _OpenSegment:
    """A tail segment that still takes entries."""

    def __init__(self) -> None:
        self._member = MemberWriter()
        self._batch = bytearray()
        self._content = EMPTY_CONTENT
        self.digest = hashlib.sha256()

    def add(self, header: bytes, content: Content) -> None:
        self.write(header)
        self._content = self._content.plus(content)

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self._batch += data
        if len(self._batch) >= _BATCH_BYTES:
            self._flush()

    def close(self) -> TailSegment:
        self._flush()
        return TailSegment(self._member.finish(), self._content)

    def _flush(self) -> None:
        self._member.write(bytes(self._batch))
        self._batch.clear()
