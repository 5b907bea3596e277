"""Who is chosen: from scores to neurons or whole layers within a budget, and the choice that a run keeps."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

import adapt.introspect.scores as measures
from adapt.data.sample import Sample
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.model import Model
from interventions.files import read_tensors
from interventions.neurons import Neurons, Scores
from interventions.rows import untrainable_reason
from interventions.sites import Layer, Site, choose_sites

log = logging.getLogger(__name__)


def tunable(model: Model, sites: str | Sequence[str] = "*") -> list[Site]:
    """The sites that match the globs and whose neurons can train alone.

    Raises:
        ValueError: there is none, or some of its rows train already, and why.
    """
    asked = choose_sites(model.sites, sites)
    reasons = {site.name: reason for site in asked if (reason := untrainable_reason(model, site))}
    taken = [reason for name, reason in reasons.items() if hasattr(model.get_submodule(name), "rows")]
    if taken or len(reasons) == len(asked):
        raise ValueError(" ".join(taken or reasons.values()))
    if reasons:
        log.info("Neurons are not chosen at %s, where they cannot train alone.", ", ".join(reasons))
    return [site for site in asked if site.name not in reasons]


def score(
    model: Model,
    choose: str,
    sample: Sample | None = None,
    sites: str | Sequence[str] = "*",
    seed: int = 0,
    examples: int | None = 64,
) -> tuple[Scores, str]:
    """Scores of the neurons that can train alone, and in words what they are.

    Whatever chooses neurons (tunings, `innertune choose`, ablations) calls it `choose` and means this: "random" (from
    `seed`), a measure of `adapt.introspect.scores.MEASURES` (on at most so many `examples` of target and source), a
    file that `Scores.save` wrote, or the folder of an earlier run: by how far it moved the weights.

    Raises:
        InputError: there is no such measure, or nothing to measure it on.
        ValueError: the file is none of scores, or there are no such sites.
    """
    if not isinstance(choose, (str, Path)):
        raise InputError(f"choose is one measure, a file of scores or an earlier run's folder; got {choose!r}.")
    path = Path(choose).expanduser()
    if choose == "random":
        return measures.random(tunable(model, sites), seed), f"at random (seed {seed})"
    if choose in measures.MEASURES:
        places = tunable(model, sites)
        if choose == "weight":
            return measures.weight(model, sample, places), "by the size of their weights"
        if sample is None or not sample.target:
            raise InputError(f"choose={choose} is measured on training examples, and there are none.")
        few = sample.few(examples)
        looked = f"{len(few.target)} examples of the target"
        looked += f" and {len(few.source)} of the source" * choose.endswith("_gap")
        return measures.MEASURES[choose](model, few, places), f"by {choose}, measured on {looked}"
    if path.is_file() and not path.name.endswith(".json"):
        given = Scores.load(path)
        chosen = Scores({site: given[site] for site in choose_sites(given.sites, sites)})
        return chosen, f"by the scores in '{path.name}'"
    if not path.exists():
        known = ", ".join(["random", *measures.MEASURES])
        raise InputError(
            f"choose={choose}: there is no such measure and no such file or folder. Measures are {known}; a file holds "
            "Scores, and a folder is an earlier run's."
        )
    other = load_model(str(path)).model
    return measures.change(model, other, tunable(model, sites)), f"by how far the run '{path.name}' moved their weights"


def best_neurons(
    model: Model,
    scores: Scores,
    amount: float | int = 0.05,
    per: Literal["site"] | None = None,
    weights: float | None = None,
) -> Neurons:
    """The neurons with the highest scores: `amount` (a share or a count) of them, `per` site or of all together, or,
    where `weights` is given, as many as this share of the model's weights pays for.

    By weights, neurons are taken from the best on, and each that what is left cannot pay for is passed over. `per` site
    the best are those first in the order of their own site, whatever the scores of others.

    Raises:
        ValueError: the amount or the share is none, or another model's scores.
    """
    if weights is None:
        return scores.top(amount, per)
    left = _budget(model, weights)
    if per not in (None, "site"):
        raise ValueError(f"per must be 'site', or null for all sites together; got {per!r}.")
    ranked = _within_site(scores) if per else scores
    costs = {site.name: neuron_weights(model, site) for site in ranked.sites}
    places = [(site, unit) for site in ranked.sites for unit in range(site.units)]
    chosen: dict[Site, list[int]] = {site: [] for site in ranked.sites}
    values = torch.cat([ranked[site].double() for site in ranked.sites])
    for place in values.sort(descending=True, stable=True).indices.tolist():
        site, unit = places[place]
        if costs[site.name] <= left:
            chosen[site].append(unit)
            left -= costs[site.name]
    return Neurons(chosen)


def best_layers(
    model: Model, scores: Mapping[str, float], amount: float | int, within: Sequence[Layer] | None = None
) -> list[Layer]:
    """The layers with the highest scores, by name: so many of them (an int), or as many as a share of the model's
    weights (a float) pays for. Layers that it cannot pay for are passed over.

    Raises:
        ValueError: the amount is neither, or pays for no layer.
    """
    layers = [layer for layer in within or model.layers if layer.name in scores]
    ranked = sorted(layers, key=lambda layer: -scores[layer.name])
    if isinstance(amount, int) and not isinstance(amount, bool):
        if not 0 < amount <= len(layers):
            raise ValueError(f"Expected a share of the weights (a float), or 1 to {len(layers)} layers, got {amount}.")
        chosen = ranked[:amount]
    else:
        budget = left = _budget(model, amount)
        chosen = []
        for layer in ranked:
            if (cost := layer_weights(model, layer)) <= left:
                chosen.append(layer)
                left -= cost
        if not chosen:
            least = min(layers, key=lambda layer: layer_weights(model, layer))
            raise ValueError(
                f"No layer has as few as {budget:,} weights; the smallest, '{least.name}', has "
                f"{layer_weights(model, least):,}. Give a larger amount, or a number of layers (an int)."
            )
    names = {layer.name for layer in chosen}
    return [layer for layer in model.layers if layer.name in names]


def layer_scores(model: Model, scores: Scores) -> dict[str, float]:
    """The mean over a layer's neurons, by its name; layers without any that can train alone have none."""
    held = {
        layer.name: [scores[site].double() for site in scores.sites if site.name in layer.modules]
        for layer in model.layers
    }
    return {name: float(torch.cat(own).mean()) for name, own in held.items() if own}


