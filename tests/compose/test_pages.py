"""What README.md and the pages of docs/ have for a machine with Docker works there as it stands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import baseimage, image
from tests.harness.compose import Compose
from tests.harness.sources import TOP
from tests.pages.blocks import DOCKER, blocks

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PAGES = [page for page in (TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))) if blocks(page, DOCKER)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone, with what its image is built of: no network leads out of the engine's machine."""
    folder = tmp_path / "codehub-storage"
    subprocess.run(["git", "clone", "--quiet", TOP, folder], check=True)
    shutil.copytree(image.image_wheels(), folder / "wheels", copy_function=shutil.copyfile)
    return folder


@pytest.fixture
def empty(compose: Compose) -> Iterator[Compose]:
    """A machine on which nothing was deployed, and will be nothing."""
    compose("down", "--volumes")
    baseimage.import_base(compose.engine)
    yield compose
    compose("down", "--volumes")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_works(empty: Compose, checkout: Path, page: Path) -> None:
    """In the page's order, in one shell, each with status 0."""
    with empty.shell(checkout) as shell:
        for block in blocks(page, DOCKER):
            for command in block.commands:
                shell.run(command)


def test_one_page_at_least_has_some() -> None:
    """Or nothing of the above would say anything."""
    assert PAGES
