"""The program as a process: whatever ends it is a typed error, and it is gone behind its block."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane import archiver as running_it
from activities.dataplane.archiver import Archiver, ArchiverDied, check_version, program, running
from activities.dataplane.feeding import feed_whole
from activities.dataplane.fingerprint import change_fingerprint
from activities.dataplane.plan import PlanLimits
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, plan_of
from worker.version import service_version

Argument = str | os.PathLike[str]
Standing = Callable[[str], None]


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    """Puts a program of these lines in place of the archiver."""
    file = tmp_path / "standin"

    def put(body: str) -> None:
        file.write_text(f"#!{sys.executable}\nimport json, os, signal, sys, time\nout = sys.stdout.buffer\n{body}\n")
        file.chmod(0o755)
        monkeypatch.setattr(running_it, "program", lambda: str(file))

    return put


def pid_of(archiver: Archiver) -> int:
    return archiver._process.pid


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def end_of(command: str, *arguments: Argument, kill_at: int | None = None) -> None:
    """Listen to a program until it ends, or is killed at a frame. It is gone."""
    pid = frames = 0
    try:
        async with running(command, *arguments) as archiver:
            pid = pid_of(archiver)
            if kill_at == 0:
                os.kill(pid, 9)
            async for _ in archiver.frames():
                frames += 1
                if frames == kill_at:
                    os.kill(pid, 9)
    finally:
        assert not is_there(pid)


async def outcome(command: str, *arguments: Argument, kill_at: int | None = None) -> StorageError | None:
    """The error that it ends with."""
    try:
        await end_of(command, *arguments, kill_at=kill_at)
    except StorageError as error:
        return error
    return None


async def failure(command: str = "plan", *arguments: Argument, kill_at: int | None = None) -> StorageError:
    """It does end with one."""
    error = await outcome(command, *arguments, kill_at=kill_at)
    assert error is not None
    return error


KILL = "out.flush(); os.kill(os.getpid(), signal.SIGKILL)"
KILLED_AT = {
    "start": "",
    "progress": "out.write(b'{\"progress\": 1}\\n')",
    "within a line": "out.write(b'{\"progr')",
    "within a payload": 'out.write(b\'{"data": 1, "bytes": 100}\\nhalf\')',
    "behind a payload": 'out.write(b\'{"data": 1, "bytes": 4}\\nfull\')',
    "packed": 'out.write(b\'{"packed": {"number": 1}}\\n\')',
}


@pytest.mark.parametrize("where", KILLED_AT)
async def test_a_kill_at_any_frame(standin: Standing, where: str) -> None:
    """``MoverFailed`` that says how, whatever it was in the middle of."""
    standin(f"{KILLED_AT[where]}\n{KILL}")
    error = await failure()
    assert (error.code, "SIGKILL" in error.message) == (ErrorCode.MOVER_FAILED, True)
    assert "memory" in (error.hint or "")


NO_FRAMES = {
    "a payload beyond all": "print(json.dumps({'data': 1, 'bytes': 10**12}), flush=True)",
    "less than none": "print(json.dumps({'data': 1, 'bytes': -1}), flush=True)",
    "no number": "print(json.dumps({'data': 1, 'bytes': 'all'}), flush=True)",
    "no JSON": "print('hello', flush=True)",
    "no object": "print('[1]', flush=True)",
}


@pytest.mark.parametrize("what", NO_FRAMES)
async def test_what_is_no_frame_is_the_end_of_it(standin: Standing, what: str) -> None:
    """Whoever reads archives may say anything, and this side has the credentials: nothing is waited for or kept."""
    standin(f"{NO_FRAMES[what]}\ntime.sleep(600)")
    assert isinstance(await failure(), ArchiverDied)


async def test_what_it_cannot_explain_is_a_death(standin: Standing) -> None:
    """A panic, say: it tells where, and a mover ends with it as it does after a kill."""
    error = {"error": {"code": "MoverFailed", "message": "the archiver broke at x.rs:1"}}
    standin(f"print({json.dumps(error)!r}, file=sys.stderr)\nsys.exit(3)")
    died = await failure()
    assert isinstance(died, ArchiverDied)
    assert "x.rs:1" in died.message


async def test_a_worker_asks_again_where_it_died(standin: Standing, tmp_path: Path) -> None:
    """No mover ends there, and a walk may be repeated: it passes."""
    standin(KILL)
    with pytest.raises(StorageError) as caught:
        await change_fingerprint(tmp_path)
    assert (caught.value.code, caught.value.transient) == (ErrorCode.BACKEND_UNAVAILABLE, True)


async def test_pipes_of_the_usual_size_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An ordinary user may enlarge 64 of them, and then is told EPERM."""
    start = asyncio.create_subprocess_exec

    async def refusing(*arguments: Any, **options: Any) -> Any:
        if "pipesize" in options:
            raise PermissionError(errno.EPERM, "F_SETPIPE_SZ")
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refusing)
    assert (await change_fingerprint(tmp_path)).startswith("b3:")


