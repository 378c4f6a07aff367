"""Arbitrary trees, cut so small that every cut is met: against tar, against our own proof and our own restore."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.dataplane.plan import PlanLimits
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.verify import verify_archive
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import SMALL_PARTS, ignore, make_archive, restore_archive
from tests.harness.scale import trials
from tests.harness.trees import snapshot

names = st.one_of(
    st.sampled_from([b"a", b"b", b"a.b", b"a b", b"-x", b"~", b"new\nline", b"\xff", b"x" * 120, b"%", b"="]),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"|")),
).filter(lambda name: name not in (b".", b".."))
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
times = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
files = st.tuples(st.just("file"), st.integers(0, 6000), st.binary(min_size=1, max_size=4))
others = st.one_of(
    files,
    files,
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=150).filter(lambda target: b"\0" not in target)),
    st.tuples(st.just("hard"), st.integers(0, 30)),
    st.tuples(st.just("folder")),
    st.tuples(st.just("fifo")),
)
trees = st.lists(st.tuples(paths, others, times, st.sampled_from([0o644, 0o600, 0o755, 0o4700])), max_size=14)
limits = st.builds(
    PlanLimits,
    segment_bytes=st.sampled_from([600, 2000, 5000, 40_000]),
    large_file_bytes=st.sampled_from([1, 700, 3000, 30_000]),
)


def build(root: Path, plan: list[tuple[bytes, tuple[object, ...], int, int]]) -> None:
    """What of ``plan`` the file system allows: a name that is taken, or below a file, is left out."""
    base = os.fsencode(root)
    made: list[bytes] = []
    for path, what, mtime_ns, mode in plan:
        full = base + b"/" + path
        parts = path.split(b"/")
        if any(os.path.islink(base + b"/" + b"/".join(parts[:depth])) for depth in range(1, len(parts))):
            continue  # it would lead through a link, perhaps out of the tree
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            _make(full, what, made)
        except (FileExistsError, NotADirectoryError):
            continue
        if what[0] in ("file", "hard"):
            made.append(full)
        if what[0] != "link":
            os.chmod(full, mode | 0o700 if what[0] == "folder" else mode)
            if mode == 0o755:
                os.setxattr(full, b"user.x=%", b"\0\n") if what[0] != "fifo" else None
        os.utime(full, ns=(0, mtime_ns), follow_symlinks=False)


def _make(full: bytes, what: tuple[object, ...], made: list[bytes]) -> None:
    match what:
        case ("file", int(length), bytes(seed)):
            with open(full, "xb") as file:
                file.write((seed * (length // len(seed) + 1))[:length])
        case ("link", bytes(target)):
            os.symlink(target, full)
        case ("hard", int(number)):
            if not made:
                raise FileExistsError
            os.link(made[number % len(made)], full)
        case ("folder",):
            os.mkdir(full)
        case _:
            os.mkfifo(full)


@pytest.mark.field("D6")
@settings(max_examples=trials(10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, limits, st.sampled_from([1, 1200]))
def test_any_tree_is_what_tar_makes_of_its_archive(
    tree: list[tuple[bytes, tuple[object, ...], int, int]], cuts: PlanLimits, part_bytes: int
) -> None:
    """Plan, archive, proof, rebuilt manifest; plain GNU tar, our restore, and a comparer that knows nothing of ours."""
    folder = Path(tempfile.mkdtemp())
    try:
        root, out, restored, again = (folder / name for name in ("tree", "out", "restored", "again"))
        for each in (root, out, restored, again):
            each.mkdir()
        build(root, tree)
        (folder / "archive").write_bytes(asyncio.run(archive(root, cuts, part_bytes, restored, again)))
        assert snapshot(restored) == snapshot(root)
        assert snapshot(again) == snapshot(root)
        subprocess.run(
            ["tar", "-xzpPf", "../archive", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=none"],
            cwd=out,
            check=True,
        )
        assert snapshot(out) == snapshot(root)
    finally:
        shutil.rmtree(folder)


async def archive(root: Path, cuts: PlanLimits, part_bytes: int, restored: Path, again: Path) -> bytes:
    store = MemoryStore(min_part_bytes=part_bytes)
    made = await make_archive(root, store, limits=cuts, means=replace(SMALL_PARTS, min_part_bytes=part_bytes))
    await verify_archive(store, made.info, made.manifest, progress=ignore)
    rebuilt = await verify_from_tail(store, made.info, progress=ignore)
    assert [segment.digest for segment in rebuilt.segments] == [segment.digest for segment in made.manifest.segments]
    assert rebuilt.content_fingerprint == made.manifest.content_fingerprint == made.plan.summary.content_fingerprint
    await restore_archive(ArchiveRestore(restored, store, made.manifest))
    await restore_archive(ArchiveRestore(again, store, rebuilt))
    found = await store.get(made.info.key)
    assert found is not None
    return found[0]
