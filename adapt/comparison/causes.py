"""What caused the gain: each layer's change put back, and made alone; one model's activations in the other."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.reading import evenly, learnable
from adapt.introspect.scores import change
from adapt.metrics import TextScores, paired_intervals
from adapt.models.inference import decode_examples, eval_mode
from adapt.models.model import Model
from adapt.models.state import weights
from adapt.progress import track
from interventions.bits import changed_bits
from interventions.capture import capture
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.sites import Site, find_sites, site_at

Kind = Literal["layer", "neurons", "random"]
MOST_PARTS = 16


@dataclass(frozen=True)
class Effect:
    """One mixture of two models on one set: each metric's value, and the 95 % interval of its difference (examples
    paired) from the model that the mixture was made of."""

    values: dict[str, float]
    difference: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Cause:
    """What one part of the change does, by set. `weights` counts those that differ in it.

    `without` is the model after, this part put back to what it was; `alone` the model before, this part as it is after.
    """

    part: str
    kind: Kind
    weights: int
    without: dict[str, Effect]
    alone: dict[str, Effect]


@dataclass(frozen=True)
class Patched:
    """The mean loss by set where one layer's activations are those of the other model on the same input.

    `before` says it of the model after with the activations of the model before, `after` the other way round.
    """

    layer: str
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Causes:
    """Where a change lives. `before` and `after` have each set's metrics on the `examples` that all was measured on.

    `kept` are parameters that no mixture puts back: those of an output layer that was rebuilt for another alphabet.
    """

    examples: dict[str, int]
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    parts: list[Cause]
    patched: list[Patched]
    losses: dict[str, tuple[float, float]]
    kept: list[str]


def find_causes(
    before: Model,
    after: Model,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    examples: int = 100,
    neurons: Mapping[str, Neurons] | None = None,
) -> Causes:
    """Put back the change of each layer, and make it alone, and measure both; likewise for sets of `neurons` by name.

    At most `examples` of each set are answered, spread evenly over it. Of more than 16 changed layers neighbours are
    taken together. A name in `neurons` (None: `changed_neurons`) that starts with "random" is shown as a control.

    The layers of a deep network depend on each other, so the parts' effects need not add up to the whole.

    Raises:
        ValueError: the models are not of one architecture, or nothing changed.
    """
    old, own = weights(before.net), weights(after.net)
    if old.keys() != own.keys():
        raise ValueError(f"Expected two models of one architecture; they differ in '{min(old.keys() ^ own.keys())}'.")
    # Rows of an output layer mean other characters where the alphabet is another, whatever its shape.
    head = after.head.removeprefix("net.") if before.vocabulary != after.vocabulary else None
    kept = sorted(n for n in own if old[n].shape != own[n].shape or (head and n.startswith(f"{head}.")))
    changed = {
        name: changed_bits(old[name].cpu(), own[name].cpu())
        for name in own
        if name not in kept and not torch.equal(old[name].cpu(), own[name].cpu())
    }
    if not changed:
        besides = ", but those of an output layer for another alphabet, which no mixture can put back" if kept else ""
        raise ValueError(f"No weight differs between the two models{besides}. There are no causes to tell apart.")
    sets = {name: evenly(found, examples) for name, found in sets.items()}
    parts = [(name, "layer", mask) for name, mask in _layers(after, changed)]
    for name, chosen in (changed_neurons(before, after) if neurons is None else neurons).items():
        parts.append((name, "random" if name.startswith("random") else "neurons", _rows(chosen, changed)))
    model = copy.deepcopy(after)

    def measured() -> dict[str, TextScores]:
        return {
            name: model.task.evaluate([e.text for e in found], decode_examples(model, model.task, found, loader, ""))
            for name, found in sets.items()
        }

    def mixture(put_back: Mapping[str, Tensor]) -> dict[str, TextScores]:
        with _put_back(model, old, put_back):
            return measured()

    whole, bare = measured(), mixture(changed)
    causes = []
    for part, kind, mask in track(parts, "causes"):
        rest = {name: bits & ~mask[name] if name in mask else bits for name, bits in changed.items()}
        causes.append(
            Cause(
                part, kind, sum(int(bits.sum()) for bits in mask.values()),
                _effects(whole, mixture(mask)), _effects(bare, mixture(rest)),
            )
        )  # fmt: skip
    patched, losses = [], {}
    # Told of another language, say, they take other steps, and activations of the one do not fit into the other.
    if before.vocabulary == after.vocabulary and before.header() == after.header():
        # A text that cannot be learned has no loss.
        texts = {name: found for name, own in sets.items() if (found := learnable(after, own))}
        if texts:
            patched, losses = _patched(before, after, texts, loader)
    return Causes(
        {name: len(found) for name, found in sets.items()},
        {name: quality.values() for name, quality in bare.items()},
        {name: quality.values() for name, quality in whole.items()},
        causes, patched, losses, kept,
    )  # fmt: skip


def changed_neurons(before: Model, after: Model, share: float = 0.05, seed: int = 0) -> dict[str, Neurons]:
    """That share of the neurons that changed which changed most (`adapt.introspect.scores.change`), and as many random
    ones of those that changed, as their control; nothing where these would be the half of them.
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
    for site, unit in (places[number] for number in order):
        drawn[site].append(unit)
    return {
        f"the {count:,} neurons that changed most": scores.top(count, None),
        f"random {count:,} of those that changed": Neurons(drawn),
    }


