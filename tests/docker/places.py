"""A place on a Docker engine, as the contract suite needs it. Its movers are busybox, which does nothing."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from activities.backends.base import MoverSpec
from activities.backends.containers import VOLUME, MoverImage
from activities.backends.docker.backend import DockerBackend
from activities.backends.docker.engine import Engine as Connection
from activities.backends.docker.labels import volume_labels
from activities.backends.wait_policy import WaitPolicy
from tests.harness.docker import Engine, OwnEngine

IDLE_IMAGE = "codehub-storage-tests/idle:1"
_APPLETS = ("sh", "sleep", "find", "stat", "sort", "md5sum", "cat", "tee")
IDLE_COMMAND = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
_WALK = ("/bin/sh", "-c", f"find {VOLUME} -exec stat -c '%n %i %s %Y' {{}} + | sort | md5sum")


def provide_idle_image(engine: Engine) -> str:
    """An image of one program and what it is linked to, made here."""
    if not engine.has_image(IDLE_IMAGE):
        engine.docker("import", "-", IDLE_IMAGE, input=_packed())
    return IDLE_IMAGE


def _packed() -> bytes:
    program = shutil.which("busybox")
    assert program is not None, "apt-get install busybox"
    linked = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout
    libraries = [Path(word) for word in linked.split() if word.startswith("/")]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for source, name in ((Path(program), "bin/busybox"), *((each, str(each)[1:]) for each in libraries)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = source.stat().st_size, 0o755
            tar.addfile(member, io.BytesIO(source.read_bytes()))
        for name in _APPLETS:
            member = tarfile.TarInfo(f"bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(member)
    return packed.getvalue()


class DockerPlace:
    """An engine with two backends on it, as two workers have them."""

    def __init__(self, engine: OwnEngine, *, image: str | None = None, mover: tuple[str, ...] = IDLE_COMMAND) -> None:
        self.engine = engine
        self.image = image or provide_idle_image(engine)
        self._movers = MoverImage(self.image, mover_command=mover, walk_command=_WALK)
        self.backend, self.other = self._backend(), self._backend()

    def _backend(self) -> DockerBackend:
        wait_policy = WaitPolicy(lock_seconds=20, grace_seconds=3)
        return DockerBackend(Connection(self.engine.socket), self._movers, wait_policy=wait_policy)

    async def close(self) -> None:
        """Remove all containers and volumes, and end the connections."""
        await self.backend.aclose()
        await self.other.aclose()
        for kind, remove in (("ps", ("rm", "-f", "-v")), ("volume", ("volume", "rm"))):
            listing = ("ps", "-aq") if kind == "ps" else ("volume", "ls", "-q")
            if found := self.engine.docker(*listing).split():
                self.engine.docker(*remove, *found)

    def folder(self, workspace_id: str) -> Path:
        """Where the engine keeps the volume."""
        return self.engine.data_root / "volumes" / f"ws_{workspace_id}_home" / "_data"

    def run(self, name: str, workspace_id: str, *options: str, command: tuple[str, ...] = IDLE_COMMAND) -> str:
        """A container of the platform's that has the volume; its id."""
        mount = f"type=volume,source=ws_{workspace_id}_home,target=/home/dev"
        return self.engine.docker("run", "-d", "--name", name, "--mount", mount, *options, self.image, *command).strip()

    def write(self, workspace_id: str, text: str) -> None:
        """See ``Place``."""
        (self.folder(workspace_id) / "work.txt").write_text(text)

    def read(self, workspace_id: str) -> str | None:
        """See ``Place``."""
        file = self.folder(workspace_id) / "work.txt"
        return file.read_text() if file.exists() else None

    def make_foreign(self, workspace_id: str) -> None:
        """See ``Place``."""
        self.engine.docker("volume", "create", f"ws_{workspace_id}_home")
        self.write(workspace_id, "foreign")

    def make_of_another(self, workspace_id: str, uid: str, says: str) -> None:
        """See ``Place``."""
        labels = [word for each in volume_labels(says, uid, None, {}).items() for word in ("--label", "=".join(each))]
        self.engine.docker("volume", "create", *labels, f"ws_{workspace_id}_home")
        self.write(workspace_id, "theirs")

    def mover(self, workspace_id: str, uid: str, run_id: str, number: int = 1, *, writable: bool = True) -> MoverSpec:
        """See ``Place``."""
        return MoverSpec(
            workspace_id=workspace_id,
            volume_uid=uid,
            run_id=run_id,
            queue=f"mover/token-{run_id}/{number}",
            writable=writable,
        )
