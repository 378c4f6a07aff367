"""Canonical bytes: what tells two entries apart, and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.entries import (
    EMPTY_CONTENT,
    Content,
    Entry,
    FileType,
    change_bytes,
    content_of,
    is_clean_path,
    is_privileged,
)

FILE = Entry(b"a/b", FileType.FILE, 0o644, 1000, 100, 7, 1_500_000_000_000_000_001, xattrs=((b"user.k", b"v"),))
contents = st.builds(Content, st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@pytest.mark.parametrize(
    "other",
    [
        FILE._replace(path=b"a/c"),
        FILE._replace(type=FileType.FIFO),
        FILE._replace(mode=0o4644),
        FILE._replace(size=8),
        FILE._replace(mtime_ns=FILE.mtime_ns + 1),
        FILE._replace(mtime_ns=-FILE.mtime_ns),
        FILE._replace(xattrs=()),
        FILE._replace(xattrs=((b"user.k", b"w"),)),
        FILE._replace(xattrs=((b"user.kv", b""),)),
        FILE._replace(device=(1, 2)),
        FILE._replace(target=b"x"),
    ],
)
def test_base_differs(other: Entry) -> None:
    """Each fact that an owner can set is in the base sum, and moves no other."""
    mine, its = content_of(FILE), content_of(other)
    assert mine.base != its.base
    if other.path == FILE.path:
        assert mine[1:] == its[1:]


def test_ids_and_privileged_attributes_have_sums_of_their_own() -> None:
    """A restore that may set neither still compares all the rest."""
    mine = content_of(FILE)
    owned = content_of(FILE._replace(uid=1))
    assert (owned.base, owned.privileged) == (mine.base, mine.privileged)
    assert owned.ids != mine.ids
    trusted = content_of(FILE._replace(xattrs=((b"trusted.t", b""), (b"user.k", b"v"))))
    assert (trusted.base, trusted.ids) == (mine.base, mine.ids)
    assert trusted.privileged != mine.privileged == 0


def test_further_names_count_as_path_and_target_alone() -> None:
    """All else of a hard link belongs to its first name."""
    link = FILE._replace(type=FileType.HARD_LINK, target=b"a/a")
    assert content_of(link) == content_of(link._replace(mode=0, uid=9, size=0, mtime_ns=0, xattrs=()))
    assert content_of(link) != content_of(link._replace(target=b"a/z"))


def test_inode_and_ctime_are_in_the_change_fingerprint_only() -> None:
    """They do not survive a restore, but they betray a write."""
    moved = FILE._replace(inode=5, ctime_ns=6)
    assert content_of(moved) == content_of(FILE)
    assert len({change_bytes(FILE), change_bytes(FILE._replace(inode=5)), change_bytes(FILE._replace(ctime_ns=6))}) == 3


@given(contents, contents, contents)
def test_sums_need_no_order(a: Content, b: Content, c: Content) -> None:
    """Segments may be added up in any order and grouping."""
    assert a.plus(b).plus(c) == c.plus(a.plus(b))
    assert a.plus(EMPTY_CONTENT) == a


@given(contents)
def test_32_bytes_and_back(content: Content) -> None:
    """A record holds exactly this much."""
    assert Content.from_bytes32(content.to_bytes32()) == content
    assert Content.from_hex(content.hex()) == content
    with pytest.raises(ValueError):
        Content.from_bytes32(content.to_bytes32()[1:])


def test_the_digests_are_those_of_the_specification() -> None:
    """A change of these numbers is a change of the format."""
    assert content_of(FILE).hex() == "7da876035a478f6fd4f35b00f200dd1d99c40d5610095a830000000000000000"


@pytest.mark.parametrize("path", [b"", b"/a", b"a//b", b"a/", b".", b"./a", b"a/../b", b"..", b"a\0b"])
def test_unclean_paths(path: bytes) -> None:
    """None of these may name something below a root."""
    assert not is_clean_path(path)


@pytest.mark.parametrize("path", [b"a", b"a/b", b"...", b"a/.b", b"\xff\n", b"-rf"])
def test_clean_paths(path: bytes) -> None:
    """Strange, but below the root."""
    assert is_clean_path(path)


def test_what_needs_rights() -> None:
    """ACLs are an owner's own; everything outside ``user.`` else is not."""
    assert not is_privileged(b"user.x")
    assert not is_privileged(b"system.posix_acl_default")
    assert is_privileged(b"trusted.x")
    assert is_privileged(b"security.capability")
    assert is_privileged(b"system.nfs4_acl")
