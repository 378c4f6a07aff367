"""Copies the bytes of a file out of the page cache, once: `python -m bench.copying FILE`."""

import sys

_BUFFER_BYTES = 1 << 20

if __name__ == "__main__":
    buffer = bytearray(_BUFFER_BYTES)
    with open(sys.argv[1], "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
