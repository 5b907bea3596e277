"""Print the result of a comparison as a table on the terminal."""

from pathlib import Path

from adapt.comparison.results import Comparison


def print_result(comparison: Comparison, folder: Path) -> None:
    """Print the metrics before and after, the number of trained and changed weights, and the path of the report."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=comparison.title, title_justify="left", caption_justify="left")
    for column in ("", "before", "after", "change [95 % interval]"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, result in comparison.sets.items():
        for metric in comparison.metrics:
            key, scale = metric.key, metric.scale
            low, high = result.difference[key]
            before, after = result.before[key], result.after[key]
            change = f"{scale * (after - before):+.1f} [{scale * low:+.1f}, {scale * high:+.1f}]"
            label = f"{metric.label} {name}, %" if metric.percent else f"{metric.label} {name}"
            table.add_row(label, f"{scale * before:.1f}", f"{scale * after:.1f}", change)
        table.add_section()
    weights = comparison.weights
    if weights is not None:
        total = weights.total
        table.add_row("weights trained", "", f"{weights.trained:,}", f"{weights.trained / total:.1%} of {total:,}")
        if (
            0 < weights.parameters < weights.trained
        ):  # low-rank factors: fewer parameters than the weights that they change
            table.add_row("  parameters", "", f"{weights.parameters:,}", f"{weights.parameters / total:.1%}")
        table.add_row("weights changed", "", f"{weights.changed:,}", f"{weights.changed / total:.1%} of {total:,}")
    table.add_row("time, s", "", f"{comparison.seconds:.0f}", "")
    console = Console(width=max(Console().width, 78))
    console.print(table)
    console.print(f"Report: {(folder / 'report.html').absolute()}", soft_wrap=True, highlight=False)
