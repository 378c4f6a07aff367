"""The manifest: the proof that an archive is whole, and the map by which it is read in parallel.

Written after the archive was read back, so an archive that no manifest names is unproven. Readers need only the
segment list; who writes may cut differently later. Unknown ``required_features`` mean: refuse.
"""

from __future__ import annotations

import base64
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.objectstore.base import ObjectInfo
from activities.state.fields import ArchiveId, Count, Ordinal
from activities.state.formats import check_format
from codehub_storage.errors import ErrorCode, StorageError

FORMAT_VERSION = 1
LONGEST_PATH = 1 << 14
"""Of a path in bytes, four times what the kernel takes at once."""

Name = Annotated[str, Field(max_length=255)]
Key = Annotated[str, Field(max_length=1024)]
Crc64 = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
Digest = Annotated[str, Field(pattern=r"^(b3:[0-9a-f]{64})?$")]
"""BLAKE3, or a fingerprint made of it; empty before it is known."""

Path64 = Annotated[str, Field(max_length=4 * (LONGEST_PATH // 3 + 1))]
"""A name in base64."""

_SEGMENTS, _HOLES, _WORDS = 10_000, 1 << 20, 1000


class Part(BaseModel):
    """Base of the manifest's parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredObject(Part):
    """The object that this manifest proves. ETag and version are those of the bucket in which it was read back; a copy
    elsewhere has others, and the same key, size and checksum."""

    key: Key = Field(description="object key")
    size_bytes: Count = Field(description="bytes of the object")
    etag: Name = Field(description="its ETag")
    version_id: Key | None = Field(default=None, description="its version; null on a bucket without versions")
    crc64: Crc64 = Field(description="CRC-64/NVME of the whole object, 16 hex digits")


class Source(Part):
    """What the archive was made from."""

    volume_uid: Name = Field(description="the volume that it was made from")
    place: Name = Field(description="where that volume was")
    restored_from: ArchiveId | None = Field(default=None, description="the archive that the volume had come from")
    change_fingerprint: Digest = Field(description="of the volume as it was read")


class VolumeBlock(Part):
    """What restore needs to make a volume like the one that was archived."""

    backend: Name = Field(description="kind of volumes there")
    size_bytes: Count | None = Field(default=None, description="size of the volume, where it had one")
    storage_class: Name | None = Field(default=None, description="its class, where it had one")
    labels: dict[Key, Key] = Field(default_factory=dict, max_length=_WORDS, description="labels that it bore")


class Totals(Part):
    """Counts over the whole tree. ``skipped`` counts by kind what an archive does not carry (sockets, devices)."""

    entries: Count = Field(default=0, description="all entries of the tree")
    files: Count = Field(default=0, description="regular files")
    directories: Count = Field(default=0, description="folders")
    symlinks: Count = Field(default=0, description="symbolic links")
    hard_links: Count = Field(default=0, description="further names of files")
    specials: Count = Field(default=0, description="pipes, overlay whiteouts, and other devices where they are allowed")
    file_bytes: Count = Field(default=0, description="bytes of file content")
    raw_bytes: Count = Field(default=0, description="bytes of the tar stream")
    stored_bytes: Count = Field(default=0, description="bytes of the archive object")
    skipped: dict[Name, Count] = Field(
        default_factory=dict, max_length=_WORDS, description="what is not carried, counted by kind"
    )


class Piece(Part):
    """Which bytes of its large file a segment carries. ``holes``: (offset, length) in the file, to be made again.

    The first piece's member opens with the file's tar header (``header_bytes`` raw bytes), the last one's ends with
    the padding to 512. ``file_bytes`` is the size of the whole file.
    """

    path: Path64
    offset: Count
    length: Count
    file_bytes: Count
    header_bytes: Count = 0
    holes: Annotated[tuple[tuple[Count, Count], ...], Field(max_length=_HOLES)] = ()


class Segment(Part):
    """One gzip member. Paths are base64 of the bytes of the name, relative, without a leading ``./``. What is not known
    before it is packed has a default, which no proven archive has."""

    kind: Name
    first: Path64 = ""
    last: Path64 = ""
    entries: Count
    raw_bytes: Count = 0
    digest: Digest = ""
    content: Digest = ""
    offset: Count = 0
    stored_bytes: Count = 0
    crc64: Crc64 = ""
    piece: Piece | None = None


class Manifest(Part):
    """``archive_id`` is ``None`` in the placeholder that stands before the first proof.

    ``nonce`` makes every placeholder another object, so that a late proof cannot take a later one for its own.
    """

    format_version: Ordinal = FORMAT_VERSION
    required_features: Annotated[tuple[Name, ...], Field(max_length=_WORDS)] = ()
    archive_id: ArchiveId | None = None
    nonce: Name | None = None
    workspace_id: Name = ""
    created_at: Name = ""
    object: StoredObject | None = None
    source: Source | None = None
    volume: VolumeBlock | None = None
    totals: Totals = Totals()
    content_fingerprint: Digest = ""
    segments: Annotated[tuple[Segment, ...], Field(max_length=_SEGMENTS)] = ()

    def to_json(self) -> bytes:
        """Stable: same manifest, same bytes."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """``ArchiveCorrupt`` for what is no manifest, ``Unsupported`` for one of a later format."""
        check_format(data, "the manifest", newest=FORMAT_VERSION)
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise StorageError(ErrorCode.ARCHIVE_CORRUPT, "the manifest cannot be read") from error

    def pinned_to(self, info: ObjectInfo) -> Manifest:
        """This manifest with the ETag and version that its object has today: what a read goes by, or a new proof."""
        if self.object is None:
            return self
        there = {"etag": info.etag, "version_id": info.version_id}
        return self.model_copy(update={"object": self.object.model_copy(update=there)})

    @property
    def is_placeholder(self) -> bool:
        """True before the first proof."""
        return self.archive_id is None


def encode_path(path: bytes) -> str:
    """A name of arbitrary bytes, as the manifest holds it."""
    return base64.b64encode(path).decode("ascii")


def decode_path(text: str) -> bytes:
    """The inverse of ``encode_path``."""
    return base64.b64decode(text, validate=True)
