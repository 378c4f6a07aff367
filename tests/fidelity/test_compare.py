"""The last step of a restore looks at what is there: whatever is not as it was archived is an error that names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.restore import ArchiveRestore
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, ignore, make_archive
from tests.harness.trees import ACL, IS_ROOT, make_rich_tree

Change = Callable[[Path], object]


@pytest.fixture
async def restored(tmp_path: Path) -> tuple[Path, ArchiveRestore]:
    """A rich tree after all steps but the last, and its restore."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    if IS_ROOT:
        os.mknod(source / "device", 0o020644, os.makedev(1, 3))
    make_rich_tree(source)
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store, limits=replace(TINY, allow_devices=True))
    restore = ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED)
    await restore.prepare()
    await restore.restore_segments(1, restore.data_segments)
    await restore.finish()
    return target, restore


async def compare(restore: ArchiveRestore) -> None:
    """The last step of ``finish``, alone: those before it would mend what was changed."""
    await restore._compare(bytes(32), ignore)


def _other_time(name: str) -> Change:
    """Later by the least that there is."""

    def change(root: Path) -> None:
        now = os.lstat(root / name)
        os.utime(root / name, ns=(0, now.st_mtime_ns + 1), follow_symlinks=False)

    return change


def _instead(name: str, make: Change) -> Change:
    """Something else of that name."""

    def change(root: Path) -> None:
        path = root / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        make(path)

    return change


