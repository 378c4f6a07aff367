"""`doctor` and `show` on a real engine."""

from __future__ import annotations

from tests.harness.commands import cli
from tests.harness.site import Site
from worker.cli.exits import Exit


async def test_engine_image_and_volume(site: Site) -> None:
    """All is well; an image that the engine lacks is named; a volume is shown as the engine has it."""
    key = await site.storage.provision(workspace := site.workspace_id())
    done = await cli(site, "doctor", "--json")
    checks = {each["check"]: each for each in done.object()["checks"]}
    assert done.status == Exit.DONE, done
    assert {checks[name]["state"] for name in ("place.mover-image", "place.identity")} == {"ok"}
    done = await cli(site, "doctor", "--json", CODEHUB_STORAGE_MOVER_IMAGE="no-such-image:1")
    checks = {each["check"]: each for each in done.object()["checks"]}
    assert (done.status, checks["place.mover-image"]["state"]) == (Exit.OPERATOR, "fails"), done
    shown = (await cli(site, "show", workspace, "--json")).object()
    assert (shown["volume"]["home_store_key"], shown["volume"]["users"]) == (key, [])
    assert shown["volume"]["uid"] == shown["record"]["volume"]["uid"]
