"""Tar streams as they are read, whoever wrote them; ``tarwrite`` makes the headers that GNU tar does not write for us.

Our dialect is POSIX pax as GNU tar 1.34 writes it. Extended attributes stand in ``SCHILY.xattr.NAME`` records with
their binary value, ACLs among them (``SCHILY.xattr.system.posix_acl_access``): GNU tar's textual ``SCHILY.acl.*``
holds user *names* even under ``--numeric-owner``, so it would mean another user on another machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from activities.dataplane.entries import Entry, FileType

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)
XATTR_PREFIX = b"SCHILY.xattr."
MAX_EXTENSION_BYTES = 4 << 20
"""Of the extended headers of one entry: a path, a link target and all attributes of one file (each at most 64 KiB)."""
_MAX_RECORDS = 1 << 14
"""In one extended header: Linux lists at most 64 KiB of attribute names for one file."""

NAME_BYTES = 100
NANOS = 1_000_000_000
_MOST = (1 << 63) - 1
_MOST_ID = (1 << 32) - 2
"""The one above means "do not change" to the kernel."""
_MOST_DEVICE = (1 << 31) - 1
_DIGITS = 30
"""More than any number that fits; Python itself refuses to read endless ones, with another error."""
NAME_MAX = 255
_ADLER_MODULUS = 65521
_TYPES = {int(kind): kind for kind in FileType if kind is not FileType.SOCKET} | {0: FileType.FILE, 55: FileType.FILE}
EXTENSION, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x"[0], b"g"[0], b"L"[0], b"K"[0]


class TarError(ValueError):
    """The bytes are no tar stream, or one that this reader does not know."""


def padding_of(size: int) -> int:
    """How many bytes fill up the last block of a file of ``size`` bytes."""
    return -size % BLOCK


def parse_time(value: bytes) -> int:
    """Nanoseconds of a pax time; digits beyond nanoseconds are dropped. ``TarError`` for what is none."""
    whole, _, fraction = value.partition(b".")
    digits = whole.lstrip(b"-")
    if (fraction and not fraction.isdigit()) or len(whole) - len(digits) > 1:
        raise TarError("a time in a tar header cannot be read")
    nanos = _decimal(digits) * NANOS + int(fraction[:9].ljust(9, b"0"))
    return -nanos if whole.startswith(b"-") else nanos


class TarScanner:
    """Reads a tar stream that arrives in pieces of any size.

    ``feed`` yields an ``Entry`` for each header and then its data as memoryviews, valid until the next step; nothing
    announces the end of an entry but the next one. Names come as stored, without a leading ``./`` and trailing ``/``;
    whether they are clean is for the caller to ask (``entries.is_clean_path``).

    ``position``: bytes consumed. ``entry_offset``: where the last entry's header (with its extension) began.
    ``data_offset``: where its data begins. ``header``: the bytes between these two. ``records``: its pax records.
    ``end_offset``: where the end-of-archive blocks begin, ``None`` before they were seen; ``ended``: both of them were.
    """

    def __init__(self) -> None:
        self.position = 0
        self.entry_offset = 0
        self.data_offset = 0
        self.header = bytearray()
        self.end_offset: int | None = None
        self.records: dict[bytes, bytes] = {}
        self._buffer = bytearray()
        self._data_left = 0
        self._skip_left = 0
        self._extension_left = 0
        self._extension_type = 0
        self._announced = 0
        self._announced_for_all = 0
        self._extension = bytearray()
        self._extension_padding = 0
        self._pending: dict[bytes, bytes] = {}
        self._globals: dict[bytes, bytes] = {}
        self._in_entry = False

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete block that were fed but not consumed yet."""
        return len(self._buffer)

    @property
    def ended(self) -> bool:
        """True once two end-of-archive blocks were seen."""
        return self.end_offset is not None and self.position - self.end_offset >= len(END_OF_ARCHIVE)

    @property
    def between_entries(self) -> bool:
        """True where a tar stream may be cut: no header, data or padding is outstanding."""
        return not (self._buffer or self._data_left or self._skip_left or self._extension_left or self._in_entry) and (
            self.end_offset is None or self.position == self.end_offset
        )

    def feed(self, data: bytes | memoryview) -> Iterator[Entry | memoryview]:
        """Entries and data in order; exhaust it before the next call. Raises ``TarError``."""
        view, at, total = memoryview(data), 0, len(data)
        while at < total:
            if self._data_left:
                step = min(self._data_left, total - at)
                self._data_left -= step
                self.position += step
                at += step
                yield view[at - step : at]
            elif self._skip_left:
                step = min(self._skip_left, total - at)
                self._skip_left -= step
                self.position += step
                at += step
            elif self._extension_left:
                step = min(self._extension_left, total - at)
                self._extension += view[at : at + step]
                self._extension_left -= step
                self.position += step
                at += step
                if not self._extension_left:
                    self._take_extension()
            elif not self._buffer and total - at >= BLOCK:
                entry = self._take_block(bytes(view[at : at + BLOCK]))
                at += BLOCK
                if entry is not None:
                    yield entry
            else:
                step = min(BLOCK - len(self._buffer), total - at)
                self._buffer += view[at : at + step]
                at += step
                if len(self._buffer) == BLOCK:
                    block = bytes(self._buffer)
                    self._buffer.clear()
                    entry = self._take_block(block)
                    if entry is not None:
                        yield entry

    def finish(self, *, need_end: bool) -> None:
        """``TarError`` if the stream stopped within an entry, or lacks the end blocks that it ``need_end``."""
        if need_end and not self.ended:
            raise TarError("the tar stream has no end-of-archive blocks: it was cut short")
        if not need_end and not self.between_entries and not self.ended:
            raise TarError("the tar stream stops within an entry")

    def _take_block(self, block: bytes) -> Entry | None:
        start = self.position
        self.position += BLOCK
        if self.end_offset is not None:
            if any(block):
                raise TarError("bytes after the end-of-archive blocks")
            return None
        if not any(block):
            if self._in_entry:
                raise TarError("an extended header without the entry that it belongs to")
            self.end_offset = start
            return None
        if not self._in_entry:
            self.entry_offset, self._in_entry = start, True
            self.header.clear()
        self.header += block
        _check_sum(block)
        flag = block[156]
        if flag in (EXTENSION, _GLOBAL, _LONG_NAME, _LONG_LINK):
            self._begin_extension(flag, _number(block[124:136]))
            return None
        return self._take_header(block, flag)

    def _begin_extension(self, flag: int, size: int) -> None:
        self._announced += size
        self._announced_for_all += size if flag == _GLOBAL else 0
        if not size or self._announced > MAX_EXTENSION_BYTES:
            raise TarError(f"extended headers of {self._announced} bytes for one entry")
        self._extension_type = flag
        self._extension.clear()
        self._extension_left = size + padding_of(size)
        self._extension_padding = padding_of(size)

    def _take_extension(self) -> None:
        self.header += self._extension
        raw = bytes(self._extension[: len(self._extension) - self._extension_padding])
        self._extension.clear()
        if self._extension_type == EXTENSION:
            self._pending.update(parse_records(raw))
        elif self._extension_type == _GLOBAL:
            self._globals.update(parse_records(raw))
            self._in_entry = bool(self._pending)
        else:
            key = b"path" if self._extension_type == _LONG_NAME else b"linkpath"
            self._pending[key] = raw.split(b"\0", 1)[0]

    def _take_header(self, block: bytes, flag: int) -> Entry:
        kind = _TYPES.get(flag)
        records = self.records = {**self._globals, **self._pending} if self._globals else self._pending
        self._pending, self._announced = {}, self._announced_for_all
        if kind is None or any(key.startswith(b"GNU.sparse.") for key in records):
            raise TarError(f"a tar entry of a kind that is not supported (type flag {flag})")
        path = records.get(b"path", b"")
        if not path:
            path = block[:NAME_BYTES].split(b"\0", 1)[0]
            if block[257:263] == b"ustar\0" and block[345]:
                path = block[345:500].split(b"\0", 1)[0] + b"/" + path
        if kind is FileType.FILE and path.endswith(b"/"):
            kind = FileType.DIRECTORY
        is_file = kind is FileType.FILE
        size = _decimal(records[b"size"]) if records.get(b"size") else _number(block[124:136])
        target = records.get(b"linkpath") or block[157:257].split(b"\0", 1)[0]
        mtime = parse_time(records[b"mtime"]) if records.get(b"mtime") else _number(block[136:148], -_MOST) * NANOS
        is_link = kind is FileType.HARD_LINK
        is_device = kind in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
        self._data_left = size if is_file else 0
        self._skip_left = padding_of(size) if is_file else 0
        self._in_entry = False
        self.data_offset = self.position
        return Entry(
            path=_plain(path),
            type=kind,
            mode=_number(block[100:108]) & 0o7777,
            uid=_id(records.get(b"uid"), block[108:116]),
            gid=_id(records.get(b"gid"), block[116:124]),
            size=size if is_file else 0,
            mtime_ns=mtime,
            target=_plain(target) if is_link else target if kind is FileType.SYMLINK else b"",
            device=(_device(block[329:337]), _device(block[337:345])) if is_device else (0, 0),
            xattrs=_attributes(records) if records else (),
        )


