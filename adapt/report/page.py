"""A comparison as one HTML page that needs nothing else: no script, no network; same data, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from adapt.files import write_text
from adapt.report import columns, figures, wording

if TYPE_CHECKING:
    from adapt.comparison import Comparison, GroupResult, SetResult, Transcript
    from adapt.introspect.weights import LayerChange, WeightChange

MOST_GROUPS = 100
_FILTERS = (
    wording.percent, wording.percent_range, wording.points, wording.points_range, wording.count, wording.relative,
    wording.cosine, wording.duration, wording.better, wording.short,
)  # fmt: skip


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for said in _FILTERS:
        environment.filters[said.__name__] = said
    return environment.get_template("page.html.j2").render(
        comparison=comparison,
        summary=wording.summary(comparison),
        result=_result_table(comparison.sets),
        few=[name for name, result in comparison.sets.items() if result.before["utterances"] < wording.FEW_UTTERANCES],
        FEW_UTTERANCES=wording.FEW_UTTERANCES,
        tables=_group_tables(comparison.groups),
        transcripts=[_aligned(transcript) for transcript in comparison.transcripts],
        history=_learning(comparison.history),
        weights=comparison.weights and _weights(comparison.weights),
        shades=figures.shade_key(),
        UNITS_A_ROW=figures.UNITS_A_ROW,
        share=wording.share,
        counted=wording.counted,
    )


@dataclass(frozen=True)
class _Rate:
    """A row of the result table; only the WER's difference has a paired interval."""

    measure: str
    difference: float
    interval: tuple[float, float] | None
    verdict: wording.Verdict | None
    picture: Markup


def _result_table(sets: Mapping[str, SetResult]) -> dict[str, Any] | None:
    if not sets:
        return None
    scale = figures.rate_axis([rates for own in sets.values() for rates in (own.before, own.after)], ("wer", "cer"))
    rows = {
        name: [
            _Rate(
                measure,
                result.after[measure] - result.before[measure],
                result.difference if measure == "wer" else None,
                wording.verdict(result) if measure == "wer" else None,
                figures.interval_pair(f"{name} {measure.upper()}", result.before, result.after, measure, scale),
            )
            for measure in ("wer", "cer")
        ]
        for name, result in sets.items()
    }
    return {"labels": figures.axis_labels(scale), "rows": rows}


@dataclass(frozen=True)
class _GroupRow:
    group: GroupResult
    change: float
    picture: Markup

    @property
    def clear(self) -> bool:
        """Whether the intervals before and after are apart: a stricter test than a paired one, which groups lack."""
        (low, high), (new_low, new_high) = self.group.before["wer_interval"], self.group.after["wer_interval"]
        return new_high < low or high < new_low


@dataclass(frozen=True)
class _GroupTable:
    set: str
    key: str
    labels: Markup
    rows: list[_GroupRow]
    left_out: int

    @property
    def dense(self) -> bool:
        """Whether the rows must be close together to be seen at once."""
        return len(self.rows) > 24


def _group_tables(groups: Sequence[GroupResult]) -> list[_GroupTable]:
    by_table: dict[tuple[str, str], list[GroupResult]] = {}
    for group in groups:
        by_table.setdefault((group.set, group.key), []).append(group)
    return [
        _group_table(name, key, found)
        for (name, key), found in by_table.items()
        # Utterances that all lack the key are one group that the result table shows already.
        if [group.value for group in found] != ["unknown"]
    ]


def _group_table(name: str, key: str, found: Sequence[GroupResult]) -> _GroupTable:
    changes = sorted(
        ((group.after["wer"] - group.before["wer"], group.value, group) for group in found), key=lambda c: c[:2]
    )
    left_out = max(0, len(changes) - MOST_GROUPS)
    if left_out:  # those in the middle changed least
        changes = changes[: MOST_GROUPS // 2] + changes[-(MOST_GROUPS // 2) :]
    scale = figures.rate_axis([rates for _, _, group in changes for rates in (group.before, group.after)])
    rows = [
        _GroupRow(group, change, figures.interval_pair(f"{key} {value}", group.before, group.after, "wer", scale))
        for change, value, group in changes
    ]
    return _GroupTable(name, key, figures.axis_labels(scale), rows, left_out)


def _aligned(transcript: Transcript) -> tuple[Transcript, str, list[list[columns.Column]]]:
    # The file's name is enough to recognise it by; where it lies is in comparison.json.
    return transcript, Path(transcript.audio).name, list(columns.lines(columns.columns(transcript)))


def _learning(history: Sequence[dict[str, float]]) -> dict[str, Any] | None:
    if not history:
        return None
    loss = [
        figures.curve("training", "training", history, "train_loss"),
        figures.curve("validation", "validation", history, "val_loss"),
    ]
    rates = [figures.curve("WER", "validation", history, "val_wer"), figures.curve("CER", "cer", history, "val_cer")]
    words = rates[0].values
    return {
        "rows": history,
        "loss": figures.curves("Loss by epoch", loss, rates=False),
        "rates": figures.curves("Error rates on the validation set by epoch", rates, rates=True),
        "best": min(words, key=lambda epoch: (words[epoch], epoch)) if words else None,
        "keys": [key for key in _HISTORY if any(key in row for row in history)],
        "names": _HISTORY,
    }


_HISTORY = {
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
    "val_wer": "Validation WER",
    "val_cer": "Validation CER",
    "learning_rate": "Learning rate",
    "seconds": "Time",
}


@dataclass(frozen=True)
class _LayerRow:
    layer: LayerChange
    state: str
    bar: Markup
    strip: Markup
    neurons: str


def _weights(weights: WeightChange) -> dict[str, Any]:
    # Two models that already exist do not tell what was free to change when one became the other.
    known = weights.trained > 0
    largest = max((layer.relative for layer in weights.layers if layer.relative < float("inf")), default=0.0)
    rows = [
        _LayerRow(
            layer,
            _state(layer, known),
            figures.bar(layer.relative, largest),
            figures.neuron_strip(layer.name, layer.neurons),
            figures.describe(layer.neurons),
        )
        for layer in weights.layers
    ]
    untrained = [row for row in rows if row.layer.trained == 0]
    return {
        "change": weights,
        "known": known,
        "rows": rows,
        "untrained": len(untrained),
        "identical": sum(row.state != "" for row in untrained),
        "drifted": [row.layer.name for row in untrained if row.state == ""],
    }


def _state(layer: LayerChange, known: bool) -> str:
    if layer.trained or layer.changed or layer.buffers_changed:
        return ""
    return "frozen: bit-identical" if known else "bit-identical"
