"""`purge WORKSPACE_ID`, or `purge [--volume KEY] [--archive KEY]`: what is named is removed."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.options import argument
from worker.cli.output import Output

HELP = "remove volume, archive or both; missing is fine, what is not named stays"
ARGUMENTS = (
    argument("workspace_id", metavar="WORKSPACE_ID", nargs="?", help="its volume and its archive"),
    argument("--volume", metavar="KEY", help="the home_store_key, or the workspace whose volume it is"),
    argument("--archive", metavar="KEY", help="the archive_key, or the workspace whose archive it is"),
    *(*options.OLD_VOLUME, options.ACCEPT_LOSS, options.OLD_PLACE_IS_DEAD, *options.OPERATION),
)


async def run(args: Namespace, output: Output) -> int:
    """Prints what was removed."""
    from codehub_storage.contracts import Operation
    from worker.cli.following import finish
    from worker.cli.naming import keys_to_purge
    from worker.cli.session import connect_for, load_settings

    settings = load_settings(args)
    volume, archive = keys_to_purge(args.workspace_id, args.volume, args.archive, settings.backend)
    client = await connect_for(Operation.PURGE, args, settings, output)
    handle = await client.start_purge(
        volume,
        archive,
        expected_volume_uid=args.expected_volume_uid,
        remove_stopped=args.remove_stopped,
        accept_loss=args.accept_loss,
        old_place_is_dead=args.old_place_is_dead,
    )
    return await finish(handle, args, output)
