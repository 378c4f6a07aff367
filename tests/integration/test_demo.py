"""The demo's judge: equal trees pass, and every kind of difference is seen. The demo itself is `make demo`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo import reference
from examples.demo.oddities import make_oddities

pytestmark = pytest.mark.tool("rsync")

TIME_NS = 10**18 + 7


async def verdict(original: Path, tree: Path) -> list[str]:
    """What the demo says of ``tree``."""
    return reference.judge(
        await reference.differences(original, tree),
        await reference.inventory(original),
        await reference.inventory(tree),
    )


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A small tree and its copy."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "file").write_text("content")
    (tree / "other").write_text("another")
    os.link(tree / "file", tree / "folder" / "hard")
    (tree / "link").symlink_to("file")
    os.mkfifo(tree / "fifo")
    os.setxattr(tree / "file", "user.colour", b"blue")
    with (tree / "holed").open("wb") as file:
        file.truncate(8 << 20)
    for path in (tree / "file", tree / "folder", tree):
        os.utime(path, ns=(TIME_NS, TIME_NS))
    await reference.copy(tree, tmp_path / "copy")
    return tree, tmp_path / "copy"


async def test_a_copy_is_equal(pair: tuple[Path, Path]) -> None:
    """Nothing to say of a copy."""
    assert await verdict(*pair) == []


def _other_content(copy: Path) -> None:
    (copy / "other").write_text("ANOTHER")
    os.utime(copy / "other", ns=(TIME_NS, TIME_NS))


def _no_longer_linked(copy: Path) -> None:
    (copy / "folder" / "hard").rename(copy / "moved")
    (copy / "folder" / "hard").write_bytes((copy / "moved").read_bytes())
    (copy / "moved").unlink()


def _linked_besides(copy: Path) -> None:
    (copy / "other").unlink()
    os.link(copy / "file", copy / "other")


def _without_holes(copy: Path) -> None:
    (copy / "holed").write_bytes(bytes(8 << 20))


def _later_by_a_nanosecond(path: Path) -> None:
    os.utime(path, ns=(TIME_NS, TIME_NS + 1))


@pytest.mark.parametrize(
    "change",
    [
        _other_content,
        _no_longer_linked,
        _linked_besides,
        _without_holes,
        lambda copy: _later_by_a_nanosecond(copy / "file"),
        lambda copy: _later_by_a_nanosecond(copy / "folder"),
        lambda copy: _later_by_a_nanosecond(copy),
        lambda copy: (copy / "file").chmod(0o4755),
        lambda copy: (copy / "folder").chmod(0o711),
        lambda copy: os.setxattr(copy / "file", "user.colour", b"red"),
        lambda copy: os.setxattr(copy / "folder", "user.new", b""),
        lambda copy: (copy / "fifo").unlink(),
        lambda copy: (copy / "new").touch(),
        lambda copy: ((copy / "link").unlink(), (copy / "link").symlink_to("other")),
        lambda copy: os.utime(copy / "link", ns=(1, 1), follow_symlinks=False),
    ],
)
async def test_every_difference_is_seen(pair: tuple[Path, Path], change: Callable[[Path], object]) -> None:
    """Content behind the same size and time, links, holes, times to the nanosecond, modes, attributes, kinds."""
    tree, copy = pair
    change(copy)
    assert await verdict(tree, copy) != []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_other_owner_is_seen(pair: tuple[Path, Path]) -> None:
    """As root, owners count."""
    tree, copy = pair
    os.chown(copy / "link", 1000, 1000, follow_symlinks=False)
    assert await verdict(tree, copy) != []


async def test_oddities(tmp_path: Path) -> None:
    """They can be made here, copied by the judge's own tool, and removed again."""
    refused = make_oddities(tmp_path / "odd")
    assert os.geteuid() != 0 or not refused
    found = await reference.inventory(tmp_path / "odd")
    assert os.geteuid() != 0 or found.counts["further hard links"] == 8
    assert found.holed
    await reference.copy(tmp_path / "odd", tmp_path / "copy")
    assert await verdict(tmp_path / "odd", tmp_path / "copy") == []
    for name in ("odd", "copy"):
        reference.remove(tmp_path / name)
        assert not (tmp_path / name).exists()
