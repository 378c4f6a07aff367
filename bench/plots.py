"""A plot for each tree: bars of wall time with their spread, as SVG that reads on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.figures import Spread

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _GAP = 790, 180, 90, 34, 20, 12
_COLOURS = {"archive": "#3b78c3", "restore": "#d9822b"}
_OURS, _TEXT = "bold", "#777"


def plot(title: str, rows: Sequence[tuple[str, Mapping[str, Spread]]], ours: Sequence[str]) -> str:
    """``rows``: names with seconds by operation. Those in ``ours`` are set in bold."""
    longest = max((spread.high for _, bars in rows for spread in bars.values()), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts: list[str] = []
    y = _TOP
    for name, bars in rows:
        weight = f' font-weight="{_OURS}"' if name in ours else ""
        middle = y + _ROW * len(bars) / 2 + 4
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end"{weight}>{escape(name)}</text>')
        for operation, spread in bars.items():
            parts += _bar(y, spread, scale, _COLOURS[operation])
            y += _ROW
        y += _GAP
    legend = "".join(
        f'<rect x="{_LEFT + at}" y="{y}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_LEFT + at + 18}" y="{y + 11}">{operation}</text>'
        for at, (operation, colour) in zip((0, 100), _COLOURS.items(), strict=True)
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 24}" font-family="sans-serif" '
            f'font-size="12" fill="{_TEXT}">',
            f'<text x="8" y="18" font-size="14">{escape(title)}: wall seconds, median, with least and most</text>',
            *parts,
            legend,
            "</svg>\n",
        ]
    )


def _bar(y: int, spread: Spread, scale: float, colour: str) -> list[str]:
    width, low, high = (each * scale for each in (spread.median, spread.low, spread.high))
    centre = y + _ROW / 2
    return [
        f'<rect x="{_LEFT}" y="{y + 2}" width="{width:.1f}" height="{_ROW - 4}" fill="{colour}"/>',
        f'<path d="M{_LEFT + low:.1f} {centre}H{_LEFT + high:.1f}" stroke="{_TEXT}" stroke-width="2"/>',
        f'<text x="{_LEFT + max(width, high) + 6:.1f}" y="{centre + 4}">{spread.median:.3g}</text>',
    ]
