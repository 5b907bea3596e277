"""Draw the figure of `study_transfer.py` as SVG: a row of three panels for each pair of languages or accents."""

import html
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapt.report.figures import Axis, axis

# Okabe and Ito's colours, which colour-blind readers can distinguish, and a shape for each.
STYLES = (("#0072b2", "circle"), ("#d55e00", "square"), ("#009e73", "triangle"), ("#cc79a7", "diamond"))
INK, PALE = "#222222", "#d9dde1"
WIDTH, ROW, TOP = 1200, 400, 44  # all lengths are in units of the SVG
PANELS = ((60, 370), (500, 770), (850, 1140))  # left and right end of each column
UPPER, LOWER = 62, 318  # ends of a panel within its row
LINE_HEIGHT = 17  # smallest distance between the names of lines


@dataclass(frozen=True)
class Panel:
    """A frame with two axes. `x` and `y` convert values to coordinates."""

    left: float
    right: float
    upper: float
    lower: float
    along: Axis
    up: Axis

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.along.place(value)

    def y(self, value: float) -> float:
        return self.lower - (self.lower - self.upper) * self.up.place(value)


def draw(rows: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Draw a summary and its runs. Panels without runs are left out.

    Left: the WER on the target by number of frozen layers, one line per share of the data, with dashed lines for
    training from scratch. Middle: how much the weights of each layer changed with no layer frozen. Right: the WER if
    the change of one layer is reverted, or is the only change, with all of the data. All values are means over seeds.

    Args:
        rows: The rows of `study_transfer.summary`.
        results: The results of single runs.
        titles: The title of each pair.
    """
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    shares = sorted({row["share"] for row in rows}, reverse=True)
    styles = {share: STYLES[number % len(STYLES)] for number, share in enumerate(shares)}
    parts = [f'<rect width="{WIDTH}" height="{TOP + ROW * len(pairs)}" fill="white"/>', _key(styles)]
    for number, pair in enumerate(pairs):
        top = TOP + ROW * number
        own = [row for row in rows if row["pair"] == pair]
        found = [one for one in results if one["pair"] == pair and one["frozen"] == 0]
        parts.append(_text(PANELS[0][0] - 46, top + 24, titles[pair], size=19, weight="bold"))
        parts += _wer(own, styles, top)
        parts += _moved(found, styles, top)
        parts += _causes(found, top)
    size = f"{WIDTH} {TOP + ROW * len(pairs)}"
    font = "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\""
    label = "WER by frozen layers, change of each layer, and what caused the change in WER"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {font} fill="{INK}" role="img">'
        f"<title>{label}</title>{''.join(parts)}</svg>\n"
    )


def _wer(rows: Sequence[Mapping[str, Any]], styles: Mapping[float, tuple[str, str]], top: float) -> list[str]:
    values = [row["target"][0] for row in rows]
    counts = sorted({row["frozen"] for row in rows if row["frozen"] is not None}) or [0]
    panel = _panel(0, top, Axis((counts[0] - 0.4, counts[-1] + 0.4)), axis(0, max(values), max_ticks=8))
    parts = _frame(panel, "WER on the target, %", "frozen layers, from the input", {n: str(n) for n in counts})
    names = []
    for share, (colour, shape) in styles.items():
        own = {row["frozen"]: row["target"][0] for row in rows if row["share"] == share and row["frozen"] is not None}
        parts.append(_line(panel, dict(sorted(own.items())), colour, shape))
        for row in rows:
            if row["share"] == share and row["frozen"] is None:
                y = panel.y(row["target"][0])
                dash = "7 4" if row["times"] == 1 else "2 4"
                parts.append(_stroke(panel.left, y, panel.right, y, colour, 1.8, dash))
                times = "" if row["times"] == 1 else f" ×{row['times']:g}"
                names.append((y, f"scratch{times}", colour))
    for y, (_, name, colour) in zip(_spread([name[0] for name in names]), sorted(names), strict=True):
        parts.append(_text(panel.right + 5, y + 5, name, colour=colour, size=15))
    return parts


def _moved(found: Sequence[Mapping[str, Any]], styles: Mapping[float, tuple[str, str]], top: float) -> list[str]:
    found = [one for one in found if one["layers"]]
    if not found:
        return []
    layers = list(found[0]["layers"])
    lines = {}
    for share in styles:
        own = [one["layers"] for one in found if one["share"] == share]
        if own:
            lines[share] = {n: 100 * statistics.fmean(one[name] for one in own) for n, name in enumerate(layers)}
    highest = max(value for line in lines.values() for value in line.values())
    panel = _panel(1, top, Axis((-0.4, len(layers) - 0.6)), axis(0, highest, max_ticks=8))
    numbers = {n: name.removeprefix("conv") for n, name in enumerate(layers)}
    parts = _frame(panel, "change of weights, % of their norm", "layer (none frozen)", numbers)
    return parts + [_line(panel, line, *styles[share]) for share, line in lines.items()]


def _causes(found: Sequence[Mapping[str, Any]], top: float) -> list[str]:
    """Draw the effect of reverting or applying the change of one layer, for the largest share of the data."""
    most = max((one["share"] for one in found), default=0)
    charts = [one["causes"] for one in found if one["share"] == most and one["causes"]]
    if not charts:
        return []
    layers = [part["part"].removeprefix("conv") for part in charts[0]["parts"] if part["kind"] == "layer"]

    def mean(of: Callable[[Mapping[str, Any]], float]) -> float:
        return 100 * statistics.fmean(of(chart) for chart in charts)

    ends = {when: mean(lambda chart, when=when: chart[when]) for when in ("before", "after")}
    causes = {
        way: [mean(lambda chart, n=n, way=way: chart["parts"][n][way]) for n in range(len(layers))]
        for way in ("alone", "without")
    }
    highest = max(*ends.values(), *causes["alone"], *causes["without"])
    panel = _panel(2, top, Axis((-0.6, len(layers) - 0.4)), axis(0, highest, max_ticks=8))
    drawn = _frame(panel, "WER, %:", "layer (none frozen)", dict(enumerate(layers)))
    for when, value in ends.items():
        drawn.append(_stroke(panel.left, panel.y(value), panel.right, panel.y(value), INK, 1.2, "4 3"))
        drawn.append(_text(panel.right + 5, panel.y(value) + 5, when, size=15))
    ways = (("alone", "before", "#8a5a00", "white", -4.5), ("without", "after", "#0072b2", "#0072b2", 4.5))
    key = {"alone": (panel.left + 34, "only its change"), "without": (panel.left + 190, "reverted")}
    for way, end, colour, fill, aside in ways:
        circle = f'r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        for n, value in enumerate(causes[way]):
            x, y = panel.x(n) + aside, panel.y(value)
            drawn.append(_stroke(x, panel.y(ends[end]), x, y, colour, 2))
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {circle}')
        x, label = key[way]
        drawn.append(f'<circle cx="{x}" cy="{panel.upper - 19}" {circle}')
        drawn.append(_text(x + 10, panel.upper - 14, label, size=16))
    return drawn


def _panel(column: int, top: float, along: Axis, up: Axis) -> Panel:
    left, right = PANELS[column]
    return Panel(left, right, top + UPPER, top + LOWER, along, up)


def _frame(panel: Panel, title: str, below: str, marks: Mapping[float, str]) -> list[str]:
    parts = [_text(panel.left - 46, panel.upper - 14, title, size=16)]
    for tick in panel.up.ticks:
        y = panel.y(tick)
        parts.append(_stroke(panel.left, y, panel.right, y, PALE, 1))
        parts.append(_text(panel.left - 7, y + 5, f"{round(tick, 6):g}", anchor="end", size=16))
    for place, mark in marks.items():
        parts.append(_text(panel.x(place), panel.lower + 20, mark, anchor="middle", size=16))
    parts.append(_text((panel.left + panel.right) / 2, panel.lower + 42, below, anchor="middle", size=16))
    return parts


def _key(styles: Mapping[float, tuple[str, str]]) -> str:
    parts, x = [], PANELS[0][0] - 46.0
    for share, (colour, shape) in styles.items():
        parts += [_stroke(x, 22, x + 30, 22, colour, 2.5), _mark(x + 15, 22, colour, shape)]
        name = f"{100 * share:g} % of the data"
        parts.append(_text(x + 38, 27, name))
        x += 64 + 8.4 * len(name)
    parts += [_stroke(x, 22, x + 30, 22, INK, 1.8, "7 4"), _text(x + 38, 27, "from scratch, same number of steps")]
    x += 318
    parts += [_stroke(x, 22, x + 30, 22, INK, 1.8, "2 4"), _text(x + 38, 27, "more steps")]
    return "".join(parts)


def _line(panel: Panel, values: Mapping[float, float], colour: str, shape: str) -> str:
    dots = [(panel.x(place), panel.y(value)) for place, value in values.items()]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    marks = "".join(_mark(x, y, colour, shape) for x, y in dots)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>{marks}'


def _mark(x: float, y: float, colour: str, shape: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    steps = {"square": "h9v9h-9z", "triangle": "l5.5 10h-11z", "diamond": "l6 6l-6 6l-6 -6z"}[shape]
    start = {"square": (x - 4.5, y - 4.5), "triangle": (x, y - 6), "diamond": (x, y - 6)}[shape]
    return f'<path d="M{start[0]:.1f} {start[1]:.1f}{steps}" fill="{colour}"/>'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 16, colour: str = INK, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{html.escape(text)}</text>'
    )


def _spread(places: Sequence[float]) -> list[float]:
    """Return the places in order, moved down so that the names do not overlap."""
    moved: list[float] = []
    for place in sorted(places):
        moved.append(max(place, moved[-1] + LINE_HEIGHT) if moved else place)
    return moved
