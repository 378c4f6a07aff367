"""Work in processes beside a mover: what comes back, how it is stopped, and who outlives whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.dataplane.child import FRAME, Kind, read_answer
from activities.dataplane.confine import confine_process, landlock_abi
from activities.dataplane.entries import Content
from activities.dataplane.pool import ChildPool, _Child
from activities.dataplane.report import RestoreReport
from activities.dataplane.running import InThreads, Port, Runner
from codehub_storage.errors import ErrorCode, StorageError

_BIG = 700_001


@pytest.fixture(params=["threads", "processes"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Both kinds, which are to do the same."""
    if request.param == "threads":
        yield InThreads()
    else:
        pool = ChildPool.fork(1)
        yield pool
        pool.close()


class Source:
    """Pieces; then it stalls, fails or ends. ``closed`` once it was told that it is over."""

    def __init__(self, *pieces: bytes, end: str = "", error: Exception | None = None) -> None:
        self.pieces, self.end, self.error = pieces, end, error
        self.closed = False
        self.given = 0
        self.stalled = asyncio.Event()

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            if self.end == "stall":
                self.stalled.set()
                await asyncio.sleep(1000)
        finally:
            self.closed = True


def count(port: Port, start: int) -> RestoreReport:
    """Work: all bytes, and the sum of their values."""
    report = RestoreReport(files=start, skipped=Counter(seen=1))
    for chunk in port:
        port.stop.check()
        report.bytes += len(chunk)
        report.skipped["sum"] += sum(bytes(chunk))
    return report


def double(port: Port) -> Content:
    """Work that sends each piece out twice."""
    for chunk in port:
        port.emit(bytes(chunk) * 2)
    return Content(1, 2, 3)


def refuse(port: Port) -> None:
    """Work that fails at the first piece."""
    for chunk in port:
        raise StorageError(ErrorCode.NO_SPACE, f"full at {len(chunk)}", hint="buy", details={"path": "a"})


def stumble(port: Port) -> None:
    """Work with a fault of its own."""
    raise LookupError("no such luck")


def toil(port: Port) -> None:
    """Work without an end, that asks now and then."""
    while True:
        port.stop.check()
        time.sleep(0.001)


def dawdle(port: Port) -> None:
    """Work that is slower than its source."""
    for _ in port:
        time.sleep(0.2)


def slumber(port: Port) -> None:
    """Work that asks for nothing, for longer than anybody waits here."""
    time.sleep(60)


def who(port: Port) -> int:
    """Work that tells its process."""
    return os.getpid()


def leak(port: Port) -> Path:
    """Work that answers what none may."""
    return Path("/etc")


def write_outside(port: Port, inside: str, outside: str) -> int:
    """Work that confines itself, then tries both; how many files it could make."""
    confine_process([Path(inside)])
    made = 0
    for place in (inside, outside):
        try:
            Path(place, "made").write_bytes(b"")
            made += 1
        except PermissionError:
            continue
    return made


async def test_what_goes_in_and_comes_out(runner: Runner) -> None:
    """Pieces of any length arrive in order and are counted; the answer and what was sent out come back."""
    source, taken, emitted = Source(b"a" * _BIG, b"b", b"c" * _BIG), list[int](), list[bytes | bytearray]()
    report = await runner.run(count, 7, source=source.stream(), on_chunk=taken.append)
    assert (report.files, report.bytes, taken) == (7, 2 * _BIG + 1, [_BIG, 1, _BIG])
    assert report.skipped == Counter(seen=1, sum=_BIG * (97 + 99) + 98)
    assert source.closed
    pieces = [bytes([number]) * (number * 1000) for number in range(1, 200)]
    assert await runner.run(double, source=Source(*pieces).stream(), emitted=emitted) == Content(1, 2, 3)
    assert b"".join(emitted) == b"".join(piece * 2 for piece in pieces)


async def test_errors_come_back_and_the_next_call_is_sound(runner: Runner) -> None:
    """Typed ones whole, with the source closed and not read to its end; the rest of it disturbs nobody."""
    source = Source(*[b"x" * _BIG] * 50)
    with pytest.raises(StorageError) as error:
        await runner.run(refuse, source=source.stream())
    assert (error.value.code, error.value.hint) == (ErrorCode.NO_SPACE, "buy")
    assert (error.value.message, error.value.details) == (f"full at {_BIG}", {"path": "a"})
    assert source.closed
    assert source.given < 50
    with pytest.raises((LookupError, RuntimeError), match="no such luck"):
        await runner.run(stumble)
    assert (await runner.run(count, 0, source=Source(b"abc").stream())).bytes == 3


