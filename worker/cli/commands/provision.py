"""`provision WORKSPACE_ID`: a new, empty volume."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.output import Output

HELP = "make a new, empty volume; prints its home_store_key"
ARGUMENTS = (options.WORKSPACE_ID, *options.NEW_VOLUME, options.ACCEPT_LOSS, *options.OPERATION)


async def run(args: Namespace, output: Output) -> int:
    """Prints the ``home_store_key``."""
    from codehub_storage.contracts import Operation
    from worker.cli.following import finish
    from worker.cli.session import connect_for, load_settings

    client = await connect_for(Operation.PROVISION, args, load_settings(args), output)
    handle = await client.start_provision(
        args.workspace_id,
        size_bytes=args.size_bytes,
        storage_class=args.storage_class,
        accept_loss=args.accept_loss,
    )
    return await finish(handle, args, output, key="home_store_key")
