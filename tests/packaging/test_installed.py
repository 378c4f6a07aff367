"""The service in an empty environment, on each Python that it names, installed as README has it, and put to work."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.trees import make_rich_tree, snapshot
from tests.packaging.pythons import find_python, named_versions

pytestmark = pytest.mark.timeout(300)

SERVICE = "codehub-storage-service"
IMPORT_ALL = """
import importlib, sys
from importlib.metadata import files
of_extras = ("activities.backends.docker.", "activities.backends.kubernetes.")
imported = 0
for distribution in ("codehub-storage", "codehub-storage-service"):
    for path in files(distribution):
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        if path.suffix == ".py" and not module.startswith(of_extras) and path.stem != "__main__":
            importlib.import_module(module)
            imported += 1
assert not {"aiodocker", "kubernetes_asyncio"} & sys.modules.keys()
print(imported)
"""


@dataclass(frozen=True)
class Installed:
    """The service as pipx has put it there. ``environment``: of a user who has nothing set."""

    version: str
    program: Path
    python: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """What the command line answered."""
        return subprocess.run(
            [self.program, *arguments],
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The object that it printed, having done what it was asked."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextmanager
    def dev(self) -> Iterator[Path]:
        """`codehub-storage dev` while it is ready; its volumes. Ctrl-C ends it well."""
        process = subprocess.Popen(
            [self.program, "dev"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if re.search(r"\bready\b", line):
                    break
            else:
                pytest.fail(f"dev ended: {''.join(said)}")
            data = Path(self.environment["HOME"]) / ".local/share/codehub-storage"
            yield Path(json.loads((data / "dev.json").read_text())["volume_root"])
            process.send_signal(signal.SIGINT)
            said.append(process.stdout.read())
            assert process.wait() == 0, "".join(said)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module", params=named_versions(SERVICE))
def installed(
    request: pytest.FixtureRequest,
    checkout: Path,
    constraints: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Installed:
    """By the command in README.md, with this Python and the versions of all other tests."""
    python = find_python(request.param)
    if python is None:
        missing = f"no Python {request.param} with venv here"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; the distributions name it", pytrace=False)
        pytest.skip(missing)
    home = tmp_path_factory.mktemp("home")
    (home / "user").mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "STORAGE_TESTS_"))},
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(home / "user"),
    }
    pipx = {
        "PIPX_HOME": str(home / "pipx"),
        "PIPX_BIN_DIR": str(home / "bin"),
        "PIPX_MAN_DIR": str(home / "man"),
        "PIPX_SHARED_LIBS": str(tmp_path_factory.getbasetemp() / "pipx-shared"),
        "PIPX_DEFAULT_PYTHON": python,
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipx", "install", "--pip-args=--find-links dist", f"{SERVICE}[archiver]"],
        cwd=checkout,
        env={**environment, **constraints, **pipx},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return Installed(
        request.param, home / "bin/codehub-storage", home / "pipx/venvs" / SERVICE / "bin/python", environment
    )


def test_it_is_of_that_python_and_complete(installed: Installed) -> None:
    """Every module of both imports, but those of backends whose extra was not asked for; types of the client count."""
    code = "import sys, codehub_storage; print('%d.%d' % sys.version_info[:2], *codehub_storage.__path__)"
    said = subprocess.run([installed.python, "-c", code], check=True, capture_output=True, text=True).stdout
    version, folder = said.split()
    assert version == installed.version
    assert (Path(folder) / "py.typed").is_file()
    done = subprocess.run([installed.python, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_its_archiver_is_the_fast_one(installed: Installed) -> None:
    """ISA-L comes from the wheel, whatever the machine has."""
    program = installed.python.with_name("codehub-archive")
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    assert said == "codehub-archive 0.1.0 (isa-l)\n"
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    [library] = re.findall(r"libisal\.so\.2 => (\S+)", linked)
    assert library.startswith(str(program.parent))


def test_the_whole_cycle(installed: Installed) -> None:
    """`dev` starts its servers; a home of every kind is archived, verified, restored equal, and purged."""
    with installed.dev() as volumes:
        key = installed.answer("provision", "ws1")["home_store_key"]
        make_rich_tree(volumes / key)
        expected = snapshot(volumes / key)
        archive = installed.answer("archive", key)["archive_key"]
        assert not (volumes / key).exists()
        installed.answer("verify", archive)
        assert installed.answer("restore", archive)["home_store_key"] == key
        assert snapshot(volumes / key) == expected
        installed.answer("purge", "--volume", key, "--archive", archive)
        assert not (volumes / key).exists()


@pytest.mark.parametrize(("backend", "extra"), [("local-docker", "docker"), ("k8s", "kubernetes")])
@pytest.mark.parametrize("command", ["init", "worker"])
def test_a_backend_names_its_extra(installed: Installed, command: str, backend: str, extra: str) -> None:
    """Chosen without it, the answer is a typed error with the line that installs it, before anything is contacted."""
    settings = {"CODEHUB_STORAGE_BACKEND": backend, "CODEHUB_STORAGE_S3_ENDPOINT": "http://127.0.0.1:9"}
    done = installed(command, **settings)
    assert done.returncode == 4, done.stdout + done.stderr
    said = rf"^error: Unsupported: .+ needs \w+\n  do: +pip install '{SERVICE}\[{extra}\]'$"
    assert re.search(said, done.stderr, re.M)
    assert "Traceback" not in done.stderr
