"""The stack's children: tied to their parent, known again after a kill, and named when they fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from activities.runtime.linux.tied import tied
from worker.dev.info import Layout
from worker.dev.process import Child, PartFailed, StackError, end_leftover, find_program
from worker.dev.state import StackRuns, StackState, reset, sole_stack, take_turn, usable_ports

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
ROOT = Path(__file__).parents[2]


def child(folder: Path, command: tuple[str, ...] = SLEEPER) -> Child:
    return Child("the part", command, log=folder / "part.log", pid_file=folder / "part.pid")


def is_alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    """Ends when the process does; the suite's own time limit is the only one."""
    while is_alive(pid):
        time.sleep(0.01)


def test_child_runs_until_stopped(tmp_path: Path) -> None:
    """Its output is in the log, its pid file stands while it runs, and it can be started anew."""
    part = child(tmp_path)
    for _ in range(2):
        part.start()
        part.wait_until(lambda: "up" in (tmp_path / "part.log").read_text(), timeout=60)
        pid = part.pid
        assert pid is not None
        assert (tmp_path / "part.pid").read_text().startswith(f"{pid} ")
        part.stop()
        assert part.pid is None
        assert not is_alive(pid)
        assert not (tmp_path / "part.pid").exists()


def test_one_that_ends_is_named_with_its_log(tmp_path: Path) -> None:
    """A part that ends while it starts is an error that names it, its log, and shows why."""
    part = child(tmp_path, (sys.executable, "-c", "raise SystemExit('no disk')"))
    part.start()
    with pytest.raises(PartFailed) as caught:
        part.wait_until(lambda: False, timeout=60)
    assert str(caught.value).startswith(f"the part ended while starting; its log is {tmp_path / 'part.log'}")
    assert "no disk" in str(caught.value)
    part.stop()


def test_one_that_ignores_the_end_is_killed(tmp_path: Path) -> None:
    """SIGKILL after the grace."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    part = child(tmp_path, (sys.executable, "-c", stubborn))
    part.start()
    part.wait_until(lambda: (tmp_path / "part.log").read_text() != "", timeout=60)
    part.stop(grace=0.1)
    assert part.pid is None


def test_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the parent, which nothing can catch, ends its tied child."""
    program = (
        "import subprocess, sys, time\n"
        "from activities.runtime.linux.tied import tied\n"
        "child = subprocess.Popen(tied(['sleep', '600']), stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.communicate()
    wait_until_gone(pid)


def test_child_of_a_parent_that_is_gone_does_not_start(tmp_path: Path) -> None:
    """The parent may die before the tie is made: the command is then not run."""
    proof = tmp_path / "ran"
    command = tied(["touch", str(proof)])
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not proof.exists()


def test_leftover_is_ended(tmp_path: Path) -> None:
    """The process that a pid file names is ended before the next one starts."""
    first = child(tmp_path)
    first.start()
    left = first.pid
    assert left is not None
    second = child(tmp_path)
    second.start()
    assert not is_alive(left)
    assert second.pid is not None
    second.kill()
    first.kill()


def test_another_process_of_that_pid_is_spared(tmp_path: Path) -> None:
    """Pids are used again: one whose start time differs is somebody else's."""
    other = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL)
    pid_file = tmp_path / "part.pid"
    for text in (f"{other.pid} 1", "rubbish", ""):
        pid_file.write_text(text)
        end_leftover(pid_file)
        assert not pid_file.exists()
    assert other.poll() is None
    other.send_signal(signal.SIGKILL)
    other.wait()


def test_missing_program_names_its_package() -> None:
    """What to install is part of the message."""
    with pytest.raises(PartFailed, match="no-such-package"):
        find_program("no-such-program", "no-such-package")


def test_second_stack_on_a_folder_is_refused(tmp_path: Path) -> None:
    """It says who holds the folder; afterwards the folder is free again."""
    lock = tmp_path / "dev.lock"
    with sole_stack(lock), pytest.raises(StackRuns, match=f"pid {os.getpid()}"), sole_stack(lock):
        pass
    with sole_stack(lock):
        pass


def test_ports_are_kept_where_free(tmp_path: Path) -> None:
    """A later start has the same ports and credentials, except for a port that somebody else took meanwhile."""
    layout = Layout(tmp_path)
    first = StackState.load(layout)
    assert layout.state.stat().st_mode & 0o777 == 0o600
    assert StackState.load(layout) == first
    taken = first.store_ports[0]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier stack may linger on it
        other.bind(("127.0.0.1", taken))
        other.listen()
        wanted = (*first.temporal_ports, *first.store_ports)
        usable = usable_ports(wanted, seconds=0)
    assert taken not in usable
    assert len(set(usable)) == len(usable)
    assert [port for port in usable if port in wanted] == [port for port in wanted if port != taken]


def test_damaged_state_is_an_error(tmp_path: Path) -> None:
    """It is named, and not silently replaced by other credentials."""
    layout = Layout(tmp_path)
    layout.state.write_text("{")
    with pytest.raises(StackError, match=r"stack\.json"):
        StackState.load(layout)


def test_reset_of_a_folder_that_no_stack_made(tmp_path: Path) -> None:
    """Somebody named a folder of theirs: nothing in it is removed. An empty one is fine."""
    layout = Layout(tmp_path)
    assert reset(layout) is False
    layout.logs.mkdir()
    (layout.logs / "mine.log").write_text("x")
    with pytest.raises(StackError, match="not made by a stack"):
        reset(layout)
    assert (layout.logs / "mine.log").exists()


def test_reset_removes_what_a_stack_left(tmp_path: Path) -> None:
    """All of it, folders of mode 0 included, and nothing else."""
    layout = Layout(tmp_path)
    (layout.volumes / "ws_ws1_home" / "sealed").mkdir(parents=True)
    (layout.volumes / "ws_ws1_home" / "sealed").chmod(0)
    layout.temporal_db.write_text("")
    layout.temporal_db.with_name("temporal.db-wal").write_text("")
    layout.state.write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    assert reset(layout) is True
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_ports_are_chosen_in_turns() -> None:
    """The second waits until the first is done, and no longer than it has patience."""
    with ThreadPoolExecutor() as threads:
        with closing(take_turn()) as first:
            assert first.getsockname()
            waiting = threads.submit(take_turn)
            with closing(take_turn(seconds=0.2)) as impatient:
                assert not impatient.getsockname()
            assert not waiting.done()
        with closing(waiting.result(10)) as second:
            assert second.getsockname()
