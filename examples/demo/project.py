"""A project as a developer has it: sources, node_modules and a virtual environment, from the package registries."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from examples.demo.commands import CommandFailed, run_command
from examples.demo.telling import Telling
from worker.cli.progress import ProgressState

_NPM_PACKAGES = ("express", "eslint", "lodash", "typescript")
_PIP_PACKAGES = ("flask", "pytest", "requests", "rich")
_MORE_PIP_PACKAGES = ("django", "sphinx")
_WORKER = Path(__file__).parents[2] / "worker"


async def make_project(
    home: Path,
    telling: Telling,
    *,
    npm_packages: Sequence[str] = _NPM_PACKAGES,
    pip_packages: Sequence[str] = _PIP_PACKAGES,
) -> None:
    """Fill ``home``. Where a registry cannot be reached, something else takes the place and that is said."""
    project = home / "project"
    project.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    await asyncio.to_thread(shutil.copytree, _WORKER, project / "src", ignore=ignored)
    if not await _install_node_modules(home, project, npm_packages, telling):
        pip_packages = (*pip_packages, *_MORE_PIP_PACKAGES)
    await _install_venv(home, project, pip_packages, telling)


async def _install_node_modules(home: Path, project: Path, packages: Sequence[str], telling: Telling) -> bool:
    """False if npm cannot do it."""
    package = {"name": "project", "private": True, "dependencies": dict.fromkeys(packages, "*")}
    (project / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    telling.output.progress(ProgressState(f"fill: npm install {' '.join(packages)}"))
    try:
        await run_command(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
            cwd=project,
            environment={"npm_config_cache": str(home / ".npm"), "npm_config_update_notifier": "false"},
        )
    except CommandFailed as error:
        telling.remark(f"no node_modules, a larger virtual environment instead: {_first_line(error)}")
        shutil.rmtree(project / "node_modules", ignore_errors=True)
        return False
    return True


async def _install_venv(home: Path, project: Path, packages: Sequence[str], telling: Telling) -> None:
    venv = project / ".venv"
    telling.output.progress(ProgressState(f"fill: venv with {' '.join(packages)}"))
    await run_command([sys.executable, "-m", "venv", str(venv)])
    try:
        await run_command(
            [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
            environment={"PIP_CACHE_DIR": str(home / ".cache/pip"), "PIP_CONSTRAINT": ""},
        )
    except CommandFailed as error:
        telling.remark(f"pip cannot install, so the venv gets the packages of this one: {_first_line(error)}")
        source, target = Path(sysconfig.get_path("purelib")), next(venv.glob("lib/python*/site-packages"))
        await asyncio.to_thread(shutil.copytree, source, target, symlinks=True, dirs_exist_ok=True)


def _first_line(error: CommandFailed) -> str:
    return " ".join(str(error).splitlines()[:2])
