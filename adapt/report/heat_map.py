"""A matrix of similarities as inline SVG: a cell for each pair of layers, the darker the more alike."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

# From nothing in common to the same, evenly; fixed, so that the same shade is the same value in every picture.
SHADES = (
    "#ffffff", "#eaf3f4", "#d3e6e8", "#b9d8db", "#9cc8cd", "#7db6bd", "#5ca2aa", "#3d8c95", "#20757f", "#0b5e67",
    "#04444b",
)  # fmt: skip
_CELL, _LETTER = 26, 6.2


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[float]]) -> Markup:
    """The cells of `matrix`, rows from above, from white (0 or less) to dark (1), each with its value.

    Names are cut to their ends, where layers differ; beyond 24 columns cells hold no figure, and each says its own
    where one points at it.
    """
    down, along = short_names(rows), short_names(columns)
    cell = _CELL if len(columns) <= 24 else max(6, 620 // len(columns))
    left, top = (round(_LETTER * max(map(len, names)) + 10) for names in (down, along))
    parts = []
    for i, name in enumerate(down):
        if cell >= 10:
            y = top + cell * i + cell / 2 + 4
            parts.append(Markup('<text class="y" x="{}" y="{:.0f}">{}</text>').format(left - 6, y, name))
    for j, name in enumerate(along):
        if cell >= 10:
            x = left + cell * j + cell / 2 + 4
            turned = Markup('<text transform="translate({:.0f} {}) rotate(-90)">{}</text>')
            parts.append(turned.format(x, top - 6, name))
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            x, y = left + cell * j, top + cell * i
            shade = SHADES[round(min(1.0, max(0.0, value)) * (len(SHADES) - 1))]
            label = f"{rows[i]}, {columns[j]}: {value:.3f}"
            parts.append(
                Markup('<rect x="{}" y="{}" width="{s}" height="{s}" fill="{}"><title>{}</title></rect>').format(
                    x, y, shade, label, s=cell - 1
                )
            )
            if cell == _CELL:
                dark = value >= 0.65
                parts.append(
                    Markup('<text class="{}" x="{:.1f}" y="{:.0f}">{}</text>').format(
                        "on" if dark else "in", x + (cell - 1) / 2, y + cell / 2 + 3, _figure(value)
                    )
                )
    width, height = left + cell * len(columns) + 4, top + cell * len(rows) + 4
    return Markup('<svg class="heat" viewBox="0 0 {w} {h}" width="{w}" role="img"><title>{}</title>{}</svg>').format(
        title, Markup("").join(parts), w=width, h=height
    )


def _figure(value: float) -> str:
    # .97 rather than 0.97: a cell has room for three letters.
    text = f"{value:.2f}".replace("-", "−")
    return "0" if float(f"{value:.2f}") == 0 else text.replace("0.", ".")


def short_names(names: Sequence[str]) -> list[str]:
    """The names without the parts that all of them begin with."""
    parts = [name.split(".") for name in names]
    same = 0
    while len(parts) > 1 and all(len(own) > same + 1 and own[same] == parts[0][same] for own in parts):
        same += 1
    return [".".join(own[same:]) for own in parts]
