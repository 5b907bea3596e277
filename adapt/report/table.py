"""Print the result of a comparison as a table on the terminal."""

from pathlib import Path

from adapt.comparison.results import Comparison
from adapt.formatting import NO_INTERVAL
from adapt.terminal import Table, say


def print_result(comparison: Comparison, folder: Path) -> None:
    """Print the metrics before and after, the number of trained and changed weights, and the path of the report."""
    table = Table(comparison.title, ("", "before", "after", "change [95 % interval]"), wrap=False)
    for name, result in comparison.sets.items():
        for metric in comparison.metrics:
            key, scale = metric.key, metric.scale
            low, high = result.difference[key]
            before, after = result.before[key], result.after[key]
            interval = f"[{scale * low:+.1f}, {scale * high:+.1f}]" if result.before["examples"] > 1 else NO_INTERVAL
            change = f"{scale * (after - before):+.1f} {interval}"
            label = f"{metric.label} {name}, %" if metric.percent else f"{metric.label} {name}"
            table.row(label, f"{scale * before:.1f}", f"{scale * after:.1f}", change)
        if name in comparison.writing:
            before, after = (100 * one.rates["wer"] for one in comparison.writing[name])
            table.row("  WER as written, %", f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}")
        table.rule()
    if comparison.non_speech is not None:
        before, after = (one.words_per_minute for one in comparison.non_speech)
        table.row("words a minute without speech", f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}")
    weights = comparison.weights
    if weights is not None:
        total = weights.total
        table.row("weights trained", "", f"{weights.trained:,}", f"{weights.trained / total:.1%} of {total:,}")
        if (
            0 < weights.parameters < weights.trained
        ):  # low-rank factors: fewer parameters than the weights that they change
            table.row("  parameters", "", f"{weights.parameters:,}", f"{weights.parameters / total:.1%}")
        table.row("weights changed", "", f"{weights.changed:,}", f"{weights.changed / total:.1%} of {total:,}")
    table.row("time, s", "", f"{comparison.seconds:.0f}", "")
    table.show(min_width=78)
    say(f"Report: {(folder / 'report.html').absolute()}")