async def test_an_error_of_the_source(runner: Runner) -> None:
    """Is the error of the call, as it is."""
    with pytest.raises(KeyError, match="gone"):
        await runner.run(count, 0, source=Source(b"abc", error=KeyError("gone")).stream())
    assert (await runner.run(count, 0, source=Source(b"abc").stream())).bytes == 3


async def test_cancelled_while_it_waits_for_bytes(runner: Runner) -> None:
    """It ends, its source is closed, and nothing of it is left in the next call."""
    source = Source(b"x" * _BIG, end="stall")
    task = asyncio.create_task(runner.run(count, 0, source=source.stream()))
    await source.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
    assert (await runner.run(count, 0, source=Source(b"abc").stream())).bytes == 3


async def test_cancelled_while_it_works(runner: Runner) -> None:
    """Twice, even: the call is over when the work is."""
    task = asyncio.create_task(runner.run(toil))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert (await runner.run(count, 0, source=Source(b"abc").stream())).bytes == 3


async def test_cancelled_amid_a_piece(pool: ChildPool) -> None:
    """The socket is full while a piece is on its way: what is left of it goes first, then the stop."""
    source = Source(*[b"x" * (8 << 20)] * 10)
    task = asyncio.create_task(pool.run(dawdle, source=source.stream()))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert source.given < 10
    assert (await pool.run(count, 0, source=Source(b"abc").stream())).bytes == 3


async def test_one_end_only() -> None:
    """Cut off while the end of its source waits for room, a call has ended: a second end would be the next call's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    child = _Child(0, ours, lambda: None)
    child._has_ended = False
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += ours.send(b"x" * 4096)
    answer = asyncio.get_running_loop().create_future()
    feeding = asyncio.create_task(child._feed(Source().stream(), None, answer))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    answer.set_result(None)
    await feeding
    ending = asyncio.create_task(child._end(Kind.STOP, answer))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    theirs.recv(filled, socket.MSG_WAITALL)
    await ending
    assert theirs.recv(1000) == FRAME.pack(Kind.END, 0)
    ours.close()
    theirs.close()


async def test_a_child_that_dies(tmp_path: Path) -> None:
    """Out of memory, say: the work fails, whoever minds is told, and so does all that comes after."""
    told = list[int]()
    pool = ChildPool.fork(1, on_loss=lambda: told.append(1))
    try:
        pid = await pool.run(who)
        task = asyncio.create_task(pool.run(toil))
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        for call in (task, pool.run(who)):
            with pytest.raises(StorageError) as error:
                await call
            assert error.value.code is ErrorCode.MOVER_FAILED
        assert told
    finally:
        pool.close()


async def test_answers_of_other_kinds_are_refused(pool: ChildPool) -> None:
    """Whoever took over a child by the bytes that it reads has no way up: nothing is built of what it names."""
    with pytest.raises(RuntimeError, match=r"pathlib\.[\w.]*Path"):  # its module has another name from Python 3.13 on
        await pool.run(leak)
    with pytest.raises(RuntimeError, match="may not"):
        read_answer(Kind.RESULT, b"\x80\x05 no pickle")


async def test_signals_are_for_the_parent(pool: ChildPool) -> None:
    """Ctrl-C goes to the whole group, SIGTERM perhaps: the parent still hands back what it does."""
    pid = await pool.run(who)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert await pool.run(who) == pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_children_end_with_their_parent() -> None:
    """Killed, it can tell nobody; the kernel does, also to those that are at work and look at nothing else."""
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        pool = ChildPool.fork(2)
        os.write(write, b" ".join(b"%d" % pid for pid in pool.pids))
        asyncio.run(pool.run(slumber))
        os._exit(0)
    children = [int(pid) for pid in os.read(read, 100).split()]
    time.sleep(0.3)  # until one is at work
    assert all(map(is_alive, children))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_alive, children))
    os.close(read)
    os.close(write)


def test_closed_children_are_gone() -> None:
    """No process and no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    pool = ChildPool.fork(3)
    pids = pool.pids
    pool.close()
    assert not any(map(is_alive, pids))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
async def test_a_confined_child(pool: ChildPool, tmp_path: Path) -> None:
    """It writes below one folder, for good; one that is to write below another is refused."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    assert await pool.run(write_outside, str(inside), str(outside)) == 1
    with pytest.raises(RuntimeError, match="confined to"):
        await pool.run(write_outside, str(outside), str(inside))
    assert not list(outside.iterdir())
