"""Records the histories of this folder: ``python -m tests.replay.capture [--anew | --replace] [NAME ...]``.

A command of its own, never run by a test: a history says what released code has commanded, and newer code must still
follow it. It records the named scenarios, or all, that have no history yet. ``--anew`` also records those that have
one, and keeps that as NAME-1, NAME-2, ...; ``--replace`` does not keep it, for what was never released. Starts servers
of its own; needs root, for files that nobody can delete.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from activities.runtime import failpoints
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.site import Site, open_site
from tests.harness.stops import handle_of
from tests.replay import histories
from tests.replay.scenarios import SCENARIOS, SEGMENT_BYTES, Stage
from worker import failpoint_wrappers  # noqa: F401 - declares the points of every call
from worker.dev.process import find_program
from worker.dev.seaweed import Identity, Seaweed
from worker.dev.temporal import TemporalServer


async def record(folder: Path, names: list[str], *, keep: bool) -> None:
    """Record the named scenarios, one after the other since faults are the whole stage's; the summary anew."""
    async with open_stage(folder) as stage:
        for name in names:
            print(f"recording {name}", flush=True)
            workspace = await SCENARIOS[name](stage)
            history = await handle_of(stage.site, workspace).fetch_history()
            if keep:
                histories.keep(name)
            histories.store(name, history, scrubber(folder, stage.site))
            histories.store_summary({name: histories.commands_of(histories.load(name)) for name in histories.names()})


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[Stage]:
    """Servers, a site behind a proxy, and its worker. The store gets its time to settle, as a durable timer."""
    find_program("chattr", "e2fsprogs")
    temporal = TemporalServer(database=folder / "temporal.db", log=folder / "temporal.log", pid_file=folder / "pid")
    seaweed = Seaweed(folder / "seaweed", identities=[Identity("admin")])
    armed = folder / "armed"
    try:
        temporal.start()
        seaweed.start()
        async with (
            S3Proxy(seaweed.ports[0]) as proxy,
            open_site(
                folder / "site",
                temporal,
                seaweed,
                endpoint_url=proxy.endpoint_url,
                CODEHUB_STORAGE_SETTLE="1",
                CODEHUB_STORAGE_SEGMENT_BYTES=SEGMENT_BYTES,
            ) as site,
        ):
            site.start_worker(**{failpoints.VARIABLE: f"@{armed}"})
            yield Stage(site, proxy, armed)
    finally:
        temporal.stop()
        seaweed.stop()


def scrubber(folder: Path, site: Site) -> Callable[[str], str]:
    """Folders of this machine become ``/site``. A credential or this machine's name is refused, not hidden."""
    forbidden = [f"@{socket.gethostname()}", str(Path(__file__).parents[2]), sys.prefix, f"{sys.base_prefix}/lib"]
    forbidden += [secret for secret in (site.store.access_key, site.store.secret_key) if secret]

    def scrub(text: str) -> str:
        text = text.replace(str(folder), "/site")
        found = [word for word in forbidden if word in text]
        assert not found, f"{found} must not be in a history: {text}"
        return text

    return scrub


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser(description="Records histories for tests/replay.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--anew", action="store_true", help="also what is there, which is kept under another name")
    what.add_argument("--replace", action="store_true", help="also what is there, which is lost")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    there = [] if arguments.anew or arguments.replace else histories.names()
    names = [name for name in arguments.names or SCENARIOS if name not in there]
    with tempfile.TemporaryDirectory(prefix="capture-") as folder:
        asyncio.run(record(Path(folder), names, keep=arguments.anew))


if __name__ == "__main__":
    main()
