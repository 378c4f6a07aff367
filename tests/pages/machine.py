"""An empty Debian 12: a root of its own, in which a user who may use `sudo` has cloned this repository, and no more.

It has the network of this machine, for the packages that are installed in there, and processes, mounts and a name of
its own: with the first process the kernel ends all others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.baseimage import debian_tar
from tests.harness.enclosure import child_of
from tests.harness.sources import TOP
from tests.pages.shell import Shell

USER = "you"
CHECKOUT = "codehub-storage"
"""The folder in the user's home."""

_PACKAGES = ("ca-certificates", "git", "sudo")
_PATH = "/usr/local/bin:/usr/bin:/bin"
_REACHES = ("etc/hosts", "etc/pip.conf", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches what packages are installed from; in there it is the same."""
_REACHING = ("PIP_CERT", "PIP_INDEX_URL", "PIP_PROXY", "PIP_TRUSTED_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OWN = ("unshare", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--")
_ENTER = """
set -e
root=$1 who=$2; shift 2
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
hostname debian
exec /usr/sbin/chroot --userspec="$who" "$root" "$@"
"""
_PREPARE = f"""
set -e
useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
echo '127.0.1.1 debian' >>/etc/hosts
apt-get -qq update
"""


class Machine:
    """Use it with ``with``, and its shell within; after that nothing of it is left. Needs root and debootstrap."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="storage-pages-", dir="/var/tmp"))
        self.root = self._folder / "root"
        self._first: int | None = None

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def system(self) -> str:
        """Its name and version."""
        return f"Debian {(self.root / 'etc/debian_version').read_text().split('.')[0].strip()}"

    def shell(self) -> Shell:
        """The user's terminal, in the checkout, with nothing set. One at a time: it is the machine."""
        environment = {
            "HOME": f"/home/{USER}",
            "LANG": "C.UTF-8",
            "LOGNAME": USER,
            "PATH": _PATH,
            "SHELL": "/bin/bash",
            "USER": USER,
            **{name: os.environ[name] for name in _REACHING if name in os.environ},
        }
        home = f"/home/{USER}/{CHECKOUT}"
        prefix = self._command(f"{USER}:{USER}", "env", f"--chdir={home}")
        shell = Shell(prefix, environment)
        self._first = shell.pid
        return shell

    def processes(self) -> list[str]:
        """The command lines of what runs in there, but for the shell itself."""
        first = child_of(self._first or 0)
        if first is None:
            return []
        own, found = os.readlink(f"/proc/{first}/ns/pid"), []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(path / "ns/pid") == own and path.name != str(first):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return [each for each in found if each]

    def _make(self) -> None:
        self.root.mkdir()
        subprocess.run(["tar", "-C", self.root, "-xpf", debian_tar(_PACKAGES)], check=True)
        for each in _REACHES:
            if Path("/", each).exists():
                (self.root / each).unlink(missing_ok=True)
                shutil.copyfile(Path("/", each), self.root / each)
        self._as_root("sh", "-c", _PREPARE)
        home = self.root / "home" / USER
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", TOP, home / CHECKOUT], check=True)
        self._as_root("chown", "-R", f"{USER}:{USER}", f"/home/{USER}")

    def _as_root(self, *command: str) -> None:
        done = subprocess.run(
            self._command("root:root", *command),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the machine cannot be made:\n{done.stdout}")

    def _command(self, who: str, *command: str) -> list[str]:
        return [*_OWN, "sh", "-c", _ENTER, "sh", str(self.root), who, *command]

    def _remove(self) -> None:
        """Its mounts were seen by its own processes only, so this reaches none of them."""
        shutil.rmtree(self._folder)
