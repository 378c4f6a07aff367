"""What an operator reads in Temporal's web UI: runs that move bytes, fail, succeed and are tried again, and their list.

With ``STORAGE_TESTS_PICTURES`` naming a folder the pages are kept there as pictures (`make screenshots`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Locator, Page, expect

from codehub_storage import ErrorCode, StorageError
from codehub_storage.client import OperationHandle
from codehub_storage.keys import archive_key, workflow_id
from tests.fakes.s3_faults import Exchange, Hold, Predicate, Reply
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.browser import PROGRAM, WIDTH, browser_on
from tests.harness.homes import write
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import until
from worker.dev.temporal import NAMESPACE, TemporalServer

pytestmark = [pytest.mark.tool(PROGRAM), pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20
PART_BYTES = 6 * MIB
HOME_MEGABYTES = 40
RUNNING, FAILED, FINISHED, RETRIED = "anna", "ben", "carla", "dora"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
PICTURES = os.environ.get("STORAGE_TESTS_PICTURES")


@dataclass(frozen=True)
class Stage:
    """Run ids of archives by their workspaces, and a browser on the web UI."""

    pages: BrowserContext
    runs: Mapping[str, str]

    async def run(self, workspace: str) -> Page:
        """The page of that workspace's run."""
        page = await self.pages.new_page()
        run = self.runs[workspace]
        await page.goto(f"/namespaces/{NAMESPACE}/workflows/{quote(workflow_id(workspace), safe='')}/{run}")
        await expect(page.get_by_test_id("workflow-id-heading")).to_contain_text(workflow_id(workspace))
        return page

    async def list(self, query: str) -> Page:
        """The list as a bookmark of that query shows it."""
        page = await self.pages.new_page()
        await page.goto(f"/namespaces/{NAMESPACE}/workflows?query={quote(query)}")
        return page


@pytest.fixture(scope="module")
def own_temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A server of our own: its lists show nobody else's runs."""
    folder = tmp_path_factory.mktemp("temporal")
    server = TemporalServer(database=None, log=folder / "log", pid_file=folder / "pid")
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, own_temporal: TemporalServer, seaweed: Seaweed
) -> AsyncIterator[Stage]:
    """One archive whose store is silent, one whose store refuses, one of a home in use, and one that succeeds."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            tmp_path_factory.mktemp("web") / "site",
            own_temporal,
            seaweed,
            endpoint_url=proxy.endpoint_url,
            time_scale=1.0,
            CODEHUB_STORAGE_SEGMENT_BYTES=str(PART_BYTES),
        ) as site,
        browser_on(own_temporal.web_ui) as pages,
    ):
        proxy.add(Hold(times=None), parts_of(RUNNING, after=2))
        proxy.add(Reply(times=None, body=SLOW_DOWN), parts_of(RETRIED, after=2))
        site.start_worker()
        runs = await asyncio.gather(
            running(site, RUNNING), failed(site, FAILED), finished(site, FINISHED), retried(site, RETRIED)
        )
        yield Stage(pages, {run.workspace_id: run.run_id for run in runs})


def parts_of(workspace: str, *, after: int) -> Predicate:
    """Uploads of its archive's parts beyond the first ones."""

    def fits(exchange: Exchange) -> bool:
        return exchange.key == archive_key(workspace) and exchange.part is not None and exchange.part > after

    return fits


async def begun(site: Site, workspace: str, *, megabytes: int = 0) -> OperationHandle:
    """The archive of a new home with some notes and so many bytes that do not compress."""
    home_store_key = await site.storage.provision(workspace)
    write(site, workspace, "notes")
    for number in range(megabytes):
        (site.volume(workspace) / f"video-{number:02}").write_bytes(os.urandom(MIB))
    return await site.storage.start_archive(home_store_key)


async def running(site: Site, workspace: str) -> OperationHandle:
    """It copies, some parts are stored, and the next ones take their time."""
    run = await begun(site, workspace, megabytes=HOME_MEGABYTES)

    async def has_sent() -> bool:
        return (await run.progress()).bytes_done >= PART_BYTES

    await until(has_sent, "nothing is sent")
    return run


async def retried(site: Site, workspace: str) -> OperationHandle:
    """It copies, and a step is tried again."""
    run = await begun(site, workspace, megabytes=HOME_MEGABYTES)

    async def is_tried_again() -> bool:
        return (await run.progress()).attempt > 1

    await until(is_tried_again, "no step is tried again")
    return run


async def failed(site: Site, workspace: str) -> OperationHandle:
    """It meets somebody who has a file of the home open."""
    home_store_key = await site.storage.provision(workspace)
    notes = str(write(site, workspace, "notes"))
    user = await asyncio.create_subprocess_exec("tail", "-f", notes, stdout=asyncio.subprocess.DEVNULL)
    try:
        run = await site.storage.start_archive(home_store_key)
        with pytest.raises(StorageError, match="VolumeInUse"):
            await run.result()
    finally:
        user.kill()
        await user.wait()
    return run


async def finished(site: Site, workspace: str) -> OperationHandle:
    """It succeeds."""
    run = await begun(site, workspace, megabytes=1)
    await run.result()
    return run


# ------------------------------------------------------------ reading pages


