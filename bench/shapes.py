"""Trees of one extreme each, made of a seed: many small files, one large file, and what compresses well.

Text that is used again gets another alphabet first, or tools that store equal blocks once would store next to nothing.
"""

from __future__ import annotations

import random
import string
from pathlib import Path

_KIB, _MIB = 1 << 10, 1 << 20
_FILES, _FILES_BY_FOLDER, _LEAST_BYTES, _MOST_BYTES = 100_000, 500, _KIB, 8 * _KIB
_LARGE_BLOCKS, _LARGE_BLOCK_BYTES = 256, 16 * _MIB
_LOGS, _LOG_LINES = 200, 58_000
_LETTERS = string.ascii_lowercase.encode()


def make_files(folder: Path) -> None:
    """100,000 files of 1 to 8 KiB of text."""
    source = random.Random(3)
    for number in range(_FILES):
        if number % _FILES_BY_FOLDER == 0:
            text = text_of(source, _MIB // 2)
            here = folder / f"folder-{number // _FILES_BY_FOLDER:03}"
            here.mkdir()
        size = source.randint(_LEAST_BYTES, _MOST_BYTES)
        start = source.randrange(len(text) - size)
        (here / f"file-{number:06}.txt").write_bytes(text[start : start + size])


def make_large(folder: Path) -> None:
    """One file of 4 GiB, of which every other 16 MiB cannot be compressed."""
    source = random.Random(4)
    text = text_of(source, _LARGE_BLOCK_BYTES)
    with (folder / "large.bin").open("wb") as file:
        for number in range(_LARGE_BLOCKS):
            is_text = number % 2 == 0
            file.write(_rewritten(source, text) if is_text else source.randbytes(_LARGE_BLOCK_BYTES))


def make_repetitive(folder: Path) -> None:
    """About 2 GB of logs that compress about 20:1."""
    source = random.Random(5)
    messages = [text_of(source, 135)[:-1].replace(b"\n", b" ") for _ in range(40)]
    for number in range(_LOGS):
        with (folder / f"service-{number:03}.log").open("wb") as file:
            when = source.randrange(10**9)
            for line in range(_LOG_LINES):
                when += source.choice((1, 1, 2, 17))
                message = messages[min(int(source.expovariate(0.35)), 39)]
                file.write(b"2026-01-01T%010d service-%03d INFO %06d %s\n" % (when, number, line, message))


def text_of(source: random.Random, size: int) -> bytes:
    """Lines that compress about as source code and logs do."""
    words = [bytes(source.choices(_LETTERS, k=source.randint(2, 12))) for _ in range(4000)]
    text = bytearray()
    while len(text) < size:
        text += b" ".join(source.choices(words[: source.choice((50, 400, 4000))], k=12)) + b"\n"
    return bytes(text[:size])


def _rewritten(source: random.Random, text: bytes) -> bytes:
    """The same in letters of its own."""
    letters = bytearray(_LETTERS)
    source.shuffle(letters)
    return text.translate(bytes.maketrans(_LETTERS, bytes(letters)))
