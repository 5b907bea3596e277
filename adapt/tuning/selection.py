"""Select the neurons or layers to train by their scores, within a budget."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import adapt.introspect.scores as measures
from adapt.data.selection import Selection
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import exists, is_file, user_path
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside
from adapt.models.model import Model
from interventions.neurons import Neurons, Scores
from interventions.rows import untrainable_reasons
from interventions.sites import Layer, Site, choose_sites

log = logging.getLogger(__name__)


def tunable(model: Model, sites: str | Sequence[str] = "*") -> list[Site]:
    """Return the sites that match the globs and whose neurons can be trained individually.

    Raises:
        ValueError: there is no such site, or some of its rows train already.
    """
    matching = choose_sites(model.sites, sites)
    reasons = untrainable_reasons(model, matching)
    taken = [reason for name, reason in reasons.items() if hasattr(model.get_submodule(name), "rows")]
    if taken or len(reasons) == len(matching):
        raise ValueError(" ".join(taken or reasons.values()))
    if reasons:
        log.info("Neurons at %s are not considered: they cannot train alone.", ", ".join(reasons))
    return [site for site in matching if site.name not in reasons]


def score(
    model: Model,
    choose: str,
    data: TuningData | None = None,
    sites: str | Sequence[str] = "*",
    seed: int = 0,
    examples: int | None = 64,
) -> tuple[Scores, str]:
    """Score the neurons that can be trained individually.

    Args:
        model: The model whose neurons are scored.
        choose: "random", a measure of `adapt.introspect.scores.MEASURES`, a file that `Scores.save` wrote, or the
            folder of an earlier run, which scores neurons by how far it moved their weights.
        data: Training examples, needed by most measures.
        sites: Globs over the names of sites.
        seed: Seed of "random".
        examples: The maximum number of target examples, and of source examples, that a measure reads; None reads all.

    Returns:
        The scores, and a phrase that says how they were made ("by fisher, measured on ...").

    Raises:
        InputError: there is no such measure, or it has no examples to measure on.
        ValueError: the file does not hold scores, or there is no such site.
    """
    if not isinstance(choose, (str, Path)):
        raise InputError(f"choose must be a measure, a file of scores or an earlier run's folder; got {choose!r}.")
    path = user_path(choose)
    if choose == "random":
        return measures.random(tunable(model, sites), seed), f"at random (seed {seed})"
    if choose in measures.MEASURES:
        return _measured(model, str(choose), data, tunable(model, sites), examples)
    if is_file(path) and not path.name.endswith(".json"):
        saved = Scores.load(path)
        chosen = Scores({site: saved[site] for site in choose_sites(saved.sites, sites)})
        return chosen, f"by the scores in '{path.name}'"
    if not exists(path):
        known = ", ".join(["random", *measures.MEASURES])
        raise InputError(
            f"choose={choose}: there is no such measure, file or folder. The measures are {known}. A file must hold "
            "Scores, and a folder must be that of an earlier run."
        )
    other = beside(load_model(str(path)), model).model
    return measures.change(model, other, tunable(model, sites)), f"by how far the run '{path.name}' moved their weights"


def _measured(
    model: Model, choose: str, data: TuningData | None, sites: Sequence[Site], examples: int | None
) -> tuple[Scores, str]:
    if choose == "weight":
        return measures.weight(model, data, sites), "by the size of their weights"
    if data is None or not data.target:
        raise InputError(f"choose={choose} is measured on training examples, and there are none.")
    few = data.subset(examples)
    measured_on = f"{len(few.target)} examples of the target"
    if choose.endswith("_gap"):
        measured_on += f" and {len(few.source)} of the source"
    return measures.MEASURES[choose](model, few, sites), f"by {choose}, measured on {measured_on}"


def best_neurons(
    model: Model,
    scores: Scores,
    top: float | int = 0.05,
    per_site: bool = False,
    weight_share: float | None = None,
) -> Neurons:
    """Select the neurons with the highest scores.

    Args:
        model: The model that has these neurons.
        scores: One score per neuron.
        top: The share (float) or number (int) of neurons to select.
        per_site: Select the same share or number at every site; with `weight_share`, rank neurons within their site.
        weight_share: Instead of `top`: select neurons, starting with the best, until they have this share of the
            model's weights. A neuron that no longer fits is skipped.

    Returns:
        The selected neurons.

    Raises:
        ValueError: `top` or `weight_share` is out of range, or the scores are of another model.
    """
    if not isinstance(per_site, bool):
        raise ValueError(f"per_site must be true or false; got {per_site!r}.")
    if weight_share is None:
        return scores.top(top, per_site)
    left = _budget(model, weight_share)
    ranked = _within_site(scores) if per_site else scores
    costs = neuron_weights(model, ranked.sites)
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
    model: Model, scores: Mapping[str, float], top: float | int, within: Sequence[Layer] | None = None
) -> list[Layer]:
    """Select the layers with the highest scores.

    Args:
        model: The model that has these layers.
        scores: A score for each layer's name.
        top: A number of layers (int), or a share of the model's weights (float): layers are selected, starting
            with the best, until they have that share; a layer that no longer fits is skipped.
        within: The layers to select from; None selects from all.

    Returns:
        The selected layers, in the model's order.

    Raises:
        ValueError: `top` is out of range, or every layer is larger than the share.
    """
    layers = [layer for layer in within or model.layers if layer.name in scores]
    ranked = sorted(layers, key=lambda layer: -scores[layer.name])
    if isinstance(top, int) and not isinstance(top, bool):
        if not 0 < top <= len(layers):
            raise ValueError(f"Expected a share of the weights (a float) or 1 to {len(layers)} layers, got {top}.")
        chosen = ranked[:top]
    else:
        budget = left = _budget(model, top)
        chosen = []
        for layer in ranked:
            if (cost := layer_weights(model, layer)) <= left:
                chosen.append(layer)
                left -= cost
        if not chosen:
            smallest = min(layers, key=lambda layer: layer_weights(model, layer))
            raise ValueError(
                f"Every layer has more than {budget:,} weights; the smallest, '{smallest.name}', has "
                f"{layer_weights(model, smallest):,}. Give a larger share, or a number of layers (an int)."
            )
    names = {layer.name for layer in chosen}
    return [layer for layer in model.layers if layer.name in names]


def layer_scores(model: Model, scores: Scores) -> dict[str, float]:
    """Return the mean score of each layer's neurons, by layer name; layers without trainable neurons are left out."""
    by_layer = {
        layer.name: [scores[site].double() for site in scores.sites if site.name in layer.modules]
        for layer in model.layers
    }
    return {name: float(torch.cat(values).mean()) for name, values in by_layer.items() if values}


