"""`adopt HOME_STORE_KEY`: a volume that we did not make, or made before the bucket was copied, becomes ours."""

from __future__ import annotations

from argparse import Namespace

from worker.cli import options
from worker.cli.exits import Exit
from worker.cli.output import Output

HELP = "take over a volume of before us, or of before the bucket was copied, as it is"
ARGUMENTS = (options.HOME_STORE_KEY,)


async def run(args: Namespace, output: Output) -> int:
    """Prints the uid by which the volume is known from now on."""
    from activities.control import adoption as adopting
    from worker.cli.answers import AdoptAnswer
    from worker.cli.naming import home_store_key
    from worker.cli.session import load_settings
    from worker.wiring import open_services

    settings = load_settings(args)
    key = home_store_key(args.home_store_key, settings.backend)
    output.known.update(home_store_key=key)
    async with open_services(settings) as services:
        uid = await adopting.adopt(services, key)
    output.answer(AdoptAnswer(home_store_key=key, volume_uid=uid), f"{key} is taken over as {uid}")
    return Exit.DONE