async def test_it_gets_on_behind_the_last_byte(standin: Standing) -> None:
    """All is read, and it still works: that is told, so that the step does not look as if it hung."""
    standin("sys.stdin.buffer.read()\nfor n in range(3): print(json.dumps({'progress': n}), flush=True)")
    store = MemoryStore(min_part_bytes=0)
    info = await store.put_if("key", b"x" * 9000, etag=None)
    told: list[int] = []
    async with running("foreign") as archiver:
        await feed_whole(archiver, store, info, said=lambda line: None, progress=told.append)
    assert told[-3:] == [9000] * 3
    assert len(told) > 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_end_in_order_is_its_parents_affair(number: signal.Signals) -> None:
    """They come to all of a terminal, or of a unit; who started it ends it, when it is done with it."""
    async with running("verify", "--threads", "1") as archiver:
        frames = archiver.frames()
        assert (await anext(frames)).line == {"want": 1}
        os.kill(pid_of(archiver), number)
        archiver.end_input()
        assert [frame.line async for frame in frames] == [{"statement": None}]


@pytest.mark.parametrize("command", ["plan", "pack"])
async def test_a_kill_of_the_program_itself(tmp_path: Path, command: str) -> None:
    """The first frame was heard, then it dies."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(3000):
        (root / f"{number}").write_bytes(os.urandom(8000))
    plan = await plan_of(root, TINY)
    out = tmp_path / "out"
    out.mkdir()
    more: list[Argument] = ["--out", out]
    if command == "pack":
        more = ["--plan", plan.folder, "--from", "1", "--threads", "2", "--memory", "33554432"]
    error = await failure(command, "--root", root, *more, kill_at=0 if command == "plan" else 5)
    assert (error.code, "SIGKILL" in error.message) == (ErrorCode.MOVER_FAILED, True)


async def test_memory_that_ends(standin: Standing, tmp_path: Path) -> None:
    """The error says it: the program's own allocator gives up. Which limit that takes depends on how it was built."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / f"{number}").write_bytes(os.urandom(1 << 20))
    plan = await plan_of(root, PlanLimits())
    arguments: list[Argument] = [
        "--root",
        root,
        "--plan",
        plan.folder,
        "--from",
        "1",
        "--threads",
        "2",
        "--memory",
        "33554432",
    ]
    own, said = program(), list[str]()
    for mib in range(7, 32):
        limits = f"limit(resource.RLIMIT_CORE, (0, 0)); limit(resource.RLIMIT_AS, ({mib << 20}, {mib << 20}))"
        standin(f"import resource; limit = resource.setrlimit; {limits}; os.execve({own!r}, sys.argv, {{}})")
        if (error := await outcome("pack", *arguments)) is None:
            break
        assert error.code is ErrorCode.MOVER_FAILED
        said.append(error.message)
    assert any("SIGABRT: memory allocation of" in each for each in said), said


ERROR = {"code": "NoSpace", "message": "full", "hint": "make room", "details": {"free": 1}}
FAIL = f"print({json.dumps({'error': ERROR})!r}, file=sys.stderr)\nsys.exit(3)"


async def test_its_own_error(standin: Standing) -> None:
    """As it says, with hint and details; also behind other words."""
    standin(f"print('a warning', file=sys.stderr)\n{FAIL}")
    error = await failure()
    assert (error.code, error.message, error.hint) == (ErrorCode.NO_SPACE, "full", "make room")
    assert error.details == {"free": 1}


@pytest.mark.parametrize("body", ["sys.exit(3)", "print('{}', file=sys.stderr); sys.exit(3)", "sys.exit('oh no')"])
async def test_an_end_without_a_word(standin: Standing, body: str) -> None:
    """No error that can be read is one of the mover."""
    standin(body)
    assert (await failure()).code is ErrorCode.MOVER_FAILED


async def test_progress_is_told_as_it_comes(standin: Standing) -> None:
    """And the last answer counts."""
    standin("""for number in range(1, 4): print(json.dumps({'progress': number, 'plan': -number}))""")
    told: list[int] = []
    async with running("plan") as archiver:
        assert await archiver.answer("plan", progress=told.append) == -3
    assert told == [1, 2, 3]


