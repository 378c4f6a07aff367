"""Headers as we write them, and streams as anybody may send them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.entries import Entry, FileType, content_of
from activities.dataplane.tarheader import (
    BLOCK,
    END_OF_ARCHIVE,
    MAX_EXTENSION_BYTES,
    TarError,
    TarScanner,
    padding_of,
    parse_records,
    parse_time,
)
from activities.dataplane.tarwrite import build_header, format_time

names = st.binary(min_size=1, max_size=300).filter(
    lambda name: not name.startswith(b"./") and name.strip(b"/.") == name
)
clean = names.map(lambda name: name.replace(b"\0", b"0").replace(b"//", b"/"))
attributes = st.dictionaries(
    st.binary(min_size=1, max_size=30).map(lambda key: b"user." + key.replace(b"\0", b"0")),
    st.binary(max_size=200),
    max_size=3,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([kind for kind in FileType if kind is not FileType.SOCKET]))
    linked = kind in (FileType.SYMLINK, FileType.HARD_LINK)
    is_device = kind in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
    return Entry(
        path=draw(clean),
        type=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 2)),
        gid=draw(st.integers(0, 2**32 - 2)),
        size=draw(st.integers(0, 2**45)) if kind is FileType.FILE else 0,
        mtime_ns=draw(st.integers(-(2**70), 2**70)),
        target=draw(clean) if linked else b"",
        device=draw(st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1))) if is_device else (0, 0),
        xattrs=() if kind is FileType.HARD_LINK else tuple(sorted(draw(attributes).items())),
    )


def scan(data: bytes, step: int = 1 << 20) -> tuple[TarScanner, list[Entry | bytes]]:
    """All that a scanner yields of ``data`` fed in pieces; data pieces are joined."""
    scanner, found = TarScanner(), list[Entry | bytes]()
    for at in range(0, len(data), step):
        for event in scanner.feed(data[at : at + step]):
            if isinstance(event, Entry):
                found.append(event)
            elif found and isinstance(found[-1], bytes):
                found[-1] += bytes(event)
            else:
                found.append(bytes(event))
    return scanner, found


@given(entries())
def test_read_back_as_written(entry: Entry) -> None:
    """Every entry comes back from its own header, whatever its name, ids and times are."""
    header = build_header(entry)
    assert len(header) % BLOCK == 0
    scanner, found = scan(header)
    assert found == [entry]
    assert isinstance(found[0], Entry)
    assert content_of(found[0]) == content_of(entry)
    assert scanner.data_offset == len(header)
    assert scanner.between_entries is (entry.size == 0)


@given(st.lists(st.binary(max_size=1500), min_size=1, max_size=5), st.integers(1, 1600))
def test_pieces_of_any_size(bodies: list[bytes], step: int) -> None:
    """Where the stream is torn into pieces does not matter."""
    stream = b""
    expected: list[Entry | bytes] = []
    for number, body in enumerate(bodies):
        entry = Entry(b"f%d" % number, FileType.FILE, 0o644, size=len(body), mtime_ns=123)
        stream += build_header(entry) + body + bytes(padding_of(len(body)))
        expected += [entry, body] if body else [entry]
    scanner, found = scan(stream + END_OF_ARCHIVE + bytes(5 * BLOCK), step)
    assert found == expected
    assert scanner.ended
    assert scanner.end_offset == len(stream)
    scanner.finish(need_end=True)


def test_python_reads_what_we_write() -> None:
    """tarfile, which shares no code with ours, sees the same name, ids, time and attributes."""
    entry = Entry(
        "größe/".encode() + b"n" * 200,
        FileType.FILE,
        0o4751,
        3_000_000,
        5,
        3,
        -1_500_000_000,
        xattrs=((b"user.k=%", b"\x00\n"),),
    )
    data = build_header(entry) + b"abc" + bytes(509) + END_OF_ARCHIVE
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
    assert member.name == entry.path.decode()
    assert (member.mode, member.uid, member.gid, member.size, member.mtime) == (0o4751, 3_000_000, 5, 3, -1.5)
    assert "SCHILY.xattr.user.k%3D%25" in member.pax_headers


@pytest.mark.parametrize("dialect", ["posix", "gnu", "ustar", "v7", "oldgnu"])
def test_dialects_of_gnu_tar(tmp_path: Path, dialect: str) -> None:
    """Long names, base-256 numbers and prefixes: what the formats of GNU tar make of the same file is one entry."""
    name = "d" * 50 + "/" + "f" * (40 if dialect == "v7" else 90)
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / name
    file.parent.mkdir()
    file.write_bytes(b"x" * 1000)
    made = subprocess.run(
        ["tar", "-c", "--format", dialect, "--owner=:5", "--group=:6", "--mtime=@77", "--mode=0640", name],
        cwd=tmp_path / "d",
        capture_output=True,
        check=True,
    )
    scanner, found = scan(made.stdout, 1000)
    assert found == [Entry(name.encode(), FileType.FILE, 0o640, 5, 6, 1000, 77_000_000_000), b"x" * 1000]
    assert scanner.ended


def test_cut_streams_are_noticed() -> None:
    """A stream that stops within an entry, or before its end blocks, is no whole archive."""
    entry = Entry(b"f", FileType.FILE, size=600)
    whole = build_header(entry) + bytes([1]) * 600 + bytes(424)
    for length in (100, 512, 700, 1200):
        scanner, _ = scan(whole[:length])
        with pytest.raises(TarError):
            scanner.finish(need_end=False)
    scanner, _ = scan(whole)
    scanner.finish(need_end=False)
    with pytest.raises(TarError):
        scanner.finish(need_end=True)
    scanner, _ = scan(whole + bytes(512))
    with pytest.raises(TarError):
        scanner.finish(need_end=True)


def test_an_extension_without_entry() -> None:
    """End blocks right behind an extended header mean that its entry was lost."""
    header = build_header(Entry(b"n" * 200, FileType.FILE))
    with pytest.raises(TarError):
        scan(header[:-BLOCK] + END_OF_ARCHIVE)


def test_bytes_behind_the_end() -> None:
    """Whatever stands behind the end blocks would be ignored by others."""
    with pytest.raises(TarError):
        scan(END_OF_ARCHIVE + build_header(Entry(b"f", FileType.FILE)))


@pytest.mark.parametrize("at", [0, 100, 124, 150, 156, 257, 345])
def test_a_flipped_bit_in_a_header(at: int) -> None:
    """The checksum covers every field."""
    header = bytearray(build_header(Entry(b"file", FileType.FILE)))
    header[at] ^= 1
    with pytest.raises(TarError):
        scan(bytes(header))


def patched(header: bytes, at: int, field: bytes) -> bytes:
    """One block with another field, and the checksum that fits."""
    block = bytearray(header[:BLOCK])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_an_extension_too_large() -> None:
    """An attacker's length does not make us hold as much."""
    header = build_header(Entry(b"n" * 200, FileType.FILE))
    with pytest.raises(TarError):
        scan(patched(header, 124, b"%011o\0" % (MAX_EXTENSION_BYTES + 1)))


