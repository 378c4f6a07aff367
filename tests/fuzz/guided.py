"""One target, guided by coverage, until the time is up. Started by `python -m tests.fuzz` where there is atheris."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

from tests.fuzz.mutations import mend

with atheris.instrument_imports(include=["activities.dataplane"], enable_loader_override=False):
    from tests.fuzz.seeds import WITH_HEADERS
    from tests.fuzz.targets import TARGETS

from tests.fuzz.ground import Ground


def main(target: str, seconds: int, folder: Path) -> None:
    """Does not return; the bytes that break a promise are the last in the folder."""
    Ground.parent = folder

    def work(data: bytes) -> None:
        given = mend(data) if target in WITH_HEADERS else data
        (folder / "current").write_bytes(given)
        TARGETS[target](given)

    limits = [f"-max_total_time={seconds}", "-timeout=120", "-rss_limit_mb=1024", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], work)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
