"""The client distribution installs alone, beside a reconciler's own packages of the service's names, with its types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # an environment is made and installed into

CLIENT = Path(__file__).parents[2] / "client"
ALONE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
PROGRAM = """
import sys
import workflows, worker
assert workflows.MINE and worker.MINE
from codehub_storage import StorageClient, StorageError, ErrorCode
assert "activities" not in sys.modules
for name in ("aioboto3", "awscrt", "pydantic_settings"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} came along")
print(StorageClient.__name__)
"""
CONSUMER = """
from codehub_storage import StorageClient, StorageError


async def archive(storage: StorageClient, home_store_key: str) -> None:
    handle = await storage.start_archive(home_store_key)
    reveal_type(handle.run_id)
    reveal_type(await handle.result())
    reveal_type(await storage.archive(home_store_key))
    await storage.archive(7)


def code(error: StorageError) -> str:
    return error.code
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the client, and with `workflows` and `worker` packages of its own."""
    environment = tmp_path_factory.mktemp("client") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", CLIENT], check=True, timeout=300)
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    for name in ("workflows", "worker"):
        (site_packages / name).mkdir()
        (site_packages / name / "__init__.py").write_text("MINE = True\n")
    return python


def test_it_installs_alone_and_shadows_nothing(python: Path, tmp_path: Path) -> None:
    """The packages of the same names are imported, and the client works."""
    answer = subprocess.run(
        [python, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=tmp_path, env=ALONE
    )
    assert answer.stdout == "StorageClient\n"


def test_its_types_come_along(python: Path, tmp_path: Path) -> None:
    """mypy in its strict form reads them from what was installed, and finds the one mistake of a consumer."""
    consumer = tmp_path / "consumer.py"
    consumer.write_text(CONSUMER)
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={python}", consumer)
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ALONE)
    lines = [line.partition(": ")[2] for line in answer.stdout.splitlines()[:-1]]
    assert lines == [
        'note: Revealed type is "str"',
        'note: Revealed type is "codehub_storage.contracts.OperationResult"',
        'note: Revealed type is "str"',
        'error: Argument 1 to "archive" of "StorageClient" has incompatible type "int"; expected "str"  [arg-type]',
    ], answer
