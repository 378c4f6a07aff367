"""`beneath` alone: whatever the name and whatever stands in the way, nothing outside the folder is touched."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.beneath import Beneath, as_storage_error, clean_components, open_beneath
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.canary import Canary

OPERATIONS: dict[str, Callable[[Beneath, bytes], object]] = {
    "folder": Beneath.folder,
    "lstat": Beneath.lstat,
    "mkdir": Beneath.mkdir,
    "makedirs": Beneath.makedirs,
    "create": Beneath.create,
    "open_shared": Beneath.open_shared,
    "remove": Beneath.remove,
    "symlink": lambda beneath, path: beneath.symlink(path, b"x"),
    "readlink": Beneath.readlink,
    "link": lambda beneath, path: beneath.link(path, b"file"),
    "link from": lambda beneath, path: beneath.link(b"new", path),
    "mknod": lambda beneath, path: beneath.mknod(path, stat.S_IFIFO | 0o600),
    "chown": lambda beneath, path: beneath.chown(path, os.getuid(), os.getgid()),
    "chmod": lambda beneath, path: beneath.chmod(path, 0o600),
    "utime": lambda beneath, path: beneath.utime(path, 1, 1),
    "setxattr": lambda beneath, path: beneath.setxattr(path, b"user.x", b"1"),
    "removexattr": lambda beneath, path: beneath.removexattr(path, b"user.x"),
}
UNCLEAN = [
    b"/victim",
    b"..",
    b"../victim",
    b"d/../../victim",
    b"d/./x",
    b"d//x",
    b"d/",
    b"a\0b",
    b"n" * 256,
    b"n/" * 9000 + b"n",
]


@pytest.fixture
def outside(tmp_path: Path) -> Canary:
    """A target with a file, a folder, and links that lead out of it."""
    found = Canary(tmp_path)
    (found.volume / "file").write_bytes(b"")
    (found.volume / "d").mkdir()
    (found.volume / "up").symlink_to("..")
    (found.volume / "victim-link").symlink_to("../victim")
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", UNCLEAN)
def test_an_unclean_name_is_refused_by_every_operation(outside: Canary, operation: str, name: bytes) -> None:
    """ArchiveCorrupt, before any system call."""
    with Beneath(outside.volume) as beneath, pytest.raises(StorageError) as caught:
        OPERATIONS[operation](beneath, name)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert not outside.changes()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_goes_through_a_link(outside: Canary, operation: str) -> None:
    """A link among the parents is ELOOP, wherever it leads."""
    with Beneath(outside.volume) as beneath, pytest.raises(OSError, match="symbolic links") as caught:
        OPERATIONS[operation](beneath, b"up/victim")
    assert caught.value.errno == errno.ELOOP
    assert not outside.changes()


@pytest.mark.parametrize("operation", ["create", "open_shared", "chmod", "folder"])
def test_a_link_at_the_end_is_not_followed(outside: Canary, operation: str) -> None:
    """These would act on what the link points to, so they refuse it."""
    with Beneath(outside.volume) as beneath, pytest.raises(OSError, match=r"symbolic links|File exists|not supported"):
        OPERATIONS[operation](beneath, b"victim-link")
    assert not outside.changes()


@pytest.mark.parametrize("operation", ["chown", "utime"])
def test_metadata_of_a_link_are_its_own(outside: Canary, operation: str) -> None:
    """These act on the link itself."""
    with Beneath(outside.volume) as beneath:
        OPERATIONS[operation](beneath, b"victim-link")
    assert not outside.changes()


def test_a_mount_is_not_crossed(outside: Canary) -> None:
    """A volume is one file system; /proc below / stands for a mount."""
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError, match="cross-device"):
            open_beneath(root, b"proc/self", os.O_PATH)
    finally:
        os.close(root)


def test_paths_far_beyond_path_max_can_be_made_and_used(outside: Canary) -> None:
    """Each stretch of such a path is resolved below the one before."""
    path = b"/".join([b"n" * 200] * 60)
    with Beneath(outside.volume) as beneath:
        assert len(beneath.makedirs(path)) == 60
        os.close(beneath.create(path + b"/file"))
        beneath.chmod(path + b"/file", 0o640)
        beneath.utime(path + b"/file", 5, 5)
        found = beneath.lstat(path + b"/file")
    assert found is not None
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, 5)


def test_open_folders_are_bounded_and_closed(outside: Canary) -> None:
    """A thousand parents do not take a thousand descriptors, and none is left."""
    before = len(os.listdir("/proc/self/fd"))
    with Beneath(outside.volume) as beneath:
        for number in range(1000):
            beneath.makedirs(b"many/%d" % number)
            os.close(beneath.create(b"many/%d/f" % number))
        assert len(os.listdir("/proc/self/fd")) < before + 100
    assert len(os.listdir("/proc/self/fd")) == before


def test_mkdir_twice_is_fine_and_over_a_file_is_not(outside: Canary) -> None:
    """A step that is repeated finds its folders; a file in their place is a contradiction."""
    with Beneath(outside.volume) as beneath:
        beneath.mkdir(b"d")
        with pytest.raises(FileExistsError):
            beneath.mkdir(b"file")
        with pytest.raises(FileExistsError):
            beneath.mkdir(b"up")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, ErrorCode.NO_SPACE),
        (errno.EDQUOT, ErrorCode.NO_SPACE),
        (errno.ELOOP, ErrorCode.ARCHIVE_CORRUPT),
        (errno.EXDEV, ErrorCode.ARCHIVE_CORRUPT),
        (errno.EACCES, ErrorCode.ACCESS_DENIED),
        (errno.EROFS, ErrorCode.ACCESS_DENIED),
        (errno.EFBIG, ErrorCode.ARCHIVE_TOO_LARGE),
        (errno.ENOSYS, ErrorCode.UNSUPPORTED),
        (errno.EIO, ErrorCode.BACKEND_UNAVAILABLE),
    ],
)
def test_kernel_errors_have_codes(number: int, code: ErrorCode) -> None:
    """What the caller is told when a write fails."""
    assert as_storage_error(OSError(number, os.strerror(number)), b"some\xffname").code is code


def test_clean_names_are_split() -> None:
    """Bytes that are odd but harmless stay as they are."""
    assert clean_components(b"a/...\xff/ b\n") == [b"a", b"...\xff", b" b\n"]
