"""Archives that no honest tool writes: raw tar headers, and own archives around arbitrary segments."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from awscrt import checksums
from blake3 import blake3

from activities.dataplane.manifest import Manifest, Piece, Segment, StoredObject, Totals, encode_path
from tests.fakes.memory_store import MemoryStore
from tests.oracle.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of
from tests.oracle.headers import build_header, padding_of

KEY = "ws1/home.tar.gz"
END = bytes(1024)
ROOT = Entry(b"", FileType.DIRECTORY, 0o755, mtime_ns=10**9)


def block(
    name: bytes = b"f",
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    link: bytes = b"",
    mode: bytes = b"0000644\0",
    ids: bytes = b"0000000\0" * 2,
    mtime: bytes = b"00000000000\0",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    device: bytes = b"0000000\0" * 2,
    checksum: bytes | None = None,
) -> bytes:
    """One header block with anything in it; its checksum is right unless one is given."""
    stated = size if isinstance(size, bytes) else b"%011o\0" % size
    head = name.ljust(100, b"\0") + mode + ids + stated + mtime
    tail = kind + link.ljust(100, b"\0") + magic + bytes(64) + device + prefix.ljust(155, b"\0") + bytes(12)
    total = b"%06o\0 " % (sum(head) + 8 * 32 + sum(tail))
    raw = head + (checksum or total) + tail
    assert len(raw) == 512
    return raw


def data(content: bytes) -> bytes:
    """File data, filled up to whole blocks."""
    return content + bytes(padding_of(len(content)))


def file(name: bytes, content: bytes = b"evil") -> bytes:
    """A regular file."""
    return block(name, size=len(content)) + data(content)


def record(key: bytes, value: bytes) -> bytes:
    """One pax record with a right length."""
    length = len(key) + len(value) + 3
    while len(b"%d %s=%s\n" % (length, key, value)) != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def pax(*pairs: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header."""
    body = b"".join(record(key, value) for key, value in pairs)
    return block(b"./PaxHeaders/x", kind, size=len(body)) + data(body)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's extension for a long name, or (``K``) a long link target."""
    return block(b"././@LongLink", kind, size=len(name) + 1) + data(name + b"\0")


def base256(value: int, width: int) -> bytes:
    """A number as GNU tar writes it where octal digits do not suffice, or it is negative."""
    return (b"\x80" if value >= 0 else b"\xff") + (value % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")


@dataclass(frozen=True)
class Forged:
    """One segment: its raw bytes, and what the manifest shall say of it."""

    kind: str
    raw: bytes
    first: bytes = b""
    last: bytes = b""
    entries: int = 1
    content: Content = EMPTY_CONTENT
    piece: Piece | None = None
    digest: str | None = None
    stored: bytes | None = None
    raw_bytes: int | None = None
    crc64: str | None = None
    root: tuple[int, int] | None = None
    """Where the header of its last entry stands, if that shall state the truth about the whole."""


def pack(raw: bytes) -> bytes:
    """A sound gzip member, by a packer that is not ours."""
    return gzip.compress(raw, 6, mtime=0)


def files(raw: bytes, first: bytes, last: bytes | None = None, entries: int = 1) -> Forged:
    """A data segment around ``raw``."""
    return Forged("files", raw, first, first if last is None else last, entries)


def honest(*paths: bytes, content: bytes = b"good") -> Forged:
    """A data segment as we write it."""
    entries = [Entry(path, FileType.FILE, 0o644, size=len(content), mtime_ns=10**9) for path in paths]
    total = EMPTY_CONTENT
    for entry in entries:
        total = total.plus(content_of(entry))
    raw = b"".join(build_header(entry) + data(content) for entry in entries)
    return Forged("files", raw, paths[0], paths[-1], len(paths), total)


def tail(*entries: Entry, raw: bytes = b"", end: bytes = END) -> Forged:
    """A tail with these entries, then ``raw``, then the root and the end."""
    total = EMPTY_CONTENT
    for entry in (*entries, ROOT):
        total = total.plus(content_of(entry))
    before, root = b"".join(map(build_header, entries)) + raw, build_header(ROOT)
    place = len(before), len(before) + len(root)
    return Forged("tail", before + root + end, entries=len(entries) + 1, content=total, root=place)


def stating(segment: Forged, before: Sequence[Forged], totals: Totals) -> Forged:
    """This tail behind these segments, with a statement that is true of all."""
    if segment.root is None:
        return segment
    start, end = segment.root
    total, digests = segment.content, blake3()
    for each in before:
        total = total.plus(each.content)
        digests.update(blake3(each.raw).digest())
    statement = {
        "format": "codehub-storage",
        "version": 1,
        "origin": {"archive_id": "a"},
        "totals": totals.model_dump(),
        "content_fingerprint": total.text(),
        "segments": len(before),
        "segments_digest": f"b3:{digests.hexdigest()}",
        "last_digest": f"b3:{blake3(segment.raw[:start]).hexdigest()}",
    }
    root = build_header(ROOT, comment=json.dumps(statement))
    return replace(segment, raw=segment.raw[:start] + root + segment.raw[end:])


async def forge(store: MemoryStore, *segments: Forged, totals: Totals | None = None) -> Manifest:
    """Store an own archive of these segments; the manifest is right about all that the segments do not overrule."""
    stored, listed, offset = b"", [], 0
    segments = (*segments[:-1], stating(segments[-1], segments[:-1], totals or Totals()))
    for segment in segments:
        body = segment.stored if segment.stored is not None else pack(segment.raw)
        listed.append(
            Segment(
                kind=segment.kind,
                first=encode_path(segment.first),
                last=encode_path(segment.last),
                entries=segment.entries,
                raw_bytes=len(segment.raw) if segment.raw_bytes is None else segment.raw_bytes,
                digest=segment.digest or f"b3:{blake3(segment.raw).hexdigest()}",
                content=segment.content.text(),
                offset=offset,
                stored_bytes=len(body),
                crc64=segment.crc64 or f"{checksums.crc64nvme(body):016x}",
                piece=segment.piece,
            )
        )
        stored += body
        offset += len(body)
    info = await store.put_if(KEY, stored, etag=None)
    total = EMPTY_CONTENT
    for segment in segments:
        total = total.plus(segment.content)
    return Manifest(
        archive_id="a",
        workspace_id="ws1",
        object=StoredObject(
            key=KEY, size_bytes=info.size_bytes, etag=info.etag, crc64=f"{checksums.crc64nvme(stored):016x}"
        ),
        totals=totals or Totals(),
        content_fingerprint=total.text(),
        segments=tuple(listed),
    )
