"""`version`: of the service, of Python, and of the servers that respond."""

from __future__ import annotations

import asyncio
import platform
from argparse import Namespace
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from worker.cli.exits import Exit
from worker.cli.output import Output

if TYPE_CHECKING:
    from worker.cli.answers import VersionAnswer
    from worker.settings import Settings

HELP = "versions of the service, of Python, and of the servers that answer"
ARGUMENTS = ()
_SECONDS = 3.0


async def run(args: Namespace, output: Output) -> int:
    """Prints a list; a server that does not respond at once is left out."""
    from activities.dataplane.manifest import FORMAT_VERSION
    from worker.cli.answers import VersionAnswer
    from worker.cli.session import load_settings
    from worker.version import service_version

    settings = load_settings(args)
    server, store = await asyncio.gather(_soon(_temporal(settings)), _soon(_store(settings)))
    answer = VersionAnswer(
        service=service_version(),
        client=version_of("codehub-storage"),
        python=platform.python_version(),
        archive_format=FORMAT_VERSION,
        temporal_sdk=version_of("temporalio"),
        temporal_server=server,
        store=store,
    )
    output.answer(answer, _as_text(answer))
    return Exit.DONE


async def _soon(asked: Awaitable[str | None]) -> str | None:
    from temporalio.service import RPCError

    from codehub_storage.errors import StorageError

    try:
        async with asyncio.timeout(_SECONDS):
            return await asked
    except (StorageError, RPCError, TimeoutError):
        return None


async def _temporal(settings: Settings) -> str | None:
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

    from worker.cli.session import connect_temporal
    from worker.settings import Origin

    if settings.temporal_connection().origin is Origin.DEFAULT:
        return None
    client = await connect_temporal(settings)
    return (await client.workflow_service.get_system_info(GetSystemInfoRequest())).server_version


async def _store(settings: Settings) -> str | None:
    from activities.objectstore import bucket
    from activities.objectstore.s3 import open_store
    from worker.store import s3_settings

    if settings.s3_endpoint is None:
        return None
    seconds = timedelta(seconds=_SECONDS)
    connection = replace(s3_settings(settings), connect_timeout=seconds, read_timeout=seconds)
    async with open_store(connection) as store:
        return await bucket.server(store.connection) or None


def _as_text(answer: VersionAnswer) -> str:
    lines = [
        f"codehub-storage-service {answer.service}",
        f"codehub-storage {answer.client}",
        f"Python {answer.python}, temporalio {answer.temporal_sdk}",
        f"archive format {answer.archive_format}",
        *([f"Temporal server {answer.temporal_server}"] if answer.temporal_server else []),
        *([f"store {answer.store}"] if answer.store else []),
    ]
    return "\n".join(lines)