def _alone(name: str) -> Change:
    """The same content with the same metadata, no hard link any more."""

    def change(root: Path) -> None:
        shutil.copy2(root / name, root / "copy")
        (root / "copy").replace(root / name)

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "length of a file": (lambda root: os.truncate(root / "plain.txt", 3), "a/third-name"),
    "length of a large file": (lambda root: os.truncate(root / "sparse.bin", 4 << 20), "sparse.bin"),
    "mode of a file": (lambda root: (root / "a.b/x").chmod(0o777), "a.b/x"),
    "mode of a large file": (lambda root: (root / "sparse.bin").chmod(0o600), "sparse.bin"),
    "mode of a folder": (lambda root: (root / "deep").chmod(0o700), "deep"),
    "mode of a FIFO": (lambda root: (root / "fifo").chmod(0o666), "fifo"),
    "mode of the root": (lambda root: root.chmod(0o700), "."),
    "setuid": (lambda root: (root / "empty").chmod(0o711), "empty"),
    "sticky bit": (lambda root: (root / "emptydir").chmod(0o777), "emptydir"),
    "time of a file": (_other_time("empty"), "empty"),
    "time of a large file": (_other_time("sparse.bin"), "sparse.bin"),
    "time of a folder": (_other_time("closed"), "closed"),
    "time of a link": (_other_time("dangling"), "dangling"),
    "time of a FIFO": (_other_time("fifo"), "fifo"),
    "time of the root": (_other_time("."), "."),
    "attribute gone": (lambda root: os.removexattr(root / "plain.txt", "user.comment"), "a/third-name"),
    "attribute's value": (lambda root: os.setxattr(root / "emptydir", "user.dir", b"other"), "emptydir"),
    "attribute more": (lambda root: os.setxattr(root / "sparse.bin", "user.more", b""), "sparse.bin"),
    "ACL gone": (lambda root: os.removexattr(root / "a.b/x", "system.posix_acl_access"), "a.b/x"),
    "ACL more": (lambda root: os.setxattr(root / "middle.bin", "system.posix_acl_access", ACL), "middle.bin"),
    "default ACL gone": (lambda root: os.removexattr(root / "a.b", "system.posix_acl_default"), "a.b"),
    "default ACL more": (lambda root: os.setxattr(root / "deep", "system.posix_acl_default", ACL), "deep"),
    "link target": (_instead("dangling", lambda path: path.symlink_to("elsewhere")), "dangling"),
    "missing file": (lambda root: (root / "middle.bin").unlink(), "middle.bin"),
    "missing large file": (lambda root: (root / "sparse.bin").unlink(), "sparse.bin"),
    "missing link": (lambda root: (root / "dangling").unlink(), "dangling"),
    "missing folder": (lambda root: (root / "emptydir").rmdir(), "emptydir"),
    "missing FIFO": (lambda root: (root / "zz-fifo").unlink(), "zz-fifo"),
    "missing hard link": (lambda root: (root / "zz-large-again").unlink(), "zz-large-again"),
    "strange file": (lambda root: (root / "zzzz").write_bytes(b""), "zzzz"),
    "strange folder": (lambda root: (root / "new").mkdir(), "new"),
    "strange link": (lambda root: (root / "new").symlink_to("x"), "new"),
    "strange hard link": (lambda root: os.link(root / "middle.bin", root / "zzzz"), "zzzz"),
    "strange socket": (lambda root: os.mknod(root / "new", 0o140600), "new"),
    "a file becomes a folder": (_instead("middle.bin", lambda path: path.mkdir()), "middle.bin"),
    "a file becomes a link": (_instead("middle.bin", lambda path: path.symlink_to("x")), "middle.bin"),
    "a folder becomes a file": (_instead("emptydir", lambda path: path.touch()), "emptydir"),
    "a FIFO becomes a file": (_instead("fifo", lambda path: path.touch()), "fifo"),
    # The first in order is named: the name that is gone stands before the one that has come.
    "another name": (lambda root: (root / "middle.bin").rename(root / "middle.bin\n"), "middle.bin"),
    "hard link broken": (_alone("zz-second-name"), "zz-second-name"),
    "hard link to a large file broken": (_alone("zz-large-again"), "zz-large-again"),
    "hard link to another": (
        _instead("zz-second-name", lambda path: os.link(path.parent / "empty", path)),
        "zz-second-name",
    ),
}
PRIVILEGED: dict[str, tuple[Change, str]] = {
    "owner of a file": (lambda root: os.chown(root / "middle.bin", 7, -1), "middle.bin"),
    "group of a large file": (lambda root: os.chown(root / "sparse.bin", -1, 7), "sparse.bin"),
    "group of a folder": (lambda root: os.chown(root / "emptydir", -1, 7), "emptydir"),
    "owner of a link": (lambda root: os.chown(root / "dangling", 7, -1, follow_symlinks=False), "dangling"),
    "owner of a FIFO": (lambda root: os.chown(root / "fifo", 7, -1), "fifo"),
    "owner of the root": (lambda root: os.chown(root, 7, -1), "."),
    "trusted attribute gone": (lambda root: os.removexattr(root / "a/x", "trusted.overlay"), "a/x"),
    "trusted attribute of a link": (
        lambda root: os.removexattr(root / "link", "trusted.onlink", follow_symlinks=False),
        "link",
    ),
    "trusted attribute more": (lambda root: os.setxattr(root / "deep", "trusted.more", b""), "deep"),
    "capability gone": (lambda root: os.removexattr(root / "a/x", "security.capability"), "a/x"),
    "another device": (_instead("device", lambda path: os.mknod(path, 0o020644, os.makedev(1, 5))), "device"),
}


@pytest.mark.parametrize("what", [*CHANGES, *PRIVILEGED])
async def test_a_difference_is_an_error_that_names_its_path(restored: tuple[Path, ArchiveRestore], what: str) -> None:
    """``ArchiveCorrupt``; the folder around it has its old time, so nothing else is different."""
    root, restore = restored
    if what in PRIVILEGED and not IS_ROOT:
        pytest.skip("needs root")
    await compare(restore)
    change, path = {**CHANGES, **PRIVILEGED}[what]
    times = root.stat()
    change(root)
    if path != ".":
        os.utime(root, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StorageError) as caught:
        await compare(restore)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert caught.value.details["path"] == path
