"""Prints the change fingerprint of a mounted volume: the last look before a deletion, in a container of its own."""

from __future__ import annotations

import asyncio
import sys

from activities.backends.containers import VOLUME
from activities.dataplane.walk import change_fingerprint
from codehub_storage.errors import StorageError


def main() -> int:
    """The fingerprint alone on standard output; on failure the error's code and message on the other, and 1."""
    try:
        print(asyncio.run(change_fingerprint(VOLUME)), flush=True)
    except StorageError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