async def open_tab(page: Page, name: str) -> None:
    """Choose a tab of a run's page by its name."""
    tab = page.get_by_role("tab", name=name)
    await tab.click()
    await expect(tab).to_have_attribute("aria-selected", "true")


async def shows(page: Page | Locator, *words: str) -> None:
    """All of these can be seen."""
    for word in words:
        await expect(page.get_by_text(word).filter(visible=True).first).to_be_visible()


async def holds(page: Page, box: str, *words: str) -> None:
    """All of these stand in a box of code; the first of that name."""
    for word in words:
        await expect(page.get_by_role("textbox", name=box).first).to_contain_text(word)


async def reads(page: Page, frame: str, *words: str) -> None:
    """All of these stand in a text of a run, which the page shows in a frame of its own."""
    for word in words:
        await expect(page.frame_locator(f"#user-metadata-{frame}").locator("body")).to_contain_text(word)


async def picture(page: Page, name: str) -> None:
    """Keep what is seen now, if pictures are asked for."""
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"web-ui-{name}.png")


# ------------------------------------------------------------ a run's page


async def test_a_running_archive(stage: Stage) -> None:
    """What it is, its phase and bytes, the step under way with its own bytes, and every step by what it does."""
    page = await stage.run(RUNNING)
    await shows(page, "Running", "claim the workspace's record", "walk the volume", "copy segments from 1 of")
    await open_tab(page, "Pending Activities")
    await shows(page, "copy_segments", "copy-1-00001-m1", "hold_mover")
    await holds(page, "Heartbeat Details", '"bytes"')
    await open_tab(page, "Search Attributes")
    await shows(page, "WsPhase", "copying", "WsBytes", str(HOME_MEGABYTES * MIB + len("notes")))
    await open_tab(page, "User Metadata")
    await reads(page, "summary", f"archive workspace {RUNNING}")
    await reads(page, "details", f"home_store_key: ws_{RUNNING}_home")
    total = f"{HOME_MEGABYTES * MIB + len('notes'):,}"
    await reads(page, "current-details", "copying", f"0 of {total} bytes", "Pending Activities")
    await picture(page, "running")


async def test_a_step_that_is_tried_again(stage: Stage) -> None:
    """Which attempt, what the last one failed with, and when the next comes, while the run goes on."""
    page = await stage.run(RETRIED)
    await open_tab(page, "Pending Activities")
    await shows(page, "Running", "copy_segments", "Attempt", "Next Retry")
    await holds(page, "Last Failure", "SlowDown")


async def test_a_failed_archive(stage: Stage) -> None:
    """The code, who uses the volume, and the hint; in the current details, too."""
    page = await stage.run(FAILED)
    await shows(page, "Failed", "VolumeInUse", "(tail)", StorageError(ErrorCode.VOLUME_IN_USE, "").hint)
    await open_tab(page, "User Metadata")
    await reads(page, "summary", f"archive workspace {FAILED}")
    await reads(page, "current-details", "Last error: VolumeInUse", "(tail)")
    await picture(page, "failed")


async def test_a_finished_archive(stage: Stage) -> None:
    """The result, and every step from the claim to the deletion."""
    page = await stage.run(FINISHED)
    await page.set_viewport_size({"width": WIDTH, "height": 1300})  # the page draws only the steps that are in view
    await shows(page, "Completed", "claim the workspace's record", "begin an upload")
    await holds(page, "Result", archive_key(FINISHED))
    await shows(page, "read the archive back and compare", "write the manifest: the proof", "delete the volume")
    await picture(page, "finished")
    await open_tab(page, "User Metadata")
    await reads(page, "current-details", "done")


# ------------------------------------------------------------ the list


async def test_the_list(stage: Stage) -> None:
    """Filtered by operation and phase, with our search attributes as columns, chosen as an operator chooses them."""
    page = await stage.list('WsOp="archive"')
    await choose_columns(page, add=["WsOp", "WsPhase", "WsBytes"], remove=["Run ID", "Type", "End"])
    rows = rows_of(page)
    await expect(rows).to_have_count(4)
    for workspace, status, phase in [
        (RUNNING, "Running", "copying"),
        (FAILED, "Failed", "undoing"),
        (FINISHED, "Completed", "done"),
        (RETRIED, "Running", "copying"),
    ]:
        row = rows.filter(has_text=workflow_id(workspace))
        await shows(row, status, "archive", phase)
    await picture(page, "list")
    page = await stage.list('WsOp="archive" AND WsPhase="copying"')
    await expect(rows_of(page)).to_have_count(2)
    await shows(page, workflow_id(RUNNING), workflow_id(RETRIED))


def rows_of(page: Page) -> Locator:
    """The runs in the list."""
    return page.get_by_test_id("workflows-summary-configurable-table-row")


async def choose_columns(page: Page, *, add: list[str], remove: list[str]) -> None:
    """By the drawer; the browser keeps the choice."""
    await page.get_by_test_id("workflows-summary-table-configuration-button").click()
    for name in remove:
        await page.get_by_test_id(f"orderable-list-item-{name}-remove-button").click()
    for name in add:
        await page.get_by_test_id(f"orderable-list-item-{name}-add-button").click()
    await page.get_by_test_id("drawer-close-button").click()
    await expect(page.get_by_test_id("drawer-close-button")).to_have_count(0)  # it fades
