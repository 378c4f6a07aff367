"""Archives that no honest tool writes: raw tar headers, and own archives around arbitrary segments."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from awscrt import checksums

from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of
from activities.dataplane.gzipmember import MemberWriter
from activities.dataplane.manifest import Manifest, Piece, Segment, StoredObject, Totals, encode_path
from activities.dataplane.tarheader import padding_of
from activities.dataplane.tarwrite import build_header
from activities.objectstore.base import ObjectInfo
from tests.fakes.memory_store import MemoryStore

KEY = "ws1/home.tar.gz"
END = bytes(1024)


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
    sha256: str | None = None
    stored: bytes | None = None


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
    root = Entry(b"", FileType.DIRECTORY, 0o755, mtime_ns=10**9)
    total = EMPTY_CONTENT
    for entry in (*entries, root):
        total = total.plus(content_of(entry))
    body = b"".join(map(build_header, entries)) + raw + build_header(root) + end
    return Forged("tail", body, entries=len(entries) + 1, content=total)


async def forge(store: MemoryStore, *segments: Forged, totals: Totals | None = None) -> Manifest:
    """Store an own archive of these segments; the manifest is right about all that the segments do not overrule."""
    stored, listed, offset = b"", [], 0
    for segment in segments:
        member = MemberWriter()
        member.write(segment.raw)
        packed = member.finish()
        body = segment.stored if segment.stored is not None else b"".join(packed.chunks)
        listed.append(
            Segment(
                kind=segment.kind,
                first=encode_path(segment.first),
                last=encode_path(segment.last),
                entries=segment.entries,
                raw_bytes=len(segment.raw),
                sha256=segment.sha256 or hashlib.sha256(segment.raw).hexdigest(),
                content=segment.content.hex(),
                offset=offset,
                stored_bytes=len(body),
                crc64=int(checksums.crc64nvme(body)).to_bytes(8, "big").hex(),
                piece=segment.piece,
            )
        )
        stored += body
        offset += len(body)
    info = await store.put_if(KEY, stored, etag=None)
    return Manifest(
        archive_id="a",
        workspace_id="ws1",
        object=StoredObject(key=KEY, size_bytes=info.size_bytes, etag=info.etag, crc64="0" * 16),
        totals=totals or Totals(),
        segments=tuple(listed),
    )


async def put_foreign(store: MemoryStore, raw: bytes) -> ObjectInfo:
    """Store raw tar bytes as a gzip file under a foreign key."""
    return await store.put_if("archives/ws1.tar.gz", gzip.compress(raw), etag=None)


class Outside:
    """A world around the target folder that must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "a/b/target"
        self.target.mkdir(parents=True)
        self._folder = folder
        (folder / "victim").write_bytes(b"untouched")
        (folder / "a/b/victim").write_bytes(b"untouched")
        (folder / "a/b/target-too").mkdir()
        self._before = self._look()

    def is_unchanged(self) -> bool:
        """True if nothing but the target changed: names, data, modes, owners, times."""
        return self._look() == self._before

    def _look(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(self._folder.rglob("*")):
            if self.target in path.parents or path in (self.target, self._folder / "spool"):
                continue
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)
        return found