async def test_an_end_without_an_answer(standin: Standing) -> None:
    """It says that all is well, and nothing else."""
    with pytest.raises(StorageError) as caught:
        await told("print('{}')", standin)
    assert caught.value.code is ErrorCode.MOVER_FAILED


@pytest.mark.parametrize("words", ["not json\\n", "[1]\\n", '{"data": 1, "bytes": 100}\\nshort', "x" * (300 << 10)])
async def test_words_that_are_no_frame(standin: Standing, words: str) -> None:
    """A program that speaks otherwise is one that failed, even if it ends well."""
    standin(f"out.write(b'{words}')")
    assert (await failure()).code is ErrorCode.MOVER_FAILED


async def test_a_flood_of_warnings_holds_nothing_up(standin: Standing) -> None:
    """The last line counts, and the rest is not kept."""
    standin(f"print('w' * (8 << 20), file=sys.stderr)\n{FAIL}")
    async with asyncio.timeout(30):
        assert (await failure()).code is ErrorCode.NO_SPACE


async def test_a_cancel_kills_and_waits(standin: Standing) -> None:
    """It may have been writing, so it is gone before anybody else goes on."""
    standin("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('{}', flush=True)\ntime.sleep(600)")
    pids: asyncio.Queue[int] = asyncio.Queue()

    async def wait_for_more() -> None:
        async with running("plan") as archiver:
            async for _ in archiver.frames():
                pids.put_nowait(pid_of(archiver))

    task = asyncio.create_task(wait_for_more())
    pid = await pids.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_there(pid)


async def test_it_stops_reading(standin: Standing) -> None:
    """Its own error comes before that of the pipe; an end that looks well is none."""
    for body, code in ((f"os.close(0)\n{FAIL}", ErrorCode.NO_SPACE), ("os.close(0)", ErrorCode.MOVER_FAILED)):
        standin(body)
        with pytest.raises(StorageError) as caught:
            await flood()
        assert caught.value.code is code


async def flood() -> None:
    """Send for as long as it takes."""
    async with running("verify") as archiver:
        while True:
            await archiver.send({"data": 1}, bytes(1 << 20))


async def told(body: str, standin: Standing, **options: Any) -> Any:
    standin(body)
    async with running("plan", **options) as archiver:
        return await archiver.answer("found")


async def test_it_gets_no_environment(standin: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither credentials nor a proxy; what remains is Python's own."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = await told("print(json.dumps({'found': dict(os.environ)}))", standin)
    assert set(found) <= {"LC_CTYPE"}


async def test_it_inherits_the_lock_and_nothing_else(standin: Standing, tmp_path: Path) -> None:
    """The lock of the volume is held as long as anything may write. [B1]"""
    links = "[os.readlink(f'/proc/self/fd/{fd}') for fd in range(3, 100) if os.path.exists(f'/proc/self/fd/{fd}')]"
    look = f"print(json.dumps({{'found': {links}}}))"
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(other, True)
    try:
        assert [name for name in await told(look, standin, lock_fd=lock) if str(tmp_path) in name] == [
            str(tmp_path / "lock")
        ]
        assert [name for name in await told(look, standin) if str(tmp_path) in name] == []
    finally:
        os.close(lock)
        os.close(other)


async def test_it_is_tied_to_its_parent(standin: Standing) -> None:
    """By id, for the program to see that it came too late. [B2]"""
    found = await told("print(json.dumps({'found': sys.argv[1:]}))", standin, lock_fd=0)
    assert found == ["plan", "--parent", str(os.getpid()), "--wall", "available", "--lock-fd", "0"]


def test_a_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the interpreter, else on the path, else it is said what to do."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(StorageError) as caught:
        program()
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert caught.value.hint
    for folder in (tmp_path / "bin", tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "codehub-archive").touch(mode=0o755)
        assert program() == str(folder / "codehub-archive")


async def test_the_version_is_ours() -> None:
    """The built program is of the service's version."""
    await check_version(service_version())


async def test_a_kill_says_nothing_of_the_version(standin: Standing) -> None:
    """Else an end of memory while a mover starts would fail the operation for good."""
    standin(KILL)
    with pytest.raises(ArchiverDied, match="--version was killed by SIGKILL"):
        await check_version(service_version())


@pytest.mark.parametrize("body", ["print('codehub-archive 0.0.9 (x)')", "sys.exit(1)"])
async def test_another_version(standin: Standing, body: str) -> None:
    """It may speak otherwise, so nothing is begun with it."""
    standin(body)
    with pytest.raises(StorageError) as caught:
        await check_version(service_version())
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert caught.value.hint