def neuron_weights(model: Model, site: Site) -> int:
    """How many weights train where one neuron of the site does.

    Raises:
        ValueError: the model has no such site.
    """
    if reason := untrainable_reason(model, site):
        raise ValueError(reason)
    return sum(model.get_parameter(name)[0].numel() for name in site.rows)


def layer_weights(model: Model, layer: Layer) -> int:
    """How many weights a layer has, tied ones once."""
    own = {id(p): p.numel() for name in layer.modules for p in model.get_submodule(name).parameters(recurse=False)}
    return sum(own.values())


def described(model: Model, chosen: Neurons, said: str, layers: Sequence[Layer] | None = None) -> str:
    """A choice in a sentence; `said` is how it was made, as `score` says it. `layers` where whole ones were chosen."""
    if layers is None:
        count = sum(neuron_weights(model, site) * len(chosen[site]) for site in chosen.used)
        what = f"{len(chosen):,} of {sum(site.units for site in chosen.sites):,} neurons"
    else:
        count = sum(layer_weights(model, layer) for layer in layers)
        what = ("the layer " if len(layers) == 1 else "the layers ") + ", ".join(layer.name for layer in layers)
    share = count / sum(parameter.numel() for parameter in model.parameters())
    return f"Chosen {said}: {what}, {100 * share:.1f} % of the weights."


def keep(
    sample: Sample | None, model: Model, chosen: Neurons, said: str, layers: Sequence[Layer] | None = None
) -> None:
    """Keep a choice, and a sentence on it as of `described`, in the run's folder, where the sample names its file."""
    told = described(model, chosen, said, layers)
    log.info("%s", told)
    if sample is not None and sample.kept is not None:
        names = None if layers is None else [layer.name for layer in layers]
        chosen.save(sample.kept, said=told, layers=names)


def kept(sample: Sample | None) -> tuple[Neurons, list[str] | None] | None:
    """The choice that a run kept, as neurons and, where whole layers were chosen, their names; None where none is."""
    if sample is None or sample.kept is None or not sample.kept.is_file():
        return None
    return Neurons.load(sample.kept), read_tensors(sample.kept, "neurons")[0].get("layers")


def sentences(path: Path) -> str:
    """What is said of the choice kept at `path`, and of those of a mix's parts; nothing where none was made."""
    files = [path, *sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))]
    return " ".join(str(read_tensors(file, "neurons")[0].get("said", "")) for file in files if file.is_file())


def _within_site(scores: Scores) -> Scores:
    """How many of its own site's a neuron leaves behind, as a share; the best of a site of `n` is at `1 - 1 / n`."""
    ranks: dict[Site, Any] = {}
    for site in scores.sites:
        order = scores[site].sort(descending=True, stable=True).indices
        ranks[site] = torch.empty(site.units, dtype=torch.float64)
        ranks[site][order] = 1 - torch.arange(1, site.units + 1, dtype=torch.float64) / site.units
    return Scores(ranks)


def _budget(model: Model, share: Any) -> int:
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f"Expected a share of the model's weights above 0 and up to 1, got {share!r}.")
    return int(share * sum(parameter.numel() for parameter in model.parameters()))
