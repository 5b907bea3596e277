"""The result as a table on the terminal."""

from pathlib import Path

from adapt.comparison.results import Comparison


def print_result(comparison: Comparison, folder: Path) -> None:
    """Print the figures before and after, what was trained and changed, the time, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=comparison.title, title_justify="left", caption_justify="left")
    for column in ("", "before", "after", "change [95 % interval]"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, result in comparison.sets.items():
        for metric in comparison.metrics:
            key, scale = metric.key, metric.scale
            low, high = result.difference[key]
            old, new = result.before[key], result.after[key]
            change = f"{scale * (new - old):+.1f} [{scale * low:+.1f}, {scale * high:+.1f}]"
            label = f"{metric.label} {name}{', %' if metric.percent else ''}"
            table.add_row(label, f"{scale * old:.1f}", f"{scale * new:.1f}", change)
        table.add_section()
    weights = comparison.weights
    if weights is not None:
        for what, count in (("trained", weights.trained), ("changed", weights.changed)):
            table.add_row(f"weights {what}", "", f"{count:,}", f"{count / weights.total:.1%} of {weights.total:,}")
            if what == "trained" and 0 < weights.parameters < count:  # factors stand for weights
                table.add_row(
                    "  by numbers", "", f"{weights.parameters:,}", f"{weights.parameters / weights.total:.1%}"
                )
    table.add_row("time, s", "", f"{comparison.seconds:.0f}", "")
    console = Console(width=max(Console().width, 78))
    console.print(table)
    console.print(f"The report: {(folder / 'report.html').absolute()}", soft_wrap=True, highlight=False)
