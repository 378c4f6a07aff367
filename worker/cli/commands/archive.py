"""`archive HOME_STORE_KEY`: volume to proven archive, then the volume is deleted."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.output import Output

HELP = "volume to proven archive, then delete the volume; prints the archive_key"
ARGUMENTS = (options.HOME_STORE_KEY, *options.OLD_VOLUME, *options.OPERATION)


async def run(args: Namespace, output: Output) -> int:
    """Prints the ``archive_key``."""
    from codehub_storage.contracts import Operation
    from worker.cli.following import finish
    from worker.cli.naming import home_store_key
    from worker.cli.session import connect_for, load_settings

    settings = load_settings(args)
    key = home_store_key(args.home_store_key, settings.backend)
    client = await connect_for(Operation.ARCHIVE, args, settings, output)
    handle = await client.start_archive(
        key, expected_volume_uid=args.expected_volume_uid, remove_stopped=args.remove_stopped
    )
    return await finish(handle, args, output, key="archive_key")
