"""The client distribution installs alone, beside a reconciler's own packages of the service's names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client"
PROGRAM = """
import sys
import workflows, worker
assert workflows.MINE and worker.MINE
from codehub_storage import StorageClient, StorageError, ErrorCode
assert "activities" not in sys.modules
for name in ("aioboto3", "isal", "awscrt", "pydantic_settings"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} came along")
print(StorageClient.__name__)
"""


def test_it_installs_alone_and_shadows_nothing(tmp_path: Path) -> None:
    """In an environment with `workflows` and `worker` packages of its own, those are imported, and the client works."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", CLIENT], check=True, timeout=300)
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    for name in ("workflows", "worker"):
        (site_packages / name).mkdir()
        (site_packages / name / "__init__.py").write_text("MINE = True\n")
    answer = subprocess.run([python, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert answer.stdout == "StorageClient\n"
