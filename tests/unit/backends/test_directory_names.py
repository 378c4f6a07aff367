"""Which folder is ours: the note names an inode, so neither a name nor a number that is used again is enough."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from activities.backends.directory.backend import DirectoryBackend
from activities.backends.directory.layout import Layout
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile

WS = "ws1"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Where things stand."""
    return Layout(tmp_path / "volumes")


@pytest.fixture
async def backend(layout: Layout, record: RecordFile) -> DirectoryBackend:
    """A marked root with volume ``u1`` on it, handed out, with a file."""
    backend = DirectoryBackend(
        layout.root, mover_entry="nowhere:main", walk=change_fingerprint, wait_policy=WaitPolicy(1, 1), preload=()
    )
    await backend.mark("place-1", adopt=False)
    await backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    (layout.volume(WS) / "file").write_text("work")
    return backend


@pytest.fixture
def record(tmp_path: Path) -> RecordFile:
    """A record that has announced ``u1``."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    return record


async def is_strange(backend: DirectoryBackend, record: RecordFile) -> None:
    """Seen without a uid, and neither deleted nor replaced, though the record calls ``u1`` disposable."""
    seen = await backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert seen.uid is None
    record.volume("u1", VolumeState.DELETING)
    await backend.delete(WS, "u1", fence=record.fence, deletion=None)
    with pytest.raises(StorageError) as error:
        await backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    assert error.value.code is ErrorCode.VOLUME_CONFLICT


async def test_mode_of_a_new_volume(backend: DirectoryBackend, layout: Layout) -> None:
    """A home is its owner's alone, whatever the umask."""
    assert layout.volume(WS).stat().st_mode & 0o7777 == 0o700


async def test_replaced_by_a_stranger(backend: DirectoryBackend, record: RecordFile, layout: Layout) -> None:
    """Same name, and on many file systems the same inode number again: not ours."""
    shutil.rmtree(layout.volume(WS))
    layout.volume(WS).mkdir()
    (layout.volume(WS) / "theirs").touch()
    await is_strange(backend, record)
    assert os.listdir(layout.volume(WS)) == ["theirs"]


async def test_replaced_by_a_link(
    backend: DirectoryBackend, record: RecordFile, layout: Layout, tmp_path: Path
) -> None:
    """A link under the name, even to our own folder, is not followed."""
    layout.volume(WS).rename(tmp_path / "moved")
    layout.volume(WS).symlink_to(tmp_path / "moved")
    await is_strange(backend, record)
    assert (tmp_path / "moved/file").read_text() == "work"
    assert layout.volume(WS).is_symlink()


async def test_replaced_by_a_file(backend: DirectoryBackend, record: RecordFile, layout: Layout) -> None:
    """A file under the name is a stranger too."""
    shutil.rmtree(layout.volume(WS))
    layout.volume(WS).write_text("theirs")
    await is_strange(backend, record)
    assert layout.volume(WS).read_text() == "theirs"


@pytest.mark.parametrize("text", [None, "", '{"uid": "u1"}'])
async def test_no_note(backend: DirectoryBackend, record: RecordFile, layout: Layout, text: str | None) -> None:
    """A folder whose note is lost or damaged is not ours any more, and is kept."""
    if text is None:
        layout.note(WS).unlink()
    else:
        layout.note(WS).write_text(text)
    await is_strange(backend, record)
    assert (layout.volume(WS) / "file").read_text() == "work"


async def test_moved_away_and_back(backend: DirectoryBackend, record: RecordFile, layout: Layout) -> None:
    """The uid moves with the folder: somebody who renames it to and fro takes nothing from it."""
    aside = layout.root / "aside"
    layout.volume(WS).rename(aside)
    assert await backend.inspect(WS, fence=record.fence) is None
    aside.rename(layout.volume(WS))
    seen = await backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert seen.uid == "u1"


@pytest.mark.parametrize("sealed", [False, True])
async def test_the_name_was_taken_meanwhile(
    backend: DirectoryBackend, record: RecordFile, layout: Layout, sealed: bool
) -> None:
    """Ours in the trash, an empty folder of somebody under the name: not replaced. Sealed: ours goes, theirs stays."""
    layout.volume(WS).rename(layout.trash(WS))
    layout.volume(WS).mkdir()
    if sealed:
        record.volume("u1", VolumeState.DELETING)
        seen = await backend.inspect(WS, fence=record.fence)
        assert seen is not None
        assert seen.uid is None
        assert not layout.trash(WS).exists()
    else:
        with pytest.raises(StorageError, match="both are kept") as error:
            await backend.inspect(WS, fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert (layout.trash(WS) / "file").read_text() == "work"
    assert layout.volume(WS).is_dir()


async def test_a_stranger_in_the_trash_is_put_back(
    backend: DirectoryBackend, record: RecordFile, layout: Layout
) -> None:
    """What lies in the trash without being ours is not destroyed, whatever the record says of ``u1``."""
    shutil.rmtree(layout.volume(WS))
    layout.trash(WS).mkdir()
    (layout.trash(WS) / "theirs").touch()
    record.volume("u1", VolumeState.DELETING)
    seen = await backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert seen.uid is None
    assert os.listdir(layout.volume(WS)) == ["theirs"]


async def test_no_space(
    backend: DirectoryBackend, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is ``NoSpace``, and the next create finds nothing in its way."""
    record = RecordFile(tmp_path / "other.json", "ws2")
    record.volume("u2", VolumeState.RESTORING)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError) as error:
            await backend.create("ws2", "u2", restored_from=None, spec={}, fence=record.fence)
    assert error.value.code is ErrorCode.NO_SPACE
    assert not layout.volume("ws2").exists()
    made = await backend.create("ws2", "u2", restored_from=None, spec={}, fence=record.fence)
    assert made.uid == "u2"
