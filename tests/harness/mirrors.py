"""Copies of a bucket, object by object, as a mirror or a backup makes them; and a site that goes on with the copy."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from activities.objectstore.s3 import open_store
from tests.harness import parts
from tests.harness.s3server import S3Server
from tests.harness.seaweed import settings_of
from tests.harness.site import Site
from worker.settings import Settings
from worker.wiring import initialize

Change = Callable[[str, bytes], bytes]
"""What becomes of an object on the way: its key, its bytes."""


def mirror_plainly(
    source: S3Server, bucket: str, target: S3Server, copy: str, *, change: Change = lambda key, data: data
) -> None:
    """By GET and PUT with metadata: no tool is needed, and a block may rot on the way. The newest versions only."""
    here, there = source.client(), target.client()
    try:
        for page in here.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for each in page.get("Contents", ()):
                found = here.get_object(Bucket=bucket, Key=each["Key"])
                there.put_object(
                    Bucket=copy,
                    Key=each["Key"],
                    Body=change(each["Key"], found["Body"].read()),
                    Metadata=found["Metadata"],
                )
    finally:
        here.close()
        there.close()


def mirror_by_rclone(source: S3Server, bucket: str, target: S3Server, copy: str, *, metadata: bool) -> None:
    """`rclone copy`, with `-M` or without."""
    options = ["-M"] if metadata else []
    environment = {**rclone_remotes(here=source, there=target), "RCLONE_CONFIG": os.devnull}
    _run(["rclone", "copy", *options, f"here:{bucket}", f"there:{copy}"], environment)


def rclone_remotes(**servers: S3Server) -> dict[str, str]:
    """What rclone is told by its environment, so that it knows these servers by these names."""
    remotes: dict[str, str] = {}
    for name, server in servers.items():
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": server.endpoint_url,
            "ACCESS_KEY_ID": server.admin.access_key,
            "SECRET_ACCESS_KEY": server.admin.secret_key,
            "NO_CHECK_BUCKET": "true",
        }
        remotes.update({f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in remote.items()})
    return remotes


def mirror_by_mc(source: S3Server, bucket: str, target: S3Server, copy: str, folder: Path) -> None:
    """`mc mirror`. ``folder`` keeps its configuration."""
    hosts = {
        f"MC_HOST_{name}": server.endpoint_url.replace(
            "://", f"://{server.admin.access_key}:{server.admin.secret_key}@", 1
        )
        for name, server in (("here", source), ("there", target))
    }
    command = [str(parts.binary("mc")), "--config-dir", str(folder), "--disable-pager", "mirror", "--quiet"]
    _run([*command, f"here/{bucket}", f"there/{copy}"], hosts)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout


def settings_there(site: Site, server: S3Server, bucket: str) -> dict[str, str]:
    """What a worker of the site is told, so that it goes on with another bucket."""
    store = settings_of(server, bucket)
    return {
        "CODEHUB_STORAGE_BUCKET": bucket,
        "CODEHUB_STORAGE_S3_ENDPOINT": server.endpoint_url,
        "CODEHUB_STORAGE_S3_ACCESS_KEY": store.access_key or "",
        "CODEHUB_STORAGE_S3_SECRET_KEY": store.secret_key or "",
    }


@asynccontextmanager
async def moved_site(site: Site, server: S3Server, bucket: str) -> AsyncIterator[Site]:
    """The site on another bucket: the same place and volumes. Its workers are still those of before."""
    store = settings_of(server, bucket)
    async with open_store(store) as truth:
        environment = {**site.environment, **settings_there(site, server, bucket)}
        yield replace(site, bucket=bucket, store=store, truth=truth, environment=environment)


async def adopt_copy(site: Site) -> None:
    """`init --adopt`."""
    await initialize(
        Settings(
            place=site.place,
            bucket=site.bucket,
            s3_endpoint=site.store.endpoint_url,
            s3_access_key=site.store.access_key,
            s3_secret_key=site.store.secret_key,
            settle="0",
            **site.habitat.settings(site.store.endpoint_url or ""),
        ),
        adopt=True,
    )


async def fence_off(site: Site) -> None:
    """Nobody writes to the bucket of before any more."""
    for worker in site.workers:
        await asyncio.to_thread(worker.stop)
    site.workers.clear()
