"""Inflates a gzip file with ISA-L and digests what comes out, in one thread: `python -m bench.inflating FILE`."""

import hashlib
import sys

from isal.igzip import IGzipFile

_BUFFER_BYTES = 256 << 10

if __name__ == "__main__":
    digest = hashlib.sha256()
    with IGzipFile(sys.argv[1], "rb") as file:  # type: ignore[no-untyped-call]
        while data := file.read(_BUFFER_BYTES):
            digest.update(data)
