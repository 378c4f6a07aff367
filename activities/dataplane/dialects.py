"""Tar headers as all the world writes them: v7, ustar, GNU (long names, sparse), POSIX pax with its sparse forms.

Only foreign archives need this; ours are read by ``tarheader``. It trusts nothing: every number has a range, every
record a length limit, and what this reader cannot carry is refused instead of guessed. Errors: ``ArchiveCorrupt``,
``Unsupported``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from activities.dataplane.beneath import shown
from activities.dataplane.entries import Entry, FileType
from codehub_storage.errors import ErrorCode, StorageError

BLOCK = 512
PATH_MAX = 4096
_RECORD_LIMIT = 1 << 20
"""The kernel's own limit on what xattrs and names of one file can need stays below this."""
_GLOBAL_LIMIT = 1 << 16
"""Of all global headers together: every entry gets a copy of what they say."""
_SPARSE_LIMIT = 100_000
_ID_LIMIT = (1 << 32) - 2
_SECONDS_LIMIT = (1 << 63) // 10**9
_TIME = re.compile(rb"(-?)([0-9]{1,12})(?:\.([0-9]*))?")
_NOUGHT = re.compile(rb" *0+[ \0]*")
_NO_WHITEOUT = (0xFFF, 0xFFFFF)
_XATTR = b"SCHILY.xattr."
_ACL = b"SCHILY.acl."
_DEVICE_RECORD = b"SCHILY.dev"
_TYPES = {
    **dict.fromkeys((b"0", b"\0", b"7", b"S"), FileType.FILE),
    b"1": FileType.HARD_LINK,
    b"2": FileType.SYMLINK,
    b"3": FileType.CHARACTER_DEVICE,
    b"4": FileType.BLOCK_DEVICE,
    b"5": FileType.DIRECTORY,
    b"6": FileType.FIFO,
}
_DEVICES = (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
Records = dict[bytes, bytes]
Take = Callable[[int], bytes]
"""Exactly that many bytes of the stream, or an error."""


@dataclass(frozen=True)
class Member:
    """One entry of a foreign archive. ``path`` is normalised (root: empty).

    ``stored`` bytes of data follow in the stream. ``extents`` (offset, length) say where they belong in the file; for
    a plain file it is one extent. ``has_acl``: it carries an ACL as text, which we do not read. The numbers of a device
    are 0/0 where it is a whiteout for sure; those of others are not read.
    """

    entry: Entry
    stored: int
    extents: tuple[tuple[int, int], ...] = ()
    has_acl: bool = False


@dataclass
class _Pending:
    """What earlier headers said about the next entry."""

    records: Records = field(default_factory=dict)
    sparse: list[tuple[int, int]] = field(default_factory=list)
    path: bytes | None = None
    link: bytes | None = None


def corrupt(message: str) -> StorageError:
    """``ArchiveCorrupt`` with this message."""
    return StorageError(ErrorCode.ARCHIVE_CORRUPT, message)


def _unsupported(message: str) -> StorageError:
    return StorageError(ErrorCode.UNSUPPORTED, message)


def read_members(take: Take) -> Iterator[Member]:
    """All entries up to the end-of-archive blocks. Between two steps the caller takes ``stored`` bytes and padding."""
    shared: Records = {}
    pending = _Pending()
    global_bytes = 0
    while True:
        block = take(BLOCK)
        if not any(block):
            if any(take(BLOCK)):
                raise corrupt("the archive has a lone zero block in its middle")
            if pending != _Pending():
                raise corrupt("the archive ends behind an extended header")
            return
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136], "size", 1 << 62)
        if kind in b"xXgLK":
            global_bytes += size if kind == b"g" else 0
            if global_bytes > _GLOBAL_LIMIT:
                raise corrupt(f"the archive has global headers of {global_bytes} bytes")
            _extend(pending, shared, kind, _take_record(take, size))
        elif kind == b"V":
            pending = _Pending()
        elif kind in _TYPES:
            member = _member(block, kind, size, {**shared, **pending.records}, pending, take)
            pending = _Pending()
            yield member
        else:
            raise _unsupported(f"the archive has an entry of the unknown type {kind!r}")


def padding(size: int) -> int:
    """Bytes that fill the last block of ``size`` bytes."""
    return -size % BLOCK


def _take_record(take: Take, size: int) -> bytes:
    if size > _RECORD_LIMIT:
        raise corrupt(f"the archive has an extended header of {size} bytes")
    return take(size + padding(size))[:size]


