"""Foreign archives that want out, lie, or explode: each ends in its typed error, and the world outside is unchanged.

All run twice: inside Landlock and without it, because the path rules must hold alone.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import zlib
from pathlib import Path

import pytest

from activities.dataplane.confine import Wall
from activities.dataplane.foreign import ForeignLimits, restore_foreign
from activities.dataplane.report import RestoreReport
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.unit.dataplane_read.forging import END, Outside, block, data, file, pax, put_foreign

CORRUPT, UNSUPPORTED, TOO_LARGE = ErrorCode.ARCHIVE_CORRUPT, ErrorCode.UNSUPPORTED, ErrorCode.ARCHIVE_TOO_LARGE
LINK = block(b"link", b"2", link=b"../victim")
FOLDER_LINK = block(b"out", b"2", link=b"..")
LIMITS = ForeignLimits(max_bytes=4 << 20, max_entries=1000)

REFUSED = {
    "absolute name": (file(b"/victim"), CORRUPT),
    "parent name": (file(b"../victim"), CORRUPT),
    "parent inside": (file(b"x/../../victim"), CORRUPT),
    "parent at the end": (file(b"x/.."), CORRUPT),
    "parent as folder": (block(b"../new/", b"5"), CORRUPT),
    "empty name": (file(b""), CORRUPT),
    "the root as a file": (file(b"."), CORRUPT),
    "absolute by pax": (pax((b"path", b"/victim")) + file(b"harmless"), CORRUPT),
    "parent by pax": (pax((b"path", b"../victim")) + file(b"harmless"), CORRUPT),
    "parent by prefix": (block(b"victim", prefix=b"..", size=0), CORRUPT),
    "parent by GNU long name": (block(b"@LongLink", b"L", size=10) + data(b"../victim\0") + file(b"x"), CORRUPT),
    "parent by sparse name": (
        pax(
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.name", b"../victim"),
            (b"GNU.sparse.realsize", b"4"),
        )
        + block(b"x", size=512 + 4)
        + data(b"1\n0\n4\n".ljust(512, b"\0") + b"evil"),
        CORRUPT,
    ),
    "path for all by global header": (pax((b"path", b"victim"), kind=b"g") + file(b"x"), CORRUPT),
    "NUL in a pax path": (pax((b"path", b"ok\0/../victim")) + file(b"x"), CORRUPT),
    "overlong component": (pax((b"path", b"n" * 256)) + file(b"x"), CORRUPT),
    "overlong path": (pax((b"path", b"n/" * 2100 + b"n")) + file(b"x"), CORRUPT),
    "write through a link, then a file": (FOLDER_LINK + file(b"out/victim"), CORRUPT),
    "link and file of one name": (LINK + file(b"link"), CORRUPT),
    "file and link of one name": (file(b"link") + LINK, CORRUPT),
    "folder and link of one name": (block(b"link/", b"5") + LINK, CORRUPT),
    "link below a link": (FOLDER_LINK + block(b"out/new", b"2", link=b"x"), CORRUPT),
    "hard link below a link": (file(b"f") + FOLDER_LINK + block(b"out/new", b"1", link=b"f"), CORRUPT),
    "hard link to outside": (block(b"h", b"1", link=b"../victim"), CORRUPT),
    "hard link to an absolute name": (block(b"h", b"1", link=b"/etc/passwd"), CORRUPT),
    "hard link through a link": (FOLDER_LINK + block(b"h", b"1", link=b"out/victim"), CORRUPT),
    "hard link to nothing": (block(b"h", b"1", link=b"missing"), CORRUPT),
    "hard link to a folder": (block(b"d/", b"5") + block(b"h", b"1", link=b"d"), CORRUPT),
    "hard link to itself": (block(b"h", b"1", link=b"h"), CORRUPT),
    "write through a hard link": (
        file(b"f", b"good") + block(b"h", b"1", link=b"f") + file(b"f", b"evil"),
        CORRUPT,
    ),
    "a link without a target": (block(b"l", b"2"), CORRUPT),
    "a link with a target too long": (pax((b"linkpath", b"x" * 5000)) + block(b"l", b"2"), CORRUPT),
    "file below a file": (file(b"f") + file(b"f/victim"), CORRUPT),
    "folder over a file": (file(b"f") + block(b"f/", b"5"), CORRUPT),
    "file over a folder": (block(b"f/", b"5") + file(b"f"), CORRUPT),
    "wrong checksum": (block(b"f", checksum=b"000000\0 "), CORRUPT),
    "negative size": (block(b"f", size=b"\xff" * 12), CORRUPT),
    "enormous size": (block(b"f", size=b"\x80" + b"\x7f" * 11), CORRUPT),
    "size that is no number": (block(b"f", size=b"0x10       \0"), CORRUPT),
    "pax size that is no number": (pax((b"size", b"-1")) + file(b"f"), CORRUPT),
    "size beyond the data": (block(b"f", size=10_000) + data(b"evil") + END, CORRUPT),
    "owner that means no change": (pax((b"uid", b"4294967295")) + file(b"f"), CORRUPT),
    "owner beyond 32 bits": (pax((b"gid", b"99999999999")) + file(b"f"), CORRUPT),
    "time that is no number": (pax((b"mtime", b"nan")) + file(b"f"), CORRUPT),
    "time beyond all clocks": (pax((b"mtime", b"99999999999")) + file(b"f"), CORRUPT),
    "pax record that points backwards": (block(kind=b"x", size=8) + data(b"-5 a=bc\n") + file(b"f"), CORRUPT),
    "pax record longer than its header": (block(kind=b"x", size=8) + data(b"99 a=bc\n") + file(b"f"), CORRUPT),
    "pax record of length zero": (block(kind=b"x", size=8) + data(b"0 a=bcd\n") + file(b"f"), CORRUPT),
    "extended header of a gigabyte": (block(kind=b"x", size=1 << 30), CORRUPT),
    "long name of a gigabyte": (block(kind=b"L", size=1 << 30), CORRUPT),
    "extended header for nothing": (pax((b"path", b"f")), CORRUPT),
    "attribute with an impossible name": (pax((b"SCHILY.xattr." + b"n" * 300, b"x")) + file(b"f"), CORRUPT),
    "sparse pieces that overlap": (
        pax((b"GNU.sparse.map", b"0,4,2,4"), (b"GNU.sparse.size", b"9")) + file(b"f", b"evilevil"),
        CORRUPT,
    ),
    "sparse piece beyond the file": (
        pax((b"GNU.sparse.map", b"100,4"), (b"GNU.sparse.size", b"9")) + file(b"f"),
        CORRUPT,
    ),
    "sparse map with an odd count": (
        pax((b"GNU.sparse.map", b"0,4,5"), (b"GNU.sparse.size", b"9")) + file(b"f"),
        CORRUPT,
    ),
    "sparse map without end": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9"))
        + block(b"f", size=1 << 20)
        + b"999999999\n"
        + b"1\n" * (1 << 19),
        CORRUPT,
    ),
    "sparse file in an unknown format": (pax((b"GNU.sparse.major", b"7")) + file(b"f"), UNSUPPORTED),
    "a part of a multi-volume archive": (block(b"f", b"M"), UNSUPPORTED),
    "an unknown type": (block(b"f", b"Q"), UNSUPPORTED),
    "a lone zero block": (file(b"f") + bytes(512) + file(b"g"), CORRUPT),
    "two archives in one stream": (file(b"f") + END + file(b"g") + END, CORRUPT),
    "bytes after the end": (file(b"f") + END + b"hidden", CORRUPT),
    "more bytes than allowed": (file(b"f", bytes(5 << 20)), TOO_LARGE),
    "more entries than allowed": (b"".join(file(b"f%d" % number, b"") for number in range(1001)), TOO_LARGE),
    "no end": (file(b"f"), CORRUPT),
    "no tar at all": (b"hello world" * 100, CORRUPT),
    "nothing": (b"", CORRUPT),
}
NO_END = {"no end", "no tar at all", "nothing", "two archives in one stream", "bytes after the end"}


async def restore(outside: Outside, raw: bytes, wall: Wall, *, gz: bytes | None = None) -> RestoreReport:
    store = MemoryStore()
    info = await put_foreign(store, raw)
    if gz is not None:
        info = store.replace_bytes(info.key, gz)
    spool = outside.target.parents[2] / "spool"
    spool.mkdir()
    return await restore_foreign(outside.target, store, info, spool=spool, limits=LIMITS, wall=wall)


@pytest.mark.parametrize("wall", [Wall.REQUIRED, Wall.OFF])
@pytest.mark.parametrize("case", REFUSED)
async def test_it_is_refused_and_nothing_outside_changes(tmp_path: Path, case: str, wall: Wall) -> None:
    """The typed error of the table, and a world that is as before."""
    raw, code = REFUSED[case]
    outside = Outside(tmp_path)
    with pytest.raises(StorageError) as caught:
        await restore(outside, raw if case in NO_END else raw + END, wall)
    assert caught.value.code is code, caught.value
    assert outside.is_unchanged()


async def test_devices_are_left_out_and_counted(tmp_path: Path) -> None:
    """No stranger makes a device node."""
    outside = Outside(tmp_path)
    raw = block(b"sda", b"4", device=b"0000010\0" * 2) + block(b"null", b"3", device=b"0000001\0" * 2) + file(b"f")
    report = await restore(outside, raw + END, Wall.REQUIRED)
    assert report.skipped["devices"] == 2
    assert os.listdir(outside.target) == ["f"]


async def test_setuid_goes_and_is_counted(tmp_path: Path) -> None:
    """A stranger's setuid root file is a plain file here."""
    outside = Outside(tmp_path)
    report = await restore(outside, block(b"su", mode=b"0006755\0") + END, Wall.REQUIRED)
    assert stat.S_IMODE((outside.target / "su").stat().st_mode) == 0o755
    assert report.skipped["setuid"] == 1


