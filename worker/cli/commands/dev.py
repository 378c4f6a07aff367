"""`dev [--reset]`: the whole service in one directory, until a signal."""

from __future__ import annotations

from argparse import Namespace

from worker.cli.exits import Exit
from worker.cli.options import argument
from worker.cli.output import Output

HELP = "run Temporal, SeaweedFS and a worker in one folder, until Ctrl-C"
ARGUMENTS = (
    argument("--reset", action="store_true", help="begin with nothing: remove volumes and archives of this stack"),
)


async def run(args: Namespace, output: Output) -> int:
    """A line with the word `ready` and one with what to type next, then silence until a signal."""
    from codehub_storage.errors import ErrorCode, StorageError
    from worker.cli.session import load_settings
    from worker.dev import run
    from worker.dev.process import StackError

    folder = load_settings(args).data_dir
    try:
        await run.run(folder, reset=args.reset)
    except StackError as error:
        first, *rest = str(error).splitlines()
        for line in rest:
            output.note(f"  {line}")
        raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, first, hint=f"The logs are in {folder}.") from error
    return Exit.DONE
