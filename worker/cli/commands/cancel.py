"""`cancel WORKSPACE_ID`: stops what runs and undoes it."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.exits import Exit
from worker.cli.output import Output

HELP = "stop a workspace's operation and undo it; prints cancelled or too_late"
ARGUMENTS = (options.WORKSPACE_ID, options.PLACE)


async def run(args: Namespace, output: Output) -> int:
    """Prints the outcome, which the exit status shows, too."""
    from codehub_storage.contracts import CancelOutcome
    from worker.cli.answers import CancelAnswer
    from worker.cli.following import follow
    from worker.cli.session import connect_storage, load_settings

    client = await connect_storage(args, load_settings(args))
    output.known.update(workspace_id=args.workspace_id)
    outcome = await follow(client.cancel(args.workspace_id), lambda: client.progress(args.workspace_id), output)
    output.answer(CancelAnswer(workspace_id=args.workspace_id, outcome=outcome), outcome.value)
    return Exit.DONE if outcome is CancelOutcome.CANCELLED else Exit.TOO_LATE
