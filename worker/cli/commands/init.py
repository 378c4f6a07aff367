"""`init [--adopt]`: run once for a bucket and a place, before any worker."""

from __future__ import annotations

from argparse import Namespace

from worker.cli.exits import Exit
from worker.cli.options import argument
from worker.cli.output import Output

HELP = "mark bucket and volume place as belonging together, once"
ARGUMENTS = (
    argument(
        "--adopt", action="store_true", help="although something is in them already, or the bucket is a copy of another"
    ),
)
_AFTER_COPY = (
    "; epoch {}: it is a copy of a bucket that has the same identity, and no worker may write to that one any more"
)


async def run(args: Namespace, output: Output) -> int:
    """Prints what was marked, now or before."""
    from worker.cli.answers import CapabilitiesAnswer, InitAnswer
    from worker.cli.session import load_settings
    from worker.wiring import initialize

    settings = load_settings(args)
    identity = await initialize(settings, adopt=args.adopt)
    answer = InitAnswer(
        bucket=settings.bucket,
        place=settings.place,
        store_id=identity.store_id,
        place_identity=identity.places[settings.place],
        capabilities=CapabilitiesAnswer.model_validate(identity.capabilities, from_attributes=True),
        settle_seconds=identity.settle_seconds,
        epoch=identity.epoch,
    )
    text = f"bucket {answer.bucket} (store {answer.store_id}) and place {answer.place} belong together"
    output.answer(answer, text + (_AFTER_COPY.format(answer.epoch) if args.adopt and answer.epoch > 1 else ""))
    return Exit.DONE
