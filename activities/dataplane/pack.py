"""One data segment into one gzip member: GNU tar reads the files, a scanner checks what it wrote.

Every header that tar writes is compared with the plan, so a file that changed, vanished or was replaced since the walk
is noticed here, before the second walk looks at the whole tree. tar's end-of-archive blocks are left out: segments are
runs of one tar stream.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from typing import NoReturn

from activities.dataplane.entries import Entry, content_of
from activities.dataplane.gzipmember import MemberWriter, PackedMember
from activities.dataplane.large import write_file, write_piece
from activities.dataplane.plan import Plan, SegmentPlan
from activities.dataplane.spool import Spooled
from activities.dataplane.tarheader import TarError, TarScanner
from activities.dataplane.threads import Stop
from activities.dataplane.walk import show, volume_changed, volume_error
from codehub_storage.errors import ErrorCode, StorageError

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 18
_STDERR_BYTES = 4096
_CHANGES = (
    "file changed as we read it",
    "File removed before we read it",
    "File shrank by",
    "No such file or directory",
    "Not a directory",
    "Too many levels of symbolic links",
)
_COMMAND = (
    "tar",
    "--create",
    "--file=-",
    "--blocking-factor=512",
    "--format=posix",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--pax-option=delete=atime,delete=ctime",
    "--no-recursion",
    "--null",
    "--verbatim-files-from",
    "--files-from=-",
)


def pack_segment(plan: Plan, segment: SegmentPlan, stop: Stop, *, min_bytes: int) -> PackedMember:
    """The member of a data segment, padded to ``min_bytes`` stored bytes where it is shorter.

    Raises ``VolumeChanged`` and ``VolumeUnreadable``, naming the path.
    """
    member = MemberWriter()
    if segment.cut is not None:
        file = next(plan.entries(segment))
        holes = plan.holes.get(segment.start, [])
        write_piece(plan.root, file.entry, file.content, segment.cut, holes, member, stop)
    elif segment.own_code:
        for file in plan.entries(segment):
            write_file(plan.root, file.entry, file.content, member, stop)
    else:
        _run_tar(plan, segment, member, stop)
    return member.finish(min_bytes)


def _run_tar(plan: Plan, segment: SegmentPlan, member: MemberWriter, stop: Stop) -> None:
    names, errors = os.memfd_create("names"), os.memfd_create("stderr")
    try:
        with os.fdopen(os.dup(names), "wb") as file:
            for spooled in plan.entries(segment):
                file.write(spooled.entry.path + b"\0")
        os.lseek(names, 0, os.SEEK_SET)
        tar = _start_tar(plan, names, errors)
        try:
            with stop.on_stop(tar.kill):
                checked = _copy_checked(tar, plan.entries(segment), member)
                status = tar.wait()
        finally:
            tar.kill()
            tar.wait()
            assert tar.stdout is not None
            tar.stdout.close()
        stop.check()
        _judge(status, _stderr(errors), checked)
    finally:
        os.close(names)
        os.close(errors)


def _start_tar(plan: Plan, names: int, errors: int) -> subprocess.Popen[bytes]:
    """No shell, and nothing of our environment: TAR_OPTIONS or a locale would change what is written."""
    try:
        return subprocess.Popen(
            _COMMAND,
            cwd=plan.root,
            stdin=names,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=plan.pass_fds,
            bufsize=0,
        )
    except FileNotFoundError as error:
        if plan.root.is_dir():
            raise StorageError(ErrorCode.UNSUPPORTED, "GNU tar is not installed here") from error
        raise volume_error(b"", error) from error


def _copy_checked(
    tar: subprocess.Popen[bytes], expected: Iterator[Spooled], member: MemberWriter
) -> StorageError | None:
    """Move tar's output, less its end blocks, into the member; answers the first difference from the plan.

    tar's own word about it (its stderr) is the better one, so it is not raised at once; but reading ends there.
    """
    assert tar.stdout is not None
    pipe = tar.stdout.fileno()
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    scanner = TarScanner()
    path = b""
    try:
        while data := os.read(pipe, _READ_BYTES):
            start = scanner.position + scanner.buffered
            for found in scanner.feed(data):
                if isinstance(found, Entry):
                    path = found.path
                    _compare(found, next(expected, None))
            kept = len(data) if scanner.end_offset is None else max(0, scanner.end_offset - start)
            if kept:
                member.write(data if kept == len(data) else memoryview(data)[:kept])
        scanner.finish(need_end=True)
        left = next(expected, None)
        return None if left is None else volume_changed(left.entry.path, "was not read")
    except StorageError as error:
        return error
    except TarError as error:
        return volume_changed(path, f"tar broke off at or behind it: {error}")


def _compare(found: Entry, planned: Spooled | None) -> None:
    if planned is None:
        raise volume_changed(found.path, "was not expected")
    if found.path != planned.entry.path or content_of(found) != planned.content:
        raise volume_changed(planned.entry.path, "changed since it was listed")


def _judge(status: int, said: str, difference: StorageError | None) -> None:
    """Raise what tar's status, its words, and the comparison say."""
    if difference is None and status == 0 and not said:
        return
    lines = [line for line in said.splitlines() if not line.startswith("tar: Exiting with failure status")]
    unreadable = [line for line in lines if not any(change in line for change in _CHANGES)]
    if unreadable:
        _raise_from_tar(ErrorCode.VOLUME_UNREADABLE, unreadable[0], difference)
    if difference is not None:
        raise difference
    _raise_from_tar(ErrorCode.VOLUME_CHANGED, lines[0] if lines else f"tar ended with status {status}", None)


def _raise_from_tar(code: ErrorCode, line: str, cause: Exception | None) -> NoReturn:
    message = line.removeprefix("tar: ")
    path = message.rpartition(": Cannot ")[0] or message.partition(": ")[0]
    raise StorageError(code, message, details={"path": path}) from cause


def _stderr(fd: int) -> str:
    return show(os.pread(fd, _STDERR_BYTES, 0)) if os.fstat(fd).st_size else ""