async def test_links_that_point_out_are_text_only(tmp_path: Path) -> None:
    """A link may point anywhere; nothing follows it while we restore."""
    outside = Outside(tmp_path)
    raw = block(b"a", b"2", link=b"/etc/passwd", mode=b"0000777\0") + block(b"b", b"2", link=b"../victim")
    await restore(outside, raw + END, Wall.REQUIRED)
    assert os.readlink(outside.target / "a") == "/etc/passwd"
    assert os.readlink(outside.target / "b") == "../victim"
    assert outside.is_unchanged()


async def test_a_name_with_a_newline_and_control_bytes_is_just_a_name(tmp_path: Path) -> None:
    """Names are bytes; what a terminal makes of them is not our matter."""
    outside = Outside(tmp_path)
    name = b"new\nline\x1b[2J\xff -rf *"
    await restore(outside, file(name) + END, Wall.REQUIRED)
    assert os.listdir(os.fsencode(outside.target)) == [name]


async def test_a_file_that_comes_twice_is_the_later_one_in_a_new_inode(tmp_path: Path) -> None:
    """The first one is removed, not written through."""
    outside = Outside(tmp_path)
    await restore(outside, file(b"f", b"first") + file(b"f", b"2nd") + END, Wall.REQUIRED)
    assert (outside.target / "f").read_bytes() == b"2nd"


