"""The sentence that opens each section of the report: what follows from the table or the picture below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adapt import formatting
from adapt.metrics import more_than_chance
from adapt.report import wording

if TYPE_CHECKING:
    from adapt.comparison.causes import Causes, Effect
    from adapt.comparison.neurons import NeuronComparison
    from adapt.comparison.results import Comparison
    from adapt.introspect.probes.probe import Probe
    from adapt.introspect.topography.maps import TopographicMap
    from adapt.introspect.weights.change import WeightChange
    from adapt.metrics import Metric

_MAX_NAMED = 4  # layers named in a sentence


def about_groups(key: str, better: Sequence[bool], clear: Sequence[bool], place: str, metric: Metric) -> str:
    """Say for how many groups a metric clearly changed.

    Args:
        key: What the groups are: speaker, accent, ...
        better: For each group, whether the metric improved.
        clear: For each group, whether the change is clear.
        place: The set, as text: "Scottish English" or "the target set".
        metric: The metric.
    """
    improved = sum(one and sure for one, sure in zip(better, clear, strict=True))
    worsened = sum(not one and sure for one, sure in zip(better, clear, strict=True))
    groups = formatting.counted(len(better), f"{key} group" if key.endswith("s") else key)
    if not improved and not worsened:
        return f"On {place}, {metric.label} changed clearly for none of {groups}."
    counts = [f"{number:,}" if number else "none" for number in (improved, worsened)]
    return (
        f"On {place}, {metric.label} is clearly better for {counts[0]} of {groups} and clearly worse for {counts[1]}."
    )


def about_words(comparison: Comparison) -> str:
    """Say how many words changed significantly on each set; empty if no words were counted."""
    clauses = []
    for name, changes in comparison.words.items():
        significant = [word for word in changes.words if word.significant]
        improved = sum(word.improved > word.worsened for word in significant)
        place, worsened = wording.set_label(comparison, name), len(significant) - improved
        if significant:
            clauses.append(f"{improved:,} words improved and {worsened:,} worsened significantly on {place}")
        else:
            clauses.append(f"no single word changed significantly on {place}")
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def about_training(comparison: Comparison) -> str:
    """Say which epoch was best on the validation data; empty if that was not measured."""
    metric = comparison.metrics[0]
    key, sign = f"val_{metric.key}", -1 if metric.higher else 1
    rows = [row for row in comparison.history if key in row]
    if not rows:
        return ""
    best = min(rows, key=lambda row: (sign * row[key], row["epoch"]))
    place = f"epoch {best['epoch']:.0f} of {len(comparison.history)}"
    text = f"Validation {metric.label} was best in {place}: {formatting.amount(best[key], metric)}."
    if len(rows) > 2 and best is rows[-1]:
        text += " It was still improving when training ended, so more epochs may help."
    return text


def about_weights(weights: WeightChange) -> str:
    """Say which layers changed, and which changed most."""
    names = formatting.short_names([layer.name for layer in weights.layers])
    changed = [(layer, name) for layer, name in zip(weights.layers, names, strict=True) if layer.changed]
    if not changed:
        return "No weight changed."
    most, name = max(changed, key=lambda pair: pair[0].relative)
    layers = formatting.counted(len(weights.layers), "layer")
    if len(changed) == len(weights.layers):
        text = f"All {layers} changed" if len(changed) > 1 else "The only layer changed"
    else:
        text = f"{len(changed):,} of {layers} changed, and the others kept every bit"
    return f"{text}. {name} changed most, by {formatting.relative(most.relative)}."


def about_neurons(neurons: NeuronComparison) -> str:
    """Say how many neurons respond differently, and which layer changed most."""
    changed, units = sum(site.changed for site in neurons.sites), sum(site.units for site in neurons.sites)
    if not changed:
        return "No neuron responds significantly differently."
    text = f"{changed:,} of {units:,} neurons respond significantly differently"
    names = formatting.short_names([site.site for site in neurons.sites])
    known = [(site.cka, name) for site, name in zip(neurons.sites, names, strict=True) if site.cka is not None]
    if not known:
        return f"{text}."
    cka, name = min(known)
    return f"{text}. The representation of {name} changed most (CKA {cka:.3f})."


def about_probes(probes: tuple[Probe, Probe]) -> str:
    """Say in which layers the target can be read off before and after."""
    before, after = probes
    shown = [sum(row.above_chance(probe.chance) for row in probe.rows) for probe in probes]
    if not (before.above_chance or after.above_chance):
        return (
            f"Nothing follows from this: no probe predicts the {before.target} clearly better than it learns random "
            "labels, neither before nor after."
        )
    layers = formatting.counted(len(after.rows), "layer")
    return f"The {before.target} can be read from {shown[0]} of {layers} before and from {shown[1]} after."


def about_maps(maps: Sequence[TopographicMap]) -> str:
    """Say which layer responds most differently, and to which group."""
    from adapt.report.maps import relative_change

    largest, where = 0.0, ""
    names = formatting.short_names([one.name for one in maps])
    for one, name in zip(maps, names, strict=True):
        change = relative_change(one)
        if change.max() > largest:
            largest, where = float(change.max()), f"of {name} to {one.groups[int(change.argmax())]}"
    return f"The response {where} changed most, by {100 * largest:.0f} % of a typical response." if where else ""


def about_causes(causes: Causes, metric: Metric, places: dict[str, str]) -> str:
    """Say which layers are needed for the gain or the loss on each set, and which bring it alone.

    Args:
        causes: The effects of reverting and of applying each layer's change.
        metric: The metric.
        places: The sets as text: "Scottish English" or "the target set".
    """
    layers = [cause for cause in causes.parts if cause.kind == "layer"]
    names = formatting.short_names([cause.part for cause in layers])
    sentences = []
    for name in causes.examples:
        change = causes.after[name][metric.key] - causes.before[name][metric.key]
        gain = change > 0 if metric.higher else change < 0
        if change and layers:
            text = f"{'gain' if gain else 'loss'} on {places[name]}"
            effects = {
                layer: (cause.reverted[name], cause.applied[name]) for layer, cause in zip(names, layers, strict=True)
            }
            sentences.append(_causes_of(text, effects, gain, causes.before[name][metric.key], change, metric))
    return " ".join(sentences)


def _causes_of(
    what: str, effects: Mapping[str, tuple[Effect, Effect]], gain: bool, before: float, change: float, metric: Metric
) -> str:
    """Say which layers a change needs, given the effects of reverting each layer and of applying it alone."""
    # A layer is needed if the result without its change is clearly further from the adapted model's.
    undone, same = ("worse", "better") if gain else ("better", "worse")
    needed, alone = [], {}
    for layer, (reverted, applied) in effects.items():
        if wording.verdict(reverted.difference[metric.key], metric) == undone:
            needed.append(layer)
        if wording.verdict(applied.difference[metric.key], metric) == same:
            alone[layer] = (applied.values[metric.key] - before) / change
    needed = needed if more_than_chance(len(needed), len(effects)) else []
    alone = alone if more_than_chance(len(alone), len(effects)) else {}
    text = (
        f"The {what} needs the change of {_listed(needed)}" if needed else f"No single layer is needed for the {what}"
    )
    if not alone:
        return f"{text}; no single layer brings it alone."
    best = max(alone, key=lambda layer: alone[layer])
    return f"{text}; {best} alone brings {100 * alone[best]:.0f} % of it."


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MAX_NAMED:
        return f"{', '.join(names[:_MAX_NAMED])} and {len(names) - _MAX_NAMED} more layers"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
