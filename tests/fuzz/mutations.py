"""How seeds become hostile: bytes, blocks and header fields are changed, and checksums mended so that it is noticed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

BLOCK = 512
FIELDS = (
    *((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12)),
    *((156, 1), (157, 100), (257, 8), (329, 8), (345, 155)),
)
"""Where the fields of a tar header stand, and how long they are."""
TOKENS = (
    *(b"", b"\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80" + bytes(10) + b"\1", b"77777777777\0", b"-1", b"0o7"),
    *(b"1_0", b"..", b"../victim", b"/victim", b"a/../../victim", b".", b"./", b"a//b", b"good", b"a", b"z", b"out"),
    *(b"out/victim", b"n" * 300, b"n/" * 300, b"9" * 25, b"9" * 5000, b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"),
    *(b"x", b"g", b"L", b"K", b"S", b"V", b"M", b"30 mtime=1.5\n", b"17 path=../victim\n", b"12 path=a\0b\n"),
    *(b"13 size=9999\n", b"27 SCHILY.xattr.user.x=\0\0\0\n", b"22 GNU.sparse.major=1\n", b"24 GNU.sparse.map=0,4,2\n"),
    *(b"ustar  \0", b"\n", b"=", b" ", b"\x1f\x8b\x08\0", b"\0\0\xff\xff", b"\x03\0"),
)
NUMBERS = (-1, 0, 1, 4, 511, 512, 513, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 70, -(1 << 70), 10**4000)
WORDS = (
    *("", "%%%", "YQ==", "Yg==", "Li4veA==", "L3g=", "ä", "\x00", "0" * 16, "f" * 64, "f" * 17),
    *("files", "large", "tail"),
)
JSON: tuple[Any, ...] = (*NUMBERS, *WORDS, None, True, 1.5, [], {}, [[0, 4]], [[3, -2]], [[]])

Edit = tuple[int, int, int, int]


def mend(raw: bytes) -> bytes:
    """Every block that looks like a header gets the checksum that fits."""
    out = bytearray(raw)
    for at in range(0, len(out) - BLOCK + 1, BLOCK):
        block = out[at : at + BLOCK]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(out)


def _flip(raw: bytes, at: int, value: int, _: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (value % 255 + 1)]) + raw[at + 1 :] if raw else raw


def _overwrite(raw: bytes, at: int, value: int, _: int) -> bytes:
    token = TOKENS[value % len(TOKENS)]
    return raw[:at] + token + raw[at + len(token) :]


def _insert(raw: bytes, at: int, value: int, _: int) -> bytes:
    return raw[:at] + TOKENS[value % len(TOKENS)] + raw[at:]


def _delete(raw: bytes, at: int, value: int, _: int) -> bytes:
    return raw[:at] + raw[at + value % 600 :]


def _cut(raw: bytes, at: int, value: int, other: int) -> bytes:
    return raw[:at]


def _field(raw: bytes, at: int, value: int, other: int) -> bytes:
    """One field of the header in the block at ``at``."""
    offset, width = FIELDS[other % len(FIELDS)]
    begin = at - at % BLOCK + offset
    token = TOKENS[value % len(TOKENS)][:width].ljust(width, b"\0")
    return raw[:begin] + token + raw[begin + width :] if begin + width <= len(raw) else raw


def _repeat(raw: bytes, at: int, value: int, other: int) -> bytes:
    """Some blocks again, elsewhere."""
    begin, to = at - at % BLOCK, other % (len(raw) + 1)
    to -= to % BLOCK
    return raw[:to] + raw[begin : begin + BLOCK * (value % 4 + 1)] + raw[to:]


EDITS: tuple[Callable[[bytes, int, int, int], bytes], ...] = (
    *(_flip, _overwrite, _insert, _delete, _cut, _field, _field, _field, _repeat),
)
_big = st.integers(0, 1 << 24)
edits = st.lists(st.tuples(st.integers(0, len(EDITS) - 1), _big, _big, _big), max_size=6)


def apply_edits(raw: bytes, wanted: Sequence[Edit]) -> bytes:
    """The seed after these edits."""
    for which, at, value, other in wanted:
        raw = EDITS[which](raw, at % (len(raw) + 1) if which not in (0,) else at % max(1, len(raw)), value, other)
    return raw


def mutated(seeds: Sequence[bytes], *, headers: bool) -> st.SearchStrategy[bytes]:
    """A seed, or two in a row, changed a little; ``headers``: with checksums mended, most of the time."""

    def make(first: bytes, second: bytes, wanted: list[Edit], fix: int) -> bytes:
        raw = apply_edits(first + second, wanted)
        return mend(raw) if headers and fix else raw

    one = st.sampled_from(list(seeds))
    return st.builds(make, one, st.one_of(st.just(b""), one), edits, st.integers(0, 5))


def mutated_json(seed: bytes) -> st.SearchStrategy[bytes]:
    """A JSON object some of whose values are others, gone, or doubled."""
    whole = json.loads(seed)

    def make(wanted: list[tuple[int, int, int]]) -> bytes:
        value = copy.deepcopy(whole)
        for which, kind, what in wanted:
            spots = list(_spots(value))
            holder, key = spots[which % len(spots)]
            if kind == 0 and isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            elif kind == 1:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(JSON[what % len(JSON)])
            if not list(_spots(value)):
                break
        return json.dumps(value).encode()

    return st.builds(make, st.lists(st.tuples(_big, st.integers(0, 5), _big), max_size=4))


def _spots(value: Any) -> Any:
    """Every place in a JSON value that holds another."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _spots(inner)
