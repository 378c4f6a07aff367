"""``python -m docgen``: writes the pages again. ``--check``: only names those that would change, with exit status 1."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docgen.pages import PAGES
from docgen.writing import stale

DOCS = Path(__file__).parents[1] / "docs"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m docgen", description="Write the pages made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    check = parser.parse_args().check
    found = stale(DOCS, PAGES)
    for name, text in found.items():
        if check:
            print(f"docs/{name} is not up to date; python -m docgen writes it anew", file=sys.stderr)
        else:
            (DOCS / name).write_text(text, encoding="utf-8")
            print(f"written: docs/{name}")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
