"""`restore ARCHIVE_KEY`: archive to new volume; the archive stays."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.output import Output

HELP = "archive to new volume; prints its home_store_key"
ARGUMENTS = (
    *(options.ARCHIVE_KEY, options.ARCHIVE_ID, *options.NEW_VOLUME, options.ACCEPT_LOSS, options.OLD_PLACE_IS_DEAD),
    *options.OPERATION,
)


async def run(args: Namespace, output: Output) -> int:
    """Prints the ``home_store_key``."""
    from codehub_storage.contracts import Operation
    from worker.cli.following import finish
    from worker.cli.naming import archive_key
    from worker.cli.session import connect_for, load_settings

    key = archive_key(args.archive_key)
    client = await connect_for(Operation.RESTORE, args, load_settings(args), output)
    handle = await client.start_restore(
        key,
        archive_id=args.archive_id,
        size_bytes=args.size_bytes,
        storage_class=args.storage_class,
        accept_loss=args.accept_loss,
        old_place_is_dead=args.old_place_is_dead,
    )
    return await finish(handle, args, output, key="home_store_key")
