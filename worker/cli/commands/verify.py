"""`verify ARCHIVE_KEY`: reads an archive whole and compares it with its proof, or makes the proof that is missing."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from worker.cli import options
from worker.cli.exits import Exit
from worker.cli.format import size
from worker.cli.options import argument
from worker.cli.output import Output

if TYPE_CHECKING:
    from worker.cli.answers import VerifyAnswer

HELP = "read an archive whole and compare every byte with its proof"
ARGUMENTS = (
    options.ARCHIVE_KEY,
    options.ARCHIVE_ID,
    argument(
        "--write-manifest", action="store_true", help="where the proof is missing: write it, if the archive is whole"
    ),
)


async def run(args: Namespace, output: Output) -> int:
    """Prints what was found."""
    from activities.objectstore.base import PreconditionFailed
    from codehub_storage.client import StorageClient
    from codehub_storage.errors import ErrorCode, StorageError
    from worker.cli.bucket import open_bucket
    from worker.cli.naming import archive_key
    from worker.cli.progress import ProgressState
    from worker.cli.proving import prove
    from worker.cli.session import connect_temporal, load_settings
    from worker.cli.verifying import check, proven

    def show(seen: int, total: int) -> None:
        output.progress(ProgressState("verify", seen, total))

    key = archive_key(args.archive_key)
    if args.write_manifest and args.archive_id:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            "--write-manifest proves the current archive only",
            hint="Leave --archive-id out; older versions have their own manifests.",
        )
    settings = load_settings(args)
    output.known.update(archive_key=key)
    async with open_bucket(settings) as store:
        try:
            if args.write_manifest:
                client = StorageClient(await connect_temporal(settings), place=settings.place)
                manifest, info, written = await prove(store, client, key, progress=show)
                answer = proven(info, manifest, written=written)
            else:
                answer = await check(store, key, args.archive_id, show)
        except PreconditionFailed as error:
            raise StorageError(
                ErrorCode.NOT_YOURS,
                f"{key} was replaced while it was read",
                hint="Something newer is there; verify again.",
            ) from error
        finally:
            output.clear_progress()
    output.answer(answer, _as_text(answer))
    return Exit.DONE


def _as_text(found: VerifyAnswer) -> str:
    whole = f"{found.archive_key} is whole: {found.files:,} files, {size(found.raw_bytes)}, {found.archive_id}"
    if not found.proven:
        return f"{whole}; made elsewhere, so nothing says what it should hold"
    return f"{whole}; its manifest was written" if found.manifest_written else whole
