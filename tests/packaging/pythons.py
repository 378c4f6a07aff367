"""The versions of Python that our distributions name, and where this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.harness.sources import TOP

PROJECTS = {"codehub-storage": TOP / "client", "codehub-storage-service": TOP}
"""Where each distribution is built from."""
_CLASSIFIER = "Programming Language :: Python :: "


def project(name: str) -> dict[str, object]:
    """What the distribution says of itself in its ``pyproject.toml``."""
    table: dict[str, object] = tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text())["project"]
    return table


def named_versions(name: str) -> list[str]:
    """Such as ``3.11``: the distribution's classifiers."""
    classifiers = project(name)["classifiers"]
    assert isinstance(classifiers, list)
    return [each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER)]


def find_python(version: str) -> str | None:
    """A Python of that version: on the path, or among those of pyenv, whose commands answer for the chosen one only."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    beside_ours = Path(sys.base_prefix).parent  # pyenv's own folder, whatever HOME is
    found = [
        shutil.which(f"python{version}"),
        *(str(each) for folder in (pyenv, beside_ours) for each in folder.glob(f"{version}.*/bin/python{version}")),
    ]
    return next((each for each in found if each is not None and _runs(each, version)), None)


def _runs(program: str, version: str) -> bool:
    """It starts, is of that version, and can make virtual environments."""
    code = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() == version