def neuron_weights(model: Model, sites: Iterable[Site]) -> dict[str, int]:
    """Return the number of weights of a neuron of each site, by its name.

    Raises ValueError if the neurons of a site cannot be trained alone.
    """
    sites = list(sites)
    for reason in untrainable_reasons(model, sites).values():
        raise ValueError(reason)
    return {site.name: sum(model.get_parameter(name)[0].numel() for name in site.rows) for site in sites}


def layer_weights(model: Model, layer: Layer) -> int:
    """Return the number of weights of a layer; tied weights count once."""
    sizes = {id(p): p.numel() for name in layer.modules for p in model.get_submodule(name).parameters(recurse=False)}
    return sum(sizes.values())


def select(model: Model, neurons: Neurons, reason: str, layers: Sequence[Layer] | None = None) -> Selection:
    """Return a selection with its summary, and log it. `reason` says how it was made: the phrase that `score` returns.

    If whole layers were chosen, `layers` has these layers, and `neurons` all of their neurons.
    """
    if layers is None:
        costs = neuron_weights(model, neurons.used)
        count = sum(costs[site.name] * len(neurons[site]) for site in neurons.used)
        what = f"{len(neurons):,} of {sum(site.units for site in neurons.sites):,} neurons"
    else:
        count = sum(layer_weights(model, layer) for layer in layers)
        what = ("the layer " if len(layers) == 1 else "the layers ") + ", ".join(layer.name for layer in layers)
    share = count / sum(parameter.numel() for parameter in model.parameters())
    summary = f"Selected {reason}: {what}, {100 * share:.1f} % of the weights."
    log.info("%s", summary)
    return Selection(neurons, summary, None if layers is None else tuple(layer.name for layer in layers))


def _within_site(scores: Scores) -> Scores:
    """Replace scores by ranks: the share of the site's neurons that score lower, `1 - 1 / n` for the best of `n`."""
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