def parse_records(raw: bytes) -> dict[bytes, bytes]:
    """The records of a pax extended header. ``TarError`` for what is none."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(raw):
        space = raw.find(b" ", at, at + 20)
        digits = raw[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else at
        key, equals, value = raw[space + 1 : end - 1].partition(b"=")
        if space < at or end <= space + 1 or end > len(raw) or raw[end - 1 : end] != b"\n" or not equals or not key:
            raise TarError("a pax record cannot be read")
        records[key] = value
        at = end
        if len(records) > _MAX_RECORDS:
            raise TarError("a pax header of too many records")
    return records


def _plain(name: bytes) -> bytes:
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    name = name.rstrip(b"/") if len(name) > 1 else name
    return b"" if name == b"." else name


def _attributes(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = [
        (key[len(XATTR_PREFIX) :].replace(b"%3D", b"=").replace(b"%25", b"%"), value)
        for key, value in records.items()
        if key.startswith(XATTR_PREFIX)
    ]
    if any(b"\0" in name or not 0 < len(name) <= NAME_MAX for name, _ in found):
        raise TarError("an extended attribute with an impossible name")
    return tuple(sorted(found))


def _check_sum(block: bytes) -> None:
    """The sum of all bytes, the field itself counted as spaces; taken from Adler-32, 30 times as fast as ``sum``."""
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[148:156]) + 8 * 0x20
    stated = _number(block[148:155] if block[155] == 0x20 else block[148:156])
    if (stated - total) % _ADLER_MODULUS:
        raise TarError("the checksum of a tar header is wrong")


def _id(record: bytes | None, field: bytes) -> int:
    return _decimal(record, _MOST_ID) if record else _number(field, 0, _MOST_ID)


def _device(field: bytes) -> int:
    return _number(field, 0, _MOST_DEVICE)


def _number(field: bytes, least: int = 0, most: int = _MOST) -> int:
    """An octal field, or GNU's base-256 form."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        value -= (1 << (8 * len(field) - 1)) if field[0] & 0x40 else 0
    else:
        try:
            # As most write it: up to the last byte, which ends it.
            value = int(field[:-1] if field[-1] in b"\0 " else field, 8)
        except ValueError:
            value = _octal(field)
    if not least <= value <= most:
        raise TarError(f"the impossible number {value} in a tar header")
    return value


def _octal(field: bytes) -> int:
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise TarError("a number in a tar header cannot be read") from error


def _decimal(value: bytes, most: int = _MOST) -> int:
    if not value.isdigit() or len(value) > _DIGITS or int(value) > most:
        raise TarError("a number in a pax record cannot be read")
    return int(value)
