"""The manifest: the proof that an archive is whole, and the map by which it is read in parallel.

Written after the archive was read back, so an archive that no manifest names is unproven. Readers need only the
segment list; who writes may cut differently later. Unknown ``required_features`` mean: refuse.
"""

from __future__ import annotations

import base64

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError

FORMAT_VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()


class Part(BaseModel):
    """Base of the manifest's parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredObject(Part):
    """The object that this manifest proves. ETag and version are those of the bucket in which it was read back; a copy
    elsewhere has others, and the same key, size and checksum."""

    key: str = Field(description="object key")
    size_bytes: int = Field(description="bytes of the object")
    etag: str = Field(description="its ETag")
    version_id: str | None = Field(default=None, description="its version; null on a bucket without versions")
    crc64: str = Field(description="CRC-64/NVME of the whole object, 16 hex digits")


class Source(Part):
    """What the archive was made from."""

    volume_uid: str = Field(description="the volume that it was made from")
    place: str = Field(description="where that volume was")
    restored_from: str | None = Field(default=None, description="the archive that the volume had come from")
    change_fingerprint: str = Field(description="of the volume as it was read")


class VolumeBlock(Part):
    """What restore needs to make a volume like the one that was archived."""

    backend: str = Field(description="kind of volumes there")
    size_bytes: int | None = Field(default=None, description="size of the volume, where it had one")
    storage_class: str | None = Field(default=None, description="its class, where it had one")
    labels: dict[str, str] = Field(default_factory=dict, description="labels that it bore")


class Totals(Part):
    """Counts over the whole tree. ``skipped`` counts by kind what an archive does not carry (sockets, devices)."""

    entries: int = Field(default=0, description="all entries of the tree")
    files: int = Field(default=0, description="regular files")
    directories: int = Field(default=0, description="folders")
    symlinks: int = Field(default=0, description="symbolic links")
    hard_links: int = Field(default=0, description="further names of files")
    specials: int = Field(default=0, description="pipes, overlay whiteouts, and other devices where they are allowed")
    file_bytes: int = Field(default=0, description="bytes of file content")
    raw_bytes: int = Field(default=0, description="bytes of the tar stream")
    stored_bytes: int = Field(default=0, description="bytes of the archive object")
    padding_bytes: int = Field(default=0, description="of these, filling that a part's minimum size asked for")
    skipped: dict[str, int] = Field(default_factory=dict, description="what is not carried, counted by kind")


class Piece(Part):
    """Which bytes of its large file a segment carries. ``holes``: (offset, length) in the file, to be made again.

    The first piece's member opens with the file's tar header (``header_bytes`` raw bytes), the last one's ends with
    the padding to 512. ``file_bytes`` is the size of the whole file.
    """

    path: str
    offset: int
    length: int
    file_bytes: int
    header_bytes: int = 0
    holes: tuple[tuple[int, int], ...] = ()


class Segment(Part):
    """One gzip member. Paths are base64 of the bytes of the name, relative, without a leading ``./``."""

    kind: str
    first: str = ""
    last: str = ""
    entries: int
    raw_bytes: int
    sha256: str
    content: str
    offset: int
    stored_bytes: int
    crc64: str
    piece: Piece | None = None


class Manifest(Part):
    """``archive_id`` is ``None`` in the placeholder that stands before the first proof.

    ``nonce`` makes every placeholder another object, so that a late proof cannot take a later one for its own.
    """

    format_version: int = FORMAT_VERSION
    required_features: tuple[str, ...] = ()
    archive_id: str | None = None
    nonce: str | None = None
    workspace_id: str = ""
    created_at: str = ""
    object: StoredObject | None = None
    source: Source | None = None
    volume: VolumeBlock | None = None
    totals: Totals = Totals()
    content_fingerprint: str = ""
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> bytes:
        """Stable: same manifest, same bytes."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """``ArchiveCorrupt`` for what is no manifest, ``Unsupported`` for one of a later format."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise StorageError(ErrorCode.ARCHIVE_CORRUPT, "the manifest cannot be read") from error
        unknown = set(manifest.required_features) - KNOWN_FEATURES
        if manifest.format_version > FORMAT_VERSION or unknown:
            raise StorageError(
                ErrorCode.UNSUPPORTED,
                f"the manifest has format {manifest.format_version} and asks for {sorted(unknown)}",
                hint="Upgrade the service.",
            )
        return manifest

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
