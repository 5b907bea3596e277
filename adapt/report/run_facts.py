"""The facts about a run at the end of the report: date, command, versions, machine, hours of speech, seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapt import formatting

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison


def run_facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the name and the text of each recorded fact."""
    run = comparison.run
    if run is None:
        return []
    facts = [
        ("Date", run.date.replace("T", " ").replace("+00:00", " UTC")),
        ("Command", run.command),
        ("Data", "; ".join(_amount(comparison, name) for name in run.examples)),
        ("Seed", "" if run.seed is None else str(run.seed)),
        ("Learning rate", "" if run.learning_rate is None else f"{run.learning_rate:g}"),
        ("Defaults", run.defaults),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("Machine", run.machine),
    ]
    return [(name, value) for name, value in facts if value]


def _amount(comparison: Comparison, name: str) -> str:
    assert comparison.run is not None
    count = formatting.counted(comparison.run.examples[name], comparison.example_name)
    hours = comparison.run.hours.get(name)
    return f"{name.replace('_', ' ')} {count}" + ("" if hours is None else f" ({hours:.2f} hours)")