async def test_a_fifo_is_made_but_never_opened(tmp_path: Path) -> None:
    """Opening one would wait for ever; a file of its name replaces it."""
    outside = Outside(tmp_path)
    await restore(outside, block(b"p", b"6") + block(b"q", b"6") + file(b"q", b"x") + END, Wall.REQUIRED)
    assert stat.S_ISFIFO((outside.target / "p").lstat().st_mode)
    assert (outside.target / "q").read_bytes() == b"x"


def _good_gzip() -> bytes:
    return gzip.compress(file(b"f", os.urandom(5000)) + END)


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    head = packer.compress(block(b"bomb", size=b"77777777777\0"))
    return head + b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()


GZIP_CASES = {
    "cut off": (_good_gzip()[:-9], CORRUPT),
    "cut off in its header": (_good_gzip()[:5], CORRUPT),
    "wrong CRC": (_good_gzip()[:-8] + struct.pack("<I", 1) + _good_gzip()[-4:], CORRUPT),
    "wrong length": (_good_gzip()[:-4] + struct.pack("<I", 1), CORRUPT),
    "garbage behind it": (_good_gzip() + b"garbage", CORRUPT),
    "second archive behind it": (_good_gzip() + _good_gzip(), CORRUPT),
    "empty object": (b"", CORRUPT),
    "no gzip": (b"PK\x03\x04" + bytes(1000), CORRUPT),
    "a bomb": (_bomb(), TOO_LARGE),
    "a flipped bit": (_good_gzip()[:2000] + bytes([_good_gzip()[2000] ^ 4]) + _good_gzip()[2001:], CORRUPT),
}


@pytest.mark.parametrize("case", GZIP_CASES)
async def test_a_bad_gzip_stream_is_refused(tmp_path: Path, case: str) -> None:
    """Whatever was written by then stays in a volume that nobody is handed."""
    gz, code = GZIP_CASES[case]
    outside = Outside(tmp_path)
    with pytest.raises(StorageError) as caught:
        await restore(outside, b"", Wall.REQUIRED, gz=gz)
    assert caught.value.code is code
    assert outside.is_unchanged()


async def test_a_folder_with_something_in_it_is_a_conflict(tmp_path: Path) -> None:
    """Only an empty volume is restored into."""
    outside = Outside(tmp_path)
    (outside.target / "there").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        await restore(outside, file(b"f") + END, Wall.REQUIRED)
    assert caught.value.code is ErrorCode.VOLUME_CONFLICT