def _effects(from_: Mapping[str, TextScores], to: Mapping[str, TextScores]) -> dict[str, Effect]:
    return {name: Effect(quality.values(), paired_intervals(from_[name], quality)) for name, quality in to.items()}


Mask = dict[str, Tensor]  # which entries of which tensors


def _layers(model: Model, changed: Mask) -> list[tuple[str, Mask]]:
    """The changed layers from input to output; each has what changed in it. What is in no layer comes last."""
    found, left = [], dict(changed)
    for layer in model.layers:
        own = {name: left.pop(name) for name in changed if name in left and _module(name) in layer.modules}
        if own:
            found.append((layer.name, own))
    if left:
        found.append(("outside the layers", left))
    together = -(-len(found) // MOST_PARTS)
    return [
        (found[i][0] if together == 1 else f"{found[i][0]} to {found[min(i + together, len(found)) - 1][0]}",
         {name: bits for _, own in found[i : i + together] for name, bits in own.items()})
        for i in range(0, len(found), together)
    ]  # fmt: skip


def _module(name: str) -> str:
    return f"net.{name}".rpartition(".")[0]


def _rows(neurons: Neurons, changed: Mask) -> Mask:
    """What changed in the rows that make these neurons."""
    masks = {}
    for site in neurons.used:
        for name in (row.removeprefix("net.") for row in site.rows):
            if name in changed:
                mask = torch.zeros_like(changed[name])
                mask[list(neurons[site])] = changed[name][list(neurons[site])]
                masks[name] = mask
    return masks


@contextmanager
def _put_back(model: Model, old: Mapping[str, Tensor], entries: Mask) -> Iterator[None]:
    """For a block, the model has the old values in these entries; afterwards its own again, bit for bit."""
    state = weights(model.net)
    kept = {name: state[name].clone() for name in entries}
    try:
        with torch.no_grad():
            for name, mask in entries.items():
                own = state[name]
                own.copy_(torch.where(mask.to(own.device), old[name].to(own), own))
        yield
    finally:
        with torch.no_grad():
            for name, values in kept.items():
                state[name].copy_(values)


def _patched(
    before: Model, after: Model, sets: Mapping[str, Sequence[Example]], loader: Loader
) -> tuple[list[Patched], dict[str, tuple[float, float]]]:
    """Each layer's activations of one model in the other, and the loss of both models as they are."""
    models = {"before": before, "after": after}
    sums: dict[tuple[str, str, str], float] = {}  # (set, layer or "", model) -> the sum of losses over examples

    def add(name: str, layer: str, of: str, batch: Any) -> None:
        loss = float(after.task.loss(models[of], batch)) * len(batch.examples)
        sums[name, layer, of] = sums.get((name, layer, of), 0.0) + loss

    device = next(after.parameters()).device
    with eval_mode(before), eval_mode(after), torch.no_grad():
        first = next(iter(loader.evaluation(next(iter(sets.values()))[:1], after.reader)))
        layers = _once(after, lambda: after.task.loss(after, first.to(device)))
        for name, found in sets.items():
            for batch in track(loader.evaluation(found, after.reader), f"patching, {name}"):
                batch, acts = batch.to(device), {}
                for of, model in models.items():
                    with capture(model, list(layers.values())) as acts[of]:
                        add(name, "", of, batch)
                for layer, site in layers.items():
                    for of, other in (("after", "before"), ("before", "after")):
                        with intervene(models[of], Patch(site, acts[other][site])):
                            add(name, layer, of, batch)
    mean = {key: total / len(sets[key[0]]) for key, total in sums.items()}
    return (
        [
            Patched(
                layer,
                {name: mean[name, layer, "after"] for name in sets},
                {name: mean[name, layer, "before"] for name in sets},
            )
            for layer in layers
        ],
        {name: (mean[name, "", "before"], mean[name, "", "after"]) for name in sets},
    )


def _once(model: Model, run: Callable[[], Any]) -> dict[str, Site]:
    """The layers that `run` calls as one module, once; not an embedding that encoder and decoder share."""
    found, called, handles = {}, Counter[str](), []
    for layer in model.layers:
        try:
            found[layer.name] = site_at(model, layer.name)
        except ValueError:  # parameters that several modules hold together
            continue
        count = lambda *_, name=layer.name: called.update([name])  # noqa: E731
        handles.append(model.get_submodule(layer.name).register_forward_hook(count))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: site for name, site in found.items() if called[name] == 1}
