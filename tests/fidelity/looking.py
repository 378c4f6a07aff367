"""What a tree looks like to tools that are not ours: find, getfattr, getfacl, sha256sum, filefrag, getcap, rsync.

Each path gets each aspect as a text to compare. Tools are run inside the folder of what they look at, so that paths
beyond PATH_MAX are seen too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

Looks = Mapping[str, Mapping[str, str]]
"""By aspect, then by path (empty: the root)."""

_STATUS = ("%P", "%y", "%U:%G", "%m", "%s", "%T@", "%l", "%D:%i")
_XATTR = re.compile(r"^(user|trusted|security)\.")
_EXTENT = re.compile(r"^ *\d+: +(\d+)\.\. +(\d+):")
ASPECTS = (
    *("names", "owner", "mode", "mtime", "target", "groups", "content", "device", "holes"),
    *("user xattrs", "trusted xattrs", "security xattrs", "capabilities", "ACLs"),
)


def look_at(root: Path) -> Looks:
    """Everything but sockets' contents and access times."""
    looks: dict[str, dict[str, str]] = {aspect: {} for aspect in ASPECTS}
    inodes: defaultdict[str, list[str]] = defaultdict(list)
    for path, kind, owner, mode, size, mtime, target, inode in _status_of(root):
        looks["names"][path] = kind + (f" of {size} bytes" if kind == "f" else "")
        looks["owner"][path], looks["mtime"][path] = owner, mtime
        if kind == "l":
            looks["target"][path] = target
        else:
            looks["mode"][path] = mode
        if kind != "d":
            inodes[inode].append(path)
    for group in inodes.values():
        looks["groups"].update((path, " ".join(sorted(group))) for path in group if len(group) > 1)
    looks["content"] = _each(root, "-type f", 'sha256sum < "$1"')
    looks["device"] = _each(root, "-type b -o -type c", 'stat -c %t:%T -- "$1"')
    looks["ACLs"] = _each(root, "! -type l", 'getfacl -cn -- "$1"')
    looks["holes"] = {path: _data_ranges(said) for path, said in _each(root, "-type f", _FRAGMENTS).items()}
    if shutil.which("getcap"):
        looks["capabilities"] = _each(root, "-type f", 'getcap -- "$1"')
    for path, said in _each(root, "-true", 'getfattr -h -d -m- -ehex -- "$1"').items():
        for line in said.splitlines():
            if found := _XATTR.match(line):
                aspect = looks[f"{found[1]} xattrs"]
                aspect[path] = f"{aspect.get(path, '')}{line}\n"
    return looks


def differences(one: Looks, other: Looks, aspects: tuple[str, ...] = ASPECTS) -> list[str]:
    """In words, for each aspect and path; empty: none."""
    found = []
    for aspect in aspects:
        for path in sorted(one[aspect].keys() | other[aspect].keys()):
            left, right = one[aspect].get(path), other[aspect].get(path)
            if left != right:
                found.append(f"{aspect} of {path!r}: {left!r} became {right!r}")
    return found


def without(looks: Looks, *paths: str) -> Looks:
    """As if these were not there."""
    return {aspect: {path: said for path, said in by.items() if path not in paths} for aspect, by in looks.items()}


def rsync_would(one: Path, other: Path, *absent: str) -> str:
    """What rsync, comparing contents, would do to make ``other`` like ``one``, in which ``absent`` are left out."""
    command = ["rsync", "-naHAXc", "--delete", "--itemize-changes", *(f"--exclude=/{path}" for path in absent)]
    done = subprocess.run([*command, f"{one}/", f"{other}/"], capture_output=True, check=True)
    return done.stdout.decode(errors="backslashreplace")


def _status_of(root: Path) -> Iterator[list[str]]:
    fields = _run(root, "-printf", "".join(f"{field}\\0" for field in _STATUS)).split("\0")[:-1]
    for at in range(0, len(fields), len(_STATUS)):
        yield fields[at : at + len(_STATUS)]


_FRAGMENTS = 'filefrag -sv -b4096 -- "$1"'


def _each(root: Path, which: str, command: str) -> dict[str, str]:
    """What a shell command says of each of those paths; ``$1`` is the name, in its own folder."""
    printed = _run(
        root, "(", *which.split(), ")", "-printf", "\\0%P\\0", "-execdir", "sh", "-c", command, "sh", "{}", ";"
    )
    fields = printed.split("\0")[1:]
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _run(root: Path, *expression: str) -> str:
    # -execdir refuses a PATH with anything relative in it.
    done = subprocess.run(
        ["find", ".", *expression],
        cwd=root,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode(errors="surrogateescape")


def _data_ranges(said: str) -> str:
    """The blocks that hold data, from the list of extents: where they lie on disk does not matter."""
    ranges: list[list[int]] = []
    for line in said.splitlines():
        if found := _EXTENT.match(line):
            start, end = int(found[1]), int(found[2])
            if ranges and ranges[-1][1] == start - 1:
                ranges[-1][1] = end
            else:
                ranges.append([start, end])
    return " ".join(f"{start}-{end}" for start, end in ranges)
