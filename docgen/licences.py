"""The crates that the archiver is made of: their licences and where they come from, from `cargo metadata`.

`cargo metadata --format-version 1 --locked | python3 licences.py` prints the list, and fails for a licence that is not
in the list below, or a crate that is neither ours nor of crates.io. No package is needed: the image's build runs it.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

ALLOWED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}
EXCEPTIONS = {"LLVM-exception"}
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


class _Expression:
    """An SPDX expression, read from left to right; `/` is how `OR` was written once."""

    def __init__(self, text: str) -> None:
        self._words = re.findall(r"[()/]|[^\s()/]+", text)

    def is_met(self) -> bool:
        """True if it can be met with what is allowed. `ValueError` if it is none."""
        met = self._any()
        if self._words:
            raise ValueError(f"{self._words[0]} is out of place")
        return met

    def _any(self) -> bool:
        met = self._all()
        while self._next_is("OR", "/"):
            met = self._all() or met
        return met

    def _all(self) -> bool:
        met = self._one()
        while self._next_is("AND"):
            met = self._one() and met
        return met

    def _one(self) -> bool:
        if self._next_is("("):
            met = self._any()
            if not self._next_is(")"):
                raise ValueError("a parenthesis is open")
            return met
        if not self._words:
            raise ValueError("a licence is missing")
        met = self._words.pop(0) in ALLOWED
        if self._next_is("WITH"):
            met = bool(self._words) and self._words.pop(0) in EXCEPTIONS and met
        return met

    def _next_is(self, *words: str) -> bool:
        found = bool(self._words) and self._words[0] in words
        if found:
            self._words.pop(0)
        return found


def is_allowed(expression: str | None) -> bool:
    """True if a crate of this licence may be used."""
    try:
        return _Expression(expression or "").is_met()
    except ValueError:
        return False


def main(metadata: dict[str, Any]) -> int:
    """The list on standard output, what is wrong on standard error; 1 if there is any."""
    wrong = []
    for package in sorted(metadata["packages"], key=lambda each: (each["name"], each["version"])):
        name = f"{package['name']} {package['version']}"
        print(name, package["license"], package["repository"] or "-", sep="\t")
        if not is_allowed(package["license"]):
            wrong.append(f"{name}: the licence {package['license']} is not in the list of docgen/licences.py")
        if package["source"] not in (None, CRATES_IO):
            wrong.append(f"{name}: comes from {package['source']}")
    for each in wrong:
        print(each, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
