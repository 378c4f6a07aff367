"""docs/guides/compose.md works as it stands, and so do the other pages' commands for a machine with Docker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import baseimage, image
from tests.harness.compose import Compose
from tests.harness.sources import TOP
from tests.pages.blocks import DOCKER, HERE, blocks, not_executed
from tests.pages.reading import PAGES

GUIDE = TOP / "docs/guides/compose.md"
COMMANDS = {
    page: [command for block in blocks(page, kind) for command in block.commands]
    for page, kind in [(GUIDE, HERE), *((page, DOCKER) for page in PAGES)]
}
NOTHING_NEWER = "git pull"
SMALL_IMAGE = "debian:bookworm-slim"
"""The guide writes into a volume with it."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone, with what its image is built of: no network leads out of the engine's machine."""
    folder = tmp_path / "codehub-storage"
    subprocess.run(["git", "clone", "--quiet", TOP, folder], check=True)
    image.bring_along(folder)
    return folder


@pytest.fixture
def empty(compose: Compose) -> Iterator[Compose]:
    """A machine on which nothing was deployed, and will be nothing."""
    compose("down", "--volumes")
    baseimage.import_base(compose.engine)
    baseimage.import_compiler(compose.engine)
    compose.engine.docker("tag", baseimage.NAME, SMALL_IMAGE)
    yield compose
    compose("down", "--volumes")


@pytest.mark.parametrize("page", [page for page in COMMANDS if COMMANDS[page]], ids=lambda page: page.name)
def test_every_command_works(empty: Compose, checkout: Path, page: Path) -> None:
    """In the page's order, in one shell, each with status 0."""
    with empty.shell(checkout) as shell:
        for command in COMMANDS[page]:
            if command != NOTHING_NEWER:
                shell.run(command)


def test_the_guide_has_some() -> None:
    """Or nothing of the above would say anything."""
    assert COMMANDS[GUIDE]
    assert not_executed(GUIDE) == []
