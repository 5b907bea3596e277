"""Attribute a change in quality to parts of the model, by reverting or applying the weight change one part at a time.

There is no further model: the adapted one refers to the weights of the original one while a part is reverted.

Activation patching does the same for activations: the output of one layer is replaced by the other model's output.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapt.comparison.patching import PatchedLayer, patch_layers
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly
from adapt.introspect.reading import learnable
from adapt.introspect.scores import change
from adapt.metrics import TextScores, paired_intervals
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.models.state import weights
from adapt.progress import track
from interventions.bits import changed_bits
from interventions.neurons import Neurons
from interventions.sites import Site, find_sites

Kind = Literal["layer", "neurons", "random"]
Part = Mapping[str, Tensor | None]  # by parameter name: the rows that belong to the part; None for all of them
MAX_PARTS = 16


@dataclass(frozen=True)
class Effect:
    """The metrics on one set of a model in which one part of the weights was reverted or applied.

    `difference` holds the 95 % interval of each metric's change relative to the model that was modified (paired by
    example).
    """

    values: dict[str, float]
    difference: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Cause:
    """How one part of the weight change affects the metrics of each set.

    Attributes:
        part: A layer, or a group of neurons.
        kind: "layer", "neurons", or "random" for a control group of neurons.
        weights: The number of weights that changed in this part.
        reverted: The effect, by set, of restoring this part's old weights in the adapted model.
        applied: The effect, by set, of putting this part's new weights into the original model.
    """

    part: str
    kind: Kind
    weights: int
    reverted: dict[str, Effect]
    applied: dict[str, Effect]


@dataclass(frozen=True)
class Causes:
    """The effects of all parts of a weight change.

    Attributes:
        examples: The number of examples of each set on which the effects were measured.
        before: The metrics of the original model on these examples, by set.
        after: The metrics of the adapted model on these examples, by set.
        parts: The effect of each part.
        patched: For each layer, the losses when its activations are replaced by those of the other model.
        losses: The mean losses of the original and the adapted model, by set.
        not_reverted: Parameters that cannot be reverted, because the output layer was rebuilt for another alphabet.
    """

    examples: dict[str, int]
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    parts: list[Cause]
    patched: list[PatchedLayer]
    losses: dict[str, tuple[float, float]]
    not_reverted: list[str]


def find_causes(
    before: Model,
    after: Model,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    max_examples: int = 100,
    neurons: Mapping[str, Neurons] | None = None,
) -> Causes:
    """Measure what happens if the weight change of one layer is reverted, or is the only one applied.

    If more than `MAX_PARTS` layers changed, adjacent layers are grouped. The layers of a deep network depend on each
    other, so the effects of the parts need not add up to the effect of the whole change.

    Args:
        before: The original model.
        after: The adapted model, of the same architecture.
        sets: The examples of each set.
        loader: Makes batches of the examples.
        max_examples: The maximum number of examples to decode from each set, spread evenly over it.
        neurons: Groups of neurons whose weights are also reverted and applied, by name. A name that starts with
            "random" marks a control. None uses `most_changed_neurons`.

    Returns:
        The effects of the layers and of the groups of neurons.

    Raises:
        ValueError: The models differ in architecture, or no weight changed.
    """
    old, new = weights(before.net), weights(after.net)
    not_reverted, changed = _changed_weights(before, after, old, new)
    whole: Part = dict.fromkeys(changed)
    sets = {name: evenly(examples, max_examples) for name, examples in sets.items()}
    groups = most_changed_neurons(before, after) if neurons is None else neurons

    def evaluate(part: Part, but: Part) -> dict[str, TextScores]:
        with _reverted(after, old, part, but):
            return {
                name: after.task.score(examples, decode_examples(after, after.task, examples, loader, ""))
                for name, examples in sets.items()
            }

    scores_after = evaluate({}, {})
    scores_before = evaluate(whole, {})
    causes = []
    for name, kind, part in track(_parts(after, changed, groups), "causes"):
        reverted = _effects(scores_after, evaluate(part, {}))
        applied = _effects(scores_before, evaluate(whole, part))
        count = sum(_count(old[name], new[name], rows) for name, rows in part.items())
        causes.append(Cause(name, kind, count, reverted, applied))
    patched, losses = [], {}
    # Models with different vocabularies or prompts run for different numbers of steps, so activations cannot be
    # exchanged between them.
    if before.vocabulary == after.vocabulary and before.header() == after.header():
        with_loss = {name: learnable(after, examples) for name, examples in sets.items()}
        with_loss = {name: examples for name, examples in with_loss.items() if examples}
        if with_loss:
            patched, losses = patch_layers(before, after, with_loss, loader)
    return Causes(
        examples={name: len(examples) for name, examples in sets.items()},
        before={name: scores.values() for name, scores in scores_before.items()},
        after={name: scores.values() for name, scores in scores_after.items()},
        parts=causes,
        patched=patched,
        losses=losses,
        not_reverted=not_reverted,
    )


def most_changed_neurons(before: Model, after: Model, share: float = 0.05, seed: int = 0) -> dict[str, Neurons]:
    """Return the most changed neurons (`share` of all changed ones), and as many randomly chosen ones as a control.

    How much a neuron changed is measured on its weights (`adapt.introspect.scores.change`). The result is empty if
    `share` amounts to no neuron, or to at least half of the changed neurons.
    """
    old, new = (dict(model.named_parameters(remove_duplicate=False)) for model in (before, after))
    sites = [
        site
        for site in find_sites(after)
        if site.rows and all(name in old and old[name].shape == new[name].shape for name in site.rows)
    ]
    scores = change(before, after, sites)
    places = [(site, unit) for site in sites for unit in (scores[site] > 0).nonzero().flatten().tolist()]
    count = round(share * len(places))
    if not 0 < count < len(places) / 2:
        return {}
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    drawn: dict[Site, list[int]] = {site: [] for site in sites}
    for site, unit in (places[i] for i in order):
        drawn[site].append(unit)
    return {
        f"the {count:,} neurons that changed most": scores.top(count),
        f"random {count:,} of the changed neurons": Neurons(drawn),
    }


def _changed_weights(
    before: Model, after: Model, old: Mapping[str, Tensor], new: Mapping[str, Tensor]
) -> tuple[list[str], list[str]]:
    """Return the names of the parameters that cannot be reverted, and of all others that changed."""
    if old.keys() != new.keys():
        raise ValueError(f"Expected two models of one architecture; they differ in '{min(old.keys() ^ new.keys())}'.")
    # If the alphabets differ, the rows of the output layers belong to different characters, whatever their shapes.
    head = after.head.removeprefix("net.") if before.vocabulary != after.vocabulary else None
    not_reverted = sorted(n for n in new if old[n].shape != new[n].shape or (head and n.startswith(f"{head}.")))
    changed = [n for n in new if n not in not_reverted and not torch.equal(old[n].cpu(), new[n].cpu())]
    if not changed:
        exception = " except in the output layer, which was rebuilt for another alphabet" if not_reverted else ""
        raise ValueError(f"No weight differs between the two models{exception}, so there are no causes to find.")
    return not_reverted, changed


def _count(old: Tensor, new: Tensor, rows: Tensor | None) -> int:
    """Return how many weights changed, in these rows."""
    pair = (old, new) if rows is None else (old[rows.to(old.device)], new[rows.to(new.device)])
    return int(changed_bits(*(one.cpu() for one in pair)).sum())


def _effects(reference: Mapping[str, TextScores], scores: Mapping[str, TextScores]) -> dict[str, Effect]:
    return {name: Effect(new.values(), paired_intervals(reference[name], new)) for name, new in scores.items()}


def _parts(model: Model, changed: Sequence[str], groups: Mapping[str, Neurons]) -> list[tuple[str, Kind, Part]]:
    """Return the name, the kind and the weights of each part: the layers, followed by the groups of neurons."""
    parts: list[tuple[str, Kind, Part]] = [(name, "layer", part) for name, part in _layers(model, changed)]
    for name, neurons in groups.items():
        parts.append((name, "random" if name.startswith("random") else "neurons", _rows(neurons, changed)))
    return parts


def _layers(model: Model, changed: Sequence[str]) -> list[tuple[str, Part]]:
    """Divide the changed weights among the layers from input to output. Weights outside all layers come last."""
    layers, rest = [], dict.fromkeys(changed)
    for layer in model.layers:
        modules = set(layer.modules)
        part = {name: rest.pop(name) for name in changed if name in rest and _module(name) in modules}
        if part:
            layers.append((layer.name, part))
    if rest:
        layers.append(("outside the layers", rest))
    size = -(-len(layers) // MAX_PARTS)
    groups = [layers[start : start + size] for start in range(0, len(layers), size)]
    return [
        (
            group[0][0] if size == 1 else f"{group[0][0]} to {group[-1][0]}",
            {name: None for _, part in group for name in part},
        )
        for group in groups
    ]


def _module(name: str) -> str:
    return f"net.{name}".rpartition(".")[0]


def _rows(neurons: Neurons, changed: Sequence[str]) -> Part:
    """Return the rows of these neurons, of the parameters that changed."""
    return {
        name: torch.tensor(sorted(neurons[site]), dtype=torch.long)
        for site in neurons.used
        for name in (row.removeprefix("net.") for row in site.rows)
        if name in changed
    }


@contextmanager
def _reverted(model: Model, old: Mapping[str, Tensor], part: Part, but: Part) -> Iterator[None]:
    """Within the block, the model has the old values of a part of its weights, except for those in `but`.

    Its tensors refer to other memory, and are not written to. Only where a part has some of a parameter's rows, a
    further tensor of its size is needed.
    """
    named = {**dict(model.net.named_buffers()), **dict(model.net.named_parameters(remove_duplicate=False))}
    own = {name: named[name].data for name in part if name not in but or but[name] is not None}
    try:
        for name, values in own.items():
            kept = but.get(name)
            rows = part[name] if kept is None else kept
            first, second = (values, old[name]) if kept is None else (old[name], values)
            named[name].data = _mixed(first.to(values), second.to(values), rows)
        yield
    finally:
        for name, values in own.items():
            named[name].data = values


def _mixed(values: Tensor, others: Tensor, rows: Tensor | None) -> Tensor:
    """Return `values` with some rows of `others`; None for all rows."""
    if rows is None:
        return others
    return values.clone().index_copy_(0, rows.to(values.device), others[rows.to(others.device)])
