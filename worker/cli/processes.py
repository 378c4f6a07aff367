"""Commands that run the service: `dev`, `worker`; and `init`, which is run once before them."""

from __future__ import annotations

import asyncio
import signal
from argparse import Namespace

from activities.control import adoption as adopting
from codehub_storage.errors import ErrorCode, StorageError
from worker import control
from worker.cli.exits import Exit
from worker.cli.output import Output
from worker.cli.session import load_settings
from worker.dev import run
from worker.dev.process import StackError
from worker.logging import configure
from worker.wiring import initialize, open_services


async def dev(args: Namespace, output: Output) -> int:
    """`dev [--reset]`: a line with the word `ready` and one with what to type next, then silence until a signal."""
    folder = load_settings(args).data_dir
    try:
        await run.run(folder, reset=args.reset)
    except StackError as error:
        first, *rest = str(error).splitlines()
        for line in rest:
            output.note(f"  {line}")
        raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, first, hint=f"The logs are in {folder}.") from error
    return Exit.DONE


async def worker(args: Namespace, output: Output) -> int:
    """`worker`: until SIGINT or SIGTERM, then the work is handed back."""
    settings = load_settings(args)
    configure(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await control.serve(settings, stop)
    return Exit.DONE


async def adopt(args: Namespace, output: Output) -> int:
    """`adopt HOME_STORE_KEY`"""
    settings = load_settings(args)
    output.context.update(home_store_key=args.home_store_key)
    async with open_services(settings) as services:
        uid = await adopting.adopt(services, args.home_store_key)
    output.answer(
        {"home_store_key": args.home_store_key, "volume_uid": uid}, f"{args.home_store_key} is taken over as {uid}"
    )
    return Exit.DONE


_AFTER_COPY = (
    "epoch {}: it is a copy of a bucket that has the same identity, and no worker may write to that one any more"
)


async def init(args: Namespace, output: Output) -> int:
    """`init [--adopt]`"""
    settings = load_settings(args)
    identity = await initialize(settings, adopt=args.adopt)
    output.answer(
        {
            "bucket": settings.bucket,
            "place": settings.place,
            "store_id": identity.store_id,
            "place_identity": identity.places[settings.place],
            "capabilities": identity.capabilities.__dict__,
            "settle_seconds": identity.settle_seconds,
            "epoch": identity.epoch,
        },
        f"bucket {settings.bucket} (store {identity.store_id}) and place {settings.place} belong together"
        + (f"; {_AFTER_COPY.format(identity.epoch)}" if args.adopt and identity.epoch > 1 else ""),
    )
    return Exit.DONE