def _extend(pending: _Pending, shared: Records, kind: bytes, data: bytes) -> None:
    if kind == b"L":
        pending.path = data.split(b"\0", 1)[0]
    elif kind == b"K":
        pending.link = data.split(b"\0", 1)[0]
    elif kind == b"g":
        records, sparse = _parse_records(data)
        if sparse or any(key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse") for key in records):
            raise corrupt("a global header names a single file")
        shared.update(records)
    else:
        pending.records, pending.sparse = _parse_records(data)


def _parse_records(data: bytes) -> tuple[Records, list[tuple[int, int]]]:
    """pax records, and apart the pairs of GNU sparse format 0.0, whose keys repeat."""
    records: Records = {}
    offsets: list[int] = []
    lengths: list[int] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise corrupt("a pax header cannot be read")
        if key == b"GNU.sparse.offset":
            offsets.append(_decimal(value))
        elif key == b"GNU.sparse.numbytes":
            lengths.append(_decimal(value))
        else:
            records[key] = value
        at = end
    if len(offsets) != len(lengths) or len(offsets) > _SPARSE_LIMIT:
        raise corrupt("a sparse map cannot be read")
    return records, list(zip(offsets, lengths, strict=True))


def _member(block: bytes, kind: bytes, size: int, records: Records, pending: _Pending, take: Take) -> Member:
    size = _decimal(records[b"size"]) if records.get(b"size") else size
    name, link = _names(block, records, pending)
    kind_of = _TYPES[kind]
    if kind_of is FileType.FILE and name.endswith(b"/") and kind != b"S":
        kind_of = FileType.DIRECTORY
    extents: tuple[tuple[int, int], ...] = ()
    real_size = stored = 0
    if kind_of is FileType.FILE:
        extents, real_size, stored = _sparse(block, kind, size, records, pending.sparse, take)
    target = link
    if kind_of is FileType.HARD_LINK:
        target = normal_path(link)
    elif kind_of is FileType.SYMLINK and (not link or b"\0" in link or len(link) >= PATH_MAX):
        raise corrupt(f"the symbolic link {shown(name)} has no possible target")
    entry = Entry(
        path=normal_path(name),
        type=kind_of,
        mode=_number(block[100:108], "mode", 1 << 32) & 0o7777,
        uid=_decimal(records[b"uid"], _ID_LIMIT) if records.get(b"uid") else _number(block[108:116], "uid", _ID_LIMIT),
        gid=_decimal(records[b"gid"], _ID_LIMIT) if records.get(b"gid") else _number(block[116:124], "gid", _ID_LIMIT),
        size=real_size,
        mtime_ns=_time(block, records),
        target=target if kind_of in (FileType.HARD_LINK, FileType.SYMLINK) else b"",
        device=_device(block, records) if kind_of in _DEVICES else (0, 0),
        xattrs=_attributes(records),
    )
    return Member(entry, stored, extents, has_acl=any(key.startswith(_ACL) for key in records))


def _device(block: bytes, records: Records) -> tuple[int, int]:
    """0/0 where the header says exactly that: it has the fields, both are noughts, and no record says otherwise.

    Numbers too large for the fields are written to records by star and bsdtar, which leave a part of them in the field.
    """
    is_nought = block[257:262] == b"ustar" and _NOUGHT.fullmatch(block[329:337]) and _NOUGHT.fullmatch(block[337:345])
    return (0, 0) if is_nought and not any(key.startswith(_DEVICE_RECORD) for key in records) else _NO_WHITEOUT


def _attributes(records: Records) -> tuple[tuple[bytes, bytes], ...]:
    """Extended attributes, their names unescaped as GNU tar escapes them."""
    found = {
        key[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%"): value
        for key, value in records.items()
        if key.startswith(_XATTR)
    }
    if any(b"\0" in name or not 0 < len(name) <= 255 for name in found):
        raise corrupt("an extended attribute has an impossible name")
    return tuple(sorted(found.items()))


def _names(block: bytes, records: Records, pending: _Pending) -> tuple[bytes, bytes]:
    """Name and link target: pax wins over GNU long names, these over the header."""
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    link = block[157:257].split(b"\0", 1)[0]
    name = records.get(b"GNU.sparse.name") or records.get(b"path") or pending.path or name
    link = records.get(b"linkpath") or pending.link or link
    return name, link


def normal_path(name: bytes) -> bytes:
    """A name as other tars write it, without ``./``, doubled and trailing slashes; the root is empty.

    ``ArchiveCorrupt`` for absolute names, ``..``, NUL, and names that no system call takes.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not name or name.startswith(b"/") or b".." in parts or b"\0" in name:
        raise corrupt(f"the archive holds the unsafe name {shown(name)}")
    path = b"/".join(parts)
    if len(path) >= PATH_MAX or any(len(part) > 255 for part in parts):
        raise corrupt(f"the archive holds the overlong name {shown(name)}")
    return path


def _sparse(
    block: bytes, kind: bytes, size: int, records: Records, pairs: list[tuple[int, int]], take: Take
) -> tuple[tuple[tuple[int, int], ...], int, int]:
    """Extents, size of the file, and bytes of data that follow in the stream."""
    if kind == b"S":
        return _checked(_old_gnu_map(block, take), _number(block[483:495], "size", 1 << 62), size)
    if records.get(b"GNU.sparse.major") == b"1":
        listed, used = _map_in_data(take, size)
        return _checked(listed, _decimal(records.get(b"GNU.sparse.realsize", b"")), size - used)
    if b"GNU.sparse.major" in records:
        raise _unsupported("the archive has a sparse file in an unknown format")
    if records.get(b"GNU.sparse.map"):
        numbers = [_decimal(text) for text in records[b"GNU.sparse.map"].split(b",")]
        if len(numbers) % 2:
            raise corrupt("a sparse map cannot be read")
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if pairs or b"GNU.sparse.size" in records:
        return _checked(pairs, _decimal(records.get(b"GNU.sparse.size", b"")), size)
    return ((0, size),), size, size


def _checked(pairs: list[tuple[int, int]], real_size: int, stored: int) -> tuple[tuple[tuple[int, int], ...], int, int]:
    """A sparse map, if it is in order, inside the file, and as long as the data that follows."""
    end = 0
    for offset, length in pairs:
        if offset < end:
            raise corrupt("the pieces of a sparse file overlap")
        end = offset + length
    if end > real_size or sum(length for _, length in pairs) != stored:
        raise corrupt("a sparse file contradicts its map")
    return tuple(pairs), real_size, stored


def _old_gnu_map(block: bytes, take: Take) -> list[tuple[int, int]]:
    """The type ``S`` map: four pairs in the header, 21 in each block behind it."""
    pairs, at, more, count = [], 386, block[482], 4
    while True:
        for number in range(count):
            raw = block[at + 24 * number : at + 24 * (number + 1)]
            if raw[:1] != b"\0" or raw[12:13] != b"\0":
                pairs.append((_number(raw[:12], "offset", 1 << 62), _number(raw[12:], "length", 1 << 62)))
        if not more:
            return pairs
        if len(pairs) > _SPARSE_LIMIT:
            raise corrupt("a sparse map is too long")
        block = take(BLOCK)
        at, more, count = 0, block[504], 21


def _map_in_data(take: Take, size: int) -> tuple[list[tuple[int, int]], int]:
    """The format 1.0 map: decimal lines at the head of the data, filled up to whole blocks."""
    text, used, wanted = b"", 0, 1
    numbers: list[int] = []
    while len(numbers) < wanted:
        line, newline, rest = text.partition(b"\n")
        if newline:
            numbers.append(_decimal(line))
            text = rest
            if len(numbers) == 1:
                wanted = 1 + 2 * min(numbers[0], _SPARSE_LIMIT + 1)
            if wanted > 1 + 2 * _SPARSE_LIMIT:
                raise corrupt("a sparse map is too long")
            continue
        if len(line) > 32 or used + BLOCK > size:
            raise corrupt("a sparse map cannot be read")
        text += take(BLOCK)
        used += BLOCK
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), used


def _number(raw: bytes, what: str, limit: int) -> int:
    """A header number: octal text, or GNU's base 256."""
    if raw[:1] in (b"\x80", b"\xff"):
        value = int.from_bytes(raw[1:], "big") - (1 << (8 * (len(raw) - 1)) if raw[0] == 0xFF else 0)
    else:
        text = raw.replace(b"\0", b" ").strip() or b"0"
        if re.fullmatch(rb"[0-7]+", text) is None:
            raise corrupt(f"a header has no {what}")
        value = int(text, 8)
    if not (0 <= value <= limit or (what == "mtime" and -limit <= value < 0)):
        raise corrupt(f"a header has the impossible {what} {value}")
    return value


def _decimal(text: bytes, limit: int = 1 << 62) -> int:
    if re.fullmatch(rb"[0-9]{1,19}", text) is None or int(text) > limit:
        raise corrupt(f"a header has the impossible number {shown(text)}")
    return int(text)


def _time(block: bytes, records: Records) -> int:
    text = records.get(b"mtime")
    if not text:
        return _number(block[136:148], "mtime", _SECONDS_LIMIT - 1) * 10**9
    match = _TIME.fullmatch(text)
    if match is None or int(match[2]) >= _SECONDS_LIMIT:
        raise corrupt(f"a header has the impossible time {shown(text)}")
    nanos = int(match[2]) * 10**9 + int((match[3] or b"").ljust(9, b"0")[:9])
    return -nanos if match[1] else nanos


def _check_sum(block: bytes) -> None:
    """Historic tars summed signed bytes; both sums pass."""
    stated = _number(block[148:156], "checksum", 1 << 20)
    cleared = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(cleared)
    if stated not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in cleared)):
        raise corrupt("a header has the wrong checksum: not a tar archive, or a damaged one")
