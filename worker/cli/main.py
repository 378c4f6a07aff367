"""`codehub-storage`: from the command line to a command, and from its end to an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from worker.cli.exits import Exit, exit_of
from worker.cli.output import Output
from worker.cli.parser import UsageError, build_parser


def main() -> NoReturn:
    """The program."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 128 + signal.SIGPIPE
    os._exit(status)  # the SDK's threads can abort a process in the interpreter's teardown


def run(argv: Sequence[str], stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run one command line; returns the exit status."""
    output = Output(as_json="--json" in argv, stdout=stdout or sys.stdout, stderr=stderr or sys.stderr)
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as asked_for_help:
        return int(asked_for_help.code or 0)
    except UsageError as error:
        return _usage(error, output)
    return _run(args, output)


def _run(args: Namespace, output: Output) -> int:
    from codehub_storage.errors import StorageError

    logging.getLogger("codehub_storage").addHandler(logging.NullHandler())  # `following` prints it, on its own line
    signals: list[int] = []
    try:
        return asyncio.run(interruptible(args.run(args, output), signals))
    except StorageError as error:
        output.failure(error)
        return exit_of(error)
    except (asyncio.CancelledError, KeyboardInterrupt):
        output.interrupted()
        return 128 + (signals[0] if signals else signal.SIGINT)
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        traceback.print_exc()
        output.failure(StorageError.from_type(type(error).__name__, str(error), hint="A fault of this program."))
        return Exit.BUG


async def interruptible(work: Coroutine[Any, Any, int], signals: list[int]) -> int:
    """Run a command; SIGINT and SIGTERM cancel it. Those that end in an order of their own take them over."""
    task = asyncio.current_task()
    assert task is not None

    def interrupt(number: int) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    return await work


def _usage(error: UsageError, output: Output) -> int:
    from codehub_storage.errors import ErrorCode, StorageError

    output.failure(StorageError(ErrorCode.INVALID_INPUT, str(error), hint=error.hint))
    return Exit.USAGE


if __name__ == "__main__":
    main()
