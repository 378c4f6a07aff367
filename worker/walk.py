"""Prints the change fingerprint of a mounted volume: the last check before a deletion, in a container of its own.

``--hold``: then keeps the volume mounted until SIGTERM, so that no deletion of it is carried out meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from activities.backends.containers import VOLUME
from activities.dataplane.fingerprint import change_fingerprint
from codehub_storage.errors import StorageError

HOLD = "--hold"


def main(arguments: list[str]) -> int:
    """The fingerprint alone on standard output; on failure the error's code and message on the other, and 1."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the first process of a container has no default for it
    try:
        print(asyncio.run(change_fingerprint(VOLUME)), flush=True)
    except StorageError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr, flush=True)
        return 1
    while HOLD in arguments:
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