@pytest.mark.parametrize("flag", [b"x", b"g", b"L"])
def test_many_extensions_too_large_together(flag: bytes) -> None:
    """Neither do many small ones for the same entry, nor those that hold for all."""
    header = build_header(Entry(b"n" * 4000, FileType.FILE))[:-BLOCK]
    extension = patched(header, 156, flag) + header[BLOCK:]
    with pytest.raises(TarError):
        scan(extension * (MAX_EXTENSION_BYTES // 4000 + 1))


def test_too_many_records() -> None:
    """Small records would take a hundred times their size in memory."""
    with pytest.raises(TarError):
        parse_records(b"".join(b"10 k%05d=\n" % number for number in range(20_000)))


NEVER = b"\x80" + b"\xff" * 11
FIELDS = {
    "negative owner": (108, b"\xff" * 8),
    "owner of 56 bits": (108, NEVER[:8]),
    "group that means no change": (116, b"\x80\0\0\0\xff\xff\xff\xff"),
    "size of 88 bits": (124, NEVER),
    "negative size": (124, b"\xff" * 12),
    "time of 88 bits": (136, NEVER),
    "time of 88 bits below zero": (136, b"\xff" + bytes(11)),
    "negative device": (329, b"\xff" * 8),
    "device of 56 bits": (337, NEVER[:8]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_number_that_nothing_can_have(name: str) -> None:
    """What the kernel, or our own fingerprint, could not take."""
    at, field = FIELDS[name]
    header = build_header(Entry(b"null", FileType.CHARACTER_DEVICE, device=(1, 3)))
    with pytest.raises(TarError):
        scan(patched(header, at, field))


@pytest.mark.parametrize("key", [b"size", b"uid", b"gid", b"mtime"])
@pytest.mark.parametrize("digits", [20, 5000])
def test_a_record_that_nothing_can_have(key: bytes, digits: int) -> None:
    """Neither too large a number nor one of so many digits that Python refuses to read it."""
    header = build_header(Entry(b"n" * 200, FileType.FILE))
    body = b"%d %s=%s\n" % (len(key) + 3 + digits + len(str(digits)), key, b"9" * digits)
    while len(body) != int(body.partition(b" ")[0]):
        body = b"%d %s" % (len(body), body.partition(b" ")[2])
    raw = patched(header, 124, b"%011o\0" % len(body)) + body + bytes(padding_of(len(body))) + header[-BLOCK:]
    with pytest.raises(TarError):
        scan(raw)


@pytest.mark.parametrize("name", [b"", b"user.a\0b", b"user." + b"n" * 251])
def test_an_attribute_that_nothing_can_have(name: bytes) -> None:
    """GNU tar and the kernel would understand it in another way, or not at all."""
    with pytest.raises(TarError):
        scan(build_header(Entry(b"f", FileType.FILE, xattrs=((name, b"1"),))))


def test_the_comment_is_in_the_records() -> None:
    """It says something to us, and nothing to others."""
    scanner, (entry,) = scan(build_header(Entry(b"", FileType.DIRECTORY, 0o755), comment="hello"))
    assert isinstance(entry, Entry)
    assert entry.path == b""
    assert scanner.records == {b"comment": b"hello"}


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, b"0"), (1, b"0.000000001"), (-1, b"-0.000000001"), (1_500_000_000, b"1.5"), (-1_500_000_000, b"-1.5")],
)
def test_times(nanoseconds: int, text: bytes) -> None:
    """GNU tar writes them so."""
    assert format_time(nanoseconds) == text
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize("text", [b"", b"x", b"1.x", b"--1", b"."])
def test_no_times(text: bytes) -> None:
    """What is no time is no entry of time 0."""
    with pytest.raises(TarError):
        parse_time(text)


@pytest.mark.parametrize(
    "raw", [b"5 a=b", b"99 a=b\n", b"x a=b\n", b"6 ab\n", b"5 =b\n", b"0 a=b\n", b"6 a=b\n" + b"x" * 30]
)
def test_no_records(raw: bytes) -> None:
    """Records that do not add up are refused, not skipped."""
    with pytest.raises(TarError):
        parse_records(raw)
