"""The volume place: the directory, engine or namespace that these settings name, and what movers need there."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from activities.backends.directory.layout import Layout
from activities.backends.directory.place import read_identity
from activities.dataplane.probing import Abilities, probe
from activities.objectstore.identity import StoreIdentity, check_place
from activities.runtime.linux.held_files import blind_spots
from activities.runtime.linux.mounts import mount_of
from worker.backends import cluster_api, docker_engine, mover_image, open_backend
from worker.cli.checks.running import Check, Finding, fails, in_thread, ok, warning
from worker.cli.format import size
from worker.settings import Origin, Settings, variable

if TYPE_CHECKING:
    from activities.backends.docker.engine import Engine, Facts

_FREE_BYTES, _FREE_INODES = 1 << 30, 10_000
_FLEETING = frozenset({"tmpfs", "ramfs", "overlay"})
_BACKEND_SECONDS = 20.0

Known = Callable[[], StoreIdentity | None]
"""The identity of the bucket, once it was read."""


def place_checks(settings: Settings, known: Known) -> list[Check]:
    """Those of the backend in use."""
    if settings.backend == "local-docker":
        return _docker(settings, known)
    if settings.backend == "k8s":
        return _kubernetes(settings, known)
    return _directory(settings, known)


def _identity(settings: Settings, known: Known, needs: str, ask: Callable[[], Awaitable[str | None]]) -> Check:
    """Whether bucket and place are those that `init` marked as belonging together."""

    async def look() -> Finding:
        identity = known()
        assert identity is not None, "store.bucket comes first"
        check_place(identity, settings.place, str(await ask()))
        return ok(f"the bucket knows place {settings.place} as this one")

    return Check("place.identity", look, ("store.bucket", needs), _BACKEND_SECONDS)


# ------------------------------------------------------------ a directory


def _directory(settings: Settings, known: Known) -> list[Check]:
    layout = Layout(settings.volumes)
    is_stack = settings.origin("volume_root") in (Origin.STACK, Origin.DEFAULT)
    needs = ("place.volume-root",)
    return [
        Check("place.volume-root", lambda: in_thread(lambda: _root(layout))),
        _identity(settings, known, "place.volume-root", lambda: in_thread(lambda: read_identity(layout))),
        Check("place.room", lambda: in_thread(lambda: _room(layout.root)), needs),
        Check("place.mount", lambda: in_thread(lambda: _mount(layout.root, is_stack=is_stack)), needs),
        Check("place.abilities", lambda: _abilities(layout, is_stack=is_stack), needs),
        Check("place.users", lambda: in_thread(lambda: _users(is_stack=is_stack))),
    ]


def _root(layout: Layout) -> Finding:
    try:
        is_folder = stat.S_ISDIR(os.stat(layout.root).st_mode)
    except FileNotFoundError:
        return fails(
            f"there is no folder {layout.root}",
            f"Mount it, or correct {variable('volume_root')}; run `codehub-storage init` once for a new one.",
        )
    except OSError as error:
        return fails(f"{layout.root}: {error.strerror}", "Bring the disk back.", retryable=True)
    if not is_folder:
        return fails(f"{layout.root} is no folder", f"Correct {variable('volume_root')}.")
    if read_identity(layout) is None:
        return fails(
            f"{layout.root} bears no mark: not mounted, or never marked",
            "Mount the disk, or run `codehub-storage init` once for a new volume root.",
        )
    return ok(f"{layout.root} is a marked volume root")


def _room(root: Path) -> Finding:
    space = os.statvfs(root)
    free = space.f_bavail * space.f_frsize
    counted = f", {space.f_favail:,} inodes" if space.f_files else ""  # btrfs and others make inodes as they go
    text = f"{size(free)}{counted} free in {root}"
    if free == 0 or (space.f_files and space.f_favail == 0):
        return fails(text, "Free space or inodes there; restores fail until then.", retryable=True)
    if free < _FREE_BYTES or (space.f_files and space.f_favail < _FREE_INODES):
        return warning(text, "A restore of a larger home will be refused; free some.")
    return ok(text)


def _mount(root: Path, *, is_stack: bool) -> Finding:
    point, kind, options = mount_of(root)
    text = f"{root} is on {point} ({kind})"
    if "ro" in options:
        return fails(f"{text}, which is read-only", "Mount it for writing.")
    if kind in _FLEETING:
        return warning(f"{text}, which does not outlive the machine", "Keep homes on a disk.")
    missing = [word for word in ("nosuid", "nodev") if word not in options]
    if missing and not is_stack:
        return warning(
            f"{text}, mounted without {' and '.join(missing)}",
            "Who can write to the bucket can bring set-uid files and devices into a home: mount it nosuid,nodev.",
        )
    return ok(text)


async def _abilities(layout: Layout, *, is_stack: bool) -> Finding:
    """By trying, on a file without a name of a workspace, in the directory of volumes that are being made."""
    found = (await probe(layout.own / "making")).abilities
    who, lost = _who(), _lost(found) if found else ["anything"]
    if not lost:
        return ok(f"{who}: a restore brings back owners, devices and all attributes")
    text = f"{who}: a restore does not bring back {', '.join(lost)}"
    return ok(text) if is_stack else warning(text, "Run the worker as root where homes have other owners.")


def _lost(found: Abilities) -> list[str]:
    return [
        *([] if found.owners else ["owners"]),
        *([] if found.devices else ["devices"]),
        *([] if found.whiteouts else ["overlay whiteouts"]),
        *([] if found.all_privileged else ["file capabilities and trusted attributes"]),
        *([] if "user" in found.xattrs else ["user attributes"]),
    ]


def _users(*, is_stack: bool) -> Finding:
    """The users of a home that would not stop its archive, since they cannot be seen."""
    who, hidden = _who(), " or ".join(blind_spots())
    if not hidden:
        return ok(f"{who}: whoever uses a home is seen, and stops its archive")
    text = f"{who}: if {hidden} use a home that is archived, they are not seen, and what they write then is lost"
    if is_stack:
        return ok(text)
    return warning(text, "Run the worker as root, or with CAP_SYS_PTRACE, and in the machine's own pid namespace.")


def _who() -> str:
    return "as root" if os.geteuid() == 0 else f"as user {os.geteuid()}"


# ------------------------------------------------------------ an engine


def _docker(settings: Settings, known: Known) -> list[Check]:
    async def info() -> Facts:
        async with _engine(settings) as found:
            return await found.info()

    async def engine() -> Finding:
        from activities.backends.docker.engine import warnings_of

        found = await info()
        text, warnings = f"Docker {found.get('ServerVersion')} on {found.get('Name')}", warnings_of(found)
        return warning(f"{text}: {'; '.join(warnings)}", "See docs/docker.md.") if warnings else ok(text)

    async def image() -> Finding:
        name = mover_image(settings).image
        async with _engine(settings) as found:
            if await found.has_image(name):
                return ok(f"the engine has {name}")
        return fails(f"the engine has no image {name}", f"Build or pull it there, or set {variable('mover_image')}.")

    async def identity() -> str:
        return str((await info())["ID"])

    return [
        Check("place.docker", engine, seconds=_BACKEND_SECONDS),
        Check("place.mover-image", image, ("place.docker",), _BACKEND_SECONDS),
        _identity(settings, known, "place.docker", identity),
    ]


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Engine]:
    engine = docker_engine(settings)
    try:
        yield engine
    finally:
        await engine.close()


# ------------------------------------------------------------ a namespace


def _kubernetes(settings: Settings, known: Known) -> list[Check]:
    async def identity() -> str | None:
        from activities.backends.kubernetes.namespace import Namespace

        async with aclosing(cluster_api(settings)) as api:
            return await Namespace(api, settings.workspace_label).identity()

    async def namespace() -> Finding:
        uid = await identity()
        if uid is None:
            return fails(f"there is no namespace {settings.k8s_namespace}", "Create it: deploy/kubernetes does.")
        return ok(f"the API server answers; namespace {settings.k8s_namespace} has uid {uid}")

    async def rights() -> Finding:
        from activities.backends.kubernetes.rights import HELPFUL, NEEDED, missing

        async with aclosing(cluster_api(settings)) as api:
            needed, helpful = await asyncio.gather(missing(api, NEEDED), missing(api, HELPFUL))
        hint = "Grant the rights of deploy/kubernetes to the account that these settings use."
        if needed:
            return fails(f"not allowed: {', '.join(map(str, needed))}", hint)
        if helpful:
            return warning(f"not allowed: {', '.join(map(str, helpful))}", f"{hint} A lost node is not recognised.")
        return ok("the account has all rights of deploy/kubernetes")

    async def admission() -> Finding:
        async with open_backend(settings) as backend:
            await backend.identity()
        return ok("the namespace would admit a mover")

    needs = ("place.kubernetes",)
    return [
        Check("place.kubernetes", namespace, seconds=_BACKEND_SECONDS),
        Check("place.rights", rights, needs, _BACKEND_SECONDS),
        Check("place.admission", admission, needs, _BACKEND_SECONDS),
        _identity(settings, known, "place.kubernetes", identity),
    ]
