"""What breaks backup tools: strange names, links, holes, attributes, rights and times."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

_MIB = 1 << 20
_RANDOM_MIB = 48
_NAMES = (
    b" leading and trailing ",
    b"-rf",
    b"new\nline",
    b"tab\tand\x07bell",
    b"back\\slash",
    b"quote'and\"quote",
    b"*?[glob]{a,b}$HOME`id`",
    b"not \xff\xfe utf-8",
    "composed \u00e9".encode(),
    "decomposed e\u0301".encode(),
    "\u4e2d\u6587 \U0001f600".encode(),
    b"...",
    b".hidden",
    b"n" * 255,
)
_DAY = 86_400 * 10**9
_TIMES_NS = (0, -_DAY + 1, 981_173_106_123_456_789, 2**31 * 10**9 + 5, 4_102_444_800 * 10**9)
_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as the kernel keeps it."""


class Oddities:
    """Makes them in a directory. ``refused``: what the kernel or the file system did not let us make, and why."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.refused: dict[str, str] = {}

    def make(self) -> None:
        """All of them. Blocks."""
        self._folder.mkdir()
        self._names()
        self._contents()
        self._links()
        self._modes()
        self._attributes()
        if os.geteuid() == 0:
            self._owners()
        else:
            self.refused["owners other than oneself"] = "not root"
            self.refused["trusted.* and security.* attributes"] = "not root"
        self._times()

    def _try(self, what: str, make: Callable[[], None]) -> None:
        try:
            make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.refused[what] = str(error)

    def _new(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _names(self) -> None:
        folder = os.fsencode(self._new("names"))
        for name in _NAMES:
            self._try(f"a file named {name[:40]!r}", lambda name=name: _write(os.path.join(folder, name), name))  # type: ignore[misc]
        deep = self._folder / "names"
        for depth in range(40):
            deep = deep / f"a folder at depth {depth}, with a long name"
            deep.mkdir()
        (deep / "file").write_text("deep\n")

    def _contents(self) -> None:
        folder = self._new("contents")
        (folder / "empty").touch()
        (folder / "empty folder").mkdir()
        with (folder / "random").open("wb") as file:
            source = random.Random(1)
            for _ in range(_RANDOM_MIB):
                file.write(source.randbytes(_MIB))
        with (folder / "sparse").open("wb") as file:
            for offset in (0, 100 * _MIB, 299 * _MIB):
                file.seek(offset)
                file.write(b"data between holes\n" * 500)
            file.truncate(300 * _MIB)

    def _links(self) -> None:
        folder = self._new("links")
        target = folder / "target"
        target.write_text("linked\n")
        for name, to in (
            ("relative", "target"),
            ("upwards", "../contents/empty"),
            ("dangling", "no/such file"),
            ("absolute", "/etc/hostname"),
            ("loop", "loop"),
            ("to a folder", "../names"),
            ("not utf-8", os.fsdecode(b"\xff")),
        ):
            (folder / name).symlink_to(to)
        (folder / "folder").mkdir()
        for link in (folder / "hard", folder / "folder" / "hard", self._folder / "a hard link, first in order"):
            os.link(target, link)
        os.link(folder / "dangling", folder / "hard link to a symlink", follow_symlinks=False)
        os.mkfifo(folder / "fifo", 0o640)

    def _modes(self) -> None:
        folder = self._new("modes")
        for mode in (0o400, 0o444, 0o600, 0o666, 0o755, 0o4755, 0o2755, *((0o000,) if os.geteuid() == 0 else ())):
            path = folder / f"file {mode:04o}"
            path.write_text(f"{mode:o}\n")
            path.chmod(mode)
        for mode in (0o500, 0o711, 0o1777, 0o2770):
            path = folder / f"folder {mode:04o}"
            path.mkdir()
            (path / "file").write_text("inside\n")
            path.chmod(mode)

    def _attributes(self) -> None:
        folder = self._new("attributes")
        file = folder / "file"
        file.write_text("with attributes\n")
        for path in (file, folder):
            self._try("user.* attributes", lambda path=path: os.setxattr(path, "user.colour", b"blue\0\xff"))  # type: ignore[misc]
        self._try("an empty attribute", lambda: os.setxattr(file, "user.empty", b""))
        if shutil.which("setfacl") is None:
            self.refused["ACLs"] = "setfacl is not installed (package acl)"
            return
        self._try("ACLs", lambda: _setfacl("u:12345:rw,g:54321:r", file))
        inherited = folder / "with default ACL"
        inherited.mkdir()
        self._try("default ACLs", lambda: _setfacl("d:u:12345:rwx", inherited))
        (inherited / "file").write_text("inherits\n")

    def _owners(self) -> None:
        folder = self._new("owners")
        for owner, group in ((1000, 1000), (12345, 54321), (65534, 65534), (0, 1000), (2**31, 2**31)):
            path = folder / f"{owner}-{group}"
            path.write_text("owned\n")
            self._try(f"owner {owner}", lambda ids=(owner, group), path=path: os.chown(path, *ids))  # type: ignore[misc]
        link = folder / "link"
        link.symlink_to("1000-1000")
        os.chown(link, 1000, 1000, follow_symlinks=False)
        privileged = folder / "privileged"
        privileged.write_text("may bind\n")
        self._try("trusted.* attributes", lambda: os.setxattr(privileged, "trusted.demo", b"1"))
        self._try("capabilities", lambda: os.setxattr(privileged, "security.capability", _CAPABILITY))
        os.chown(folder, 1000, 1000)

    def _times(self) -> None:
        """Last: whatever is made in a directory changes its time."""
        folder = self._new("times")
        for number, moment in enumerate(_TIMES_NS):
            for path in (folder / f"file {number}", folder / f"folder {number}"):
                path.touch() if path.name.startswith("file") else path.mkdir()
                self._try(f"the time {moment} ns", lambda path=path, at=moment: os.utime(path, ns=(at, at)))  # type: ignore[misc]
        os.utime(self._folder / "links" / "dangling", ns=(1, 1), follow_symlinks=False)
        for path in (folder, self._folder / "links", self._folder):
            os.utime(path, ns=(_TIMES_NS[2], _TIMES_NS[2]))


def _write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _setfacl(rule: str, path: Path) -> None:
    subprocess.run(["setfacl", "-m", rule, "--", path], check=True, stdin=subprocess.DEVNULL, capture_output=True)
