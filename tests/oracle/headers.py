"""The tar headers that the archiver writes, written once more: ustar, with a pax extension where an entry needs it."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable

from tests.oracle.entries import Entry, FileType

BLOCK = 512
NANOS = 1_000_000_000
NAME_BYTES = 100
XATTR_PREFIX = b"SCHILY.xattr."
_EXTENSION = b"x"[0]
_ID_LIMIT = 0o7777777
_NUMBER_LIMIT = 0o77777777777
_MAGIC = b"ustar\x0000" + bytes(64)
_NO_PREFIX = bytes(167)


def padding_of(size: int) -> int:
    """How many bytes fill up the last block of a file of ``size`` bytes."""
    return -size % BLOCK


def build_header(entry: Entry, *, comment: str = "") -> bytes:
    """The header blocks of an entry: a pax extension where needed, then the ustar header. Data follows it."""
    name = _stored_name(entry)
    records: list[tuple[bytes, bytes]] = [(b"comment", comment.encode())] if comment else []
    if len(name) > NAME_BYTES or not name.isascii():
        records.append((b"path", name))
    if len(entry.target) > NAME_BYTES or not entry.target.isascii():
        records.append((b"linkpath", entry.target))
    for key, value, limit in ((b"size", entry.size, _NUMBER_LIMIT), (b"uid", entry.uid, _ID_LIMIT)):
        if value > limit:
            records.append((key, b"%d" % value))
    if entry.gid > _ID_LIMIT:
        records.append((b"gid", b"%d" % entry.gid))
    seconds, nanos = divmod(entry.mtime_ns, NANOS)
    if nanos or not 0 <= seconds <= _NUMBER_LIMIT:
        records.append((b"mtime", format_time(entry.mtime_ns)))
    if entry.type is not FileType.HARD_LINK:
        records += [(XATTR_PREFIX + _escape(key), value) for key, value in entry.xattrs]
    header = _ustar(
        name[:NAME_BYTES],
        int(entry.type),
        mode=entry.mode,
        uid=entry.uid if entry.uid <= _ID_LIMIT else 0,
        gid=entry.gid if entry.gid <= _ID_LIMIT else 0,
        size=entry.size if entry.size <= _NUMBER_LIMIT else 0,
        mtime=seconds if 0 <= seconds <= _NUMBER_LIMIT else 0,
        target=entry.target[:NAME_BYTES],
        device=entry.device,
    )
    return _extension(records) + header if records else header


def format_time(mtime_ns: int) -> bytes:
    """A time as pax has it: seconds, and a fraction without trailing zeros."""
    sign = b"-" if mtime_ns < 0 else b""
    seconds, nanos = divmod(abs(mtime_ns), NANOS)
    fraction = (b".%09d" % nanos).rstrip(b"0") if nanos else b""
    return sign + b"%d" % seconds + fraction


def _stored_name(entry: Entry) -> bytes:
    if entry.type is FileType.DIRECTORY:
        return entry.path + b"/" if entry.path else b"./"
    return entry.path


def _escape(name: bytes) -> bytes:
    """GNU tar's escape: a pax key ends at the first ``=``."""
    return name.replace(b"%", b"%25").replace(b"=", b"%3D")


def _extension(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = b"".join([_record(key, value) for key, value in records])
    return _extension_header(len(body)) + body + bytes(padding_of(len(body)))


@functools.lru_cache(maxsize=1024)
def _extension_header(size: int) -> bytes:
    return _ustar(b"./PaxHeaders/entry", _EXTENSION, mode=0o644, size=size)


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(
    name: bytes,
    flag: int,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = name.ljust(NAME_BYTES, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    rest = b"%c%b%b%07o\0%07o\0%b" % (flag, target.ljust(NAME_BYTES, b"\0"), _MAGIC, *device, _NO_PREFIX)
    return b"%b%06o\0 %b" % (head, _sum_of(head) + _sum_of(rest) + 8 * 32, rest)


def _sum_of(part: bytes) -> int:
    """The sum of all bytes. Adler-32 has it 20 times as fast, modulo a prime that no ASCII of this length reaches."""
    return (zlib.adler32(part) & 0xFFFF) - 1 if part.isascii() else sum(part)
