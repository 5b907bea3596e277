"""Draw a matrix as inline SVG: the similarity of each pair of layers, or a value for each pair of words."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from adapt.formatting import short_names
from adapt.report.png import BLUE, RED, WHITE

# Shades from 0 to 1 in even steps. The scale is fixed: a shade means the same value in every image.
SHADES = (
    "#ffffff", "#eaf3f4", "#d3e6e8", "#b9d8db", "#9cc8cd", "#7db6bd", "#5ca2aa", "#3d8c95", "#20757f", "#0b5e67",
    "#04444b",
)  # fmt: skip
_CELL, _WIDE, _LETTER = 26, 32, 6.2  # _WIDE: for signed numbers, which are a character longer


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[float]], signed: bool = False
) -> Markup:
    """Draw a matrix; each cell has its value as text (up to 24 columns) and as a tooltip.

    Args:
        title: The title of the image.
        rows: The names of the rows, from the top.
        columns: The names of the columns.
        matrix: The values, row by row.
        signed: False for similarities of layers, from white (0 or less) to dark (1); names lose their common prefix.
            True for values of any size, blue below 0 and red above; the scale ends at the largest absolute value, and
            names are complete.
    """
    row_names, column_names = (rows, columns) if signed else (short_names(rows), short_names(columns))
    largest = max((abs(value) for row in matrix for value in row), default=0.0) if signed else 1.0
    with_values = len(columns) <= 24
    cell = (_WIDE if signed else _CELL) if with_values else max(6, 620 // len(columns))
    left, top = (round(_LETTER * max(map(len, names)) + 10) for names in (row_names, column_names))
    parts = []
    for i, name in enumerate(row_names):
        if cell >= 10:
            y = top + cell * i + cell / 2 + 4
            parts.append(Markup('<text class="y" x="{}" y="{:.0f}">{}</text>').format(left - 6, y, name))
    for j, name in enumerate(column_names):
        if cell >= 10:
            x = left + cell * j + cell / 2 + 4
            turned = Markup('<text transform="translate({:.0f} {}) rotate(-90)">{}</text>')
            parts.append(turned.format(x, top - 6, name))
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            x, y = left + cell * j, top + cell * i
            share = value / (largest or 1.0)
            shade = _diverging(share) if signed else SHADES[round(min(1.0, max(0.0, share)) * (len(SHADES) - 1))]
            label = f"{rows[i]}, {columns[j]}: {value:.3f}"
            parts.append(
                Markup('<rect x="{}" y="{}" width="{s}" height="{s}" fill="{}"><title>{}</title></rect>').format(
                    x, y, shade, label, s=cell - 1
                )
            )
            if with_values:
                dark = abs(share) >= 0.65 if signed else share >= 0.65
                parts.append(
                    Markup('<text class="{}" x="{:.1f}" y="{:.0f}">{}</text>').format(
                        "on" if dark else "in", x + (cell - 1) / 2, y + cell / 2 + 3, _value(value)
                    )
                )
    width, height = left + cell * len(columns) + 4, top + cell * len(rows) + 4
    return Markup('<svg class="matrix" viewBox="0 0 {w} {h}" width="{w}" role="img"><title>{}</title>{}</svg>').format(
        title, Markup("").join(parts), w=width, h=height
    )


def _value(value: float) -> str:
    # .97 instead of 0.97: a cell has room for four characters.
    if abs(value) >= 9.995:
        return f"{value:.0f}".replace("-", "−")
    text = f"{value:.1f}" if value < -0.995 else f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("-", "−").replace("−0.", "−.").removeprefix("0")


def _diverging(share: float) -> str:
    end = RED if share > 0 else BLUE
    return "#" + "".join(
        f"{round(white + abs(share) * (own - white)):02x}" for white, own in zip(WHITE, end, strict=True)
    )
