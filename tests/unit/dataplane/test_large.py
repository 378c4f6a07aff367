"""Large and sparse files: where their holes are, how they are cut, and that they are read as planned."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.gzipmember import MemberReader, MemberWriter
from activities.dataplane.large import (
    HOLE_WEIGHT,
    MIN_HOLE_BYTES,
    Cut,
    cut_file,
    find_holes,
    holes_within,
)
from activities.dataplane.reading import VolumeReader
from activities.dataplane.tarheader import padding_of
from activities.dataplane.tarwrite import build_header
from activities.dataplane.threads import Stop
from activities.dataplane.walk import walk
from codehub_storage.errors import ErrorCode, StorageError

KIB = 1 << 10


@st.composite
def hollow_files(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    at, holes = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(1, 40), st.integers(16, 400)), max_size=6)):
        at += gap * 4096
        holes.append((at, length * 4096))
        at += length * 4096
    return at + draw(st.integers(0, 100_000)), holes


@given(hollow_files(), st.integers(512, 60_000))
def test_cuts_cover_the_file_and_are_light_enough(file: tuple[int, list[tuple[int, int]]], piece_bytes: int) -> None:
    """Every byte in exactly one piece; none weighs more than a piece may, give or take a block; no hole is lost."""
    size, holes = file
    cuts = cut_file(size, holes, piece_bytes)
    at = 0
    for cut in cuts:
        assert cut.offset == at
        assert cut.offset % 512 == 0
        at += cut.length
    assert at == size
    assert max(cut.weight for cut in cuts) <= -(-piece_bytes // 512) * 512 + 512
    assert sum(length for cut in cuts for _, length in holes_within(holes, cut)) == sum(length for _, length in holes)
    weight = size - sum(length for _, length in holes) * (HOLE_WEIGHT - 1) // HOLE_WEIGHT
    assert len(cuts) <= 2 * weight / piece_bytes + len(holes) + 2


def test_pieces_are_about_equal() -> None:
    """A file just beyond one piece is two halves, not a piece and a crumb that must be padded."""
    assert [cut.length for cut in cut_file(10_000, [], 9_000)] == [5120, 4880]
    assert cut_file(9_000, [], 9_000) == [Cut(0, 9_000, 9_000)]
    assert cut_file(0, [], 9_000) == [Cut(0, 0, 0)]


def test_holes_of_a_real_file(tmp_path: Path) -> None:
    """Data and holes as the file system has them; holes too small to note are data."""
    file = tmp_path / "sparse"
    with open(file, "wb") as out:
        out.seek(256 * KIB)
        out.write(b"a" * 4096)
        out.seek(256 * KIB + 4096 + MIN_HOLE_BYTES - 4096)
        out.write(b"b" * 4096)
        out.truncate(1 << 20)
    if file.stat().st_blocks * 512 > 512 * KIB:
        pytest.skip("this file system makes no holes")
    with open(file, "rb") as read:
        holes = find_holes(read.fileno(), 1 << 20)
    assert holes[0] == (0, 256 * KIB)
    end_of_data = 256 * KIB + MIN_HOLE_BYTES + 4096
    assert holes[1:] == [(end_of_data, (1 << 20) - end_of_data)]


def test_pieces_make_the_file(tmp_path: Path) -> None:
    """Header, data with holes as zeros, padding: one behind the other they are the tar entry of the file."""
    with open(tmp_path / "f", "wb") as out:
        out.write(os.urandom(10_000))
        out.seek(400_000)
        out.write(os.urandom(7_001))
    data = (tmp_path / "f").read_bytes()
    entry = list(walk(tmp_path, xattrs=True))[1]
    with VolumeReader(tmp_path) as reader, reader.opened(entry) as fd:
        holes = find_holes(fd, entry.size)
    assert holes
    raw = b""
    for cut in cut_file(entry.size, holes, 5000):
        member = MemberWriter()
        with VolumeReader(tmp_path) as reader:
            header = reader.write_piece(entry, cut, holes, member, Stop())
        assert (header > 0) is (cut.offset == 0)
        raw += b"".join(MemberReader().feed(b"".join(member.finish().chunks)))
    assert raw == build_header(entry) + data + bytes(padding_of(len(data)))


@pytest.mark.parametrize("how", ["rewrite", "shrink", "replace", "gone", "link", "fifo", "attribute"])
def test_a_file_that_is_no_longer_as_planned(tmp_path: Path, how: str) -> None:
    """Noticed at the piece that is read next; a FIFO in its place does not hold us up."""
    file = tmp_path / "f"
    file.write_bytes(b"x" * 3000)
    entry = list(walk(tmp_path, xattrs=True))[1]
    if how == "rewrite":
        file.write_bytes(b"y" * 3000)
        os.utime(file, ns=(0, entry.mtime_ns))
    elif how == "shrink":
        os.truncate(file, 10)
    elif how == "attribute":
        os.setxattr(file, b"user.new", b"")
    else:
        file.rename(tmp_path / "other")
        if how == "replace":
            file.write_bytes(b"x" * 3000)
        elif how == "link":
            file.symlink_to("other")
        elif how == "fifo":
            os.mkfifo(file)
    with pytest.raises(StorageError) as caught, VolumeReader(tmp_path) as reader:
        reader.write_piece(entry, Cut(0, 3000, 3000), [], MemberWriter(), Stop())
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert caught.value.details["path"] == "f"


def test_a_folder_on_the_way_that_became_a_link(tmp_path: Path) -> None:
    """No component of a path is followed out of the volume."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("secret")
    (tmp_path / "volume" / "d").mkdir(parents=True)
    (tmp_path / "volume" / "d" / "f").write_text("public")
    entry = list(walk(tmp_path / "volume", xattrs=True))[2]
    shutil.rmtree(tmp_path / "volume" / "d")
    (tmp_path / "volume" / "d").symlink_to("../outside")
    with (
        pytest.raises(StorageError) as caught,
        VolumeReader(tmp_path / "volume") as reader,
        reader.opened(entry) as fd,
    ):
        os.read(fd, 100)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
