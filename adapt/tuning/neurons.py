"""Neuron-level tuning: chosen units of convolutions and linear maps train, or all but these."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.layers import full
from adapt.tuning.sample import Sample
from interventions.neurons import Neurons, Scores
from interventions.rows import freeze_neurons, train_rows, why_not
from interventions.sites import Site, choose_sites

log = logging.getLogger(__name__)


def neurons(
    model: Model,
    neurons: str | None = None,
    scores: str = "random",
    amount: float | int = 0.05,
    per: Literal["site"] | None = "site",
    sites: str | Sequence[str] = "*",
    freeze: bool = False,
    seed: int = 0,
    sample: Sample | None = None,
) -> list[str]:
    """Rows of the chosen neurons, as `interventions.rows.train_rows` makes them; `merge_rows` ends it.

    `neurons` is a file that `Neurons.save` wrote. Without one, those with the highest `scores` are chosen, `amount` of
    them (a share or a count, `per` site or of all): a file that `Scores.save` wrote, "weight" (the root mean square of
    a neuron's incoming weights) or "random" (from `seed`; the control of any other choice). `sites` are globs over the
    model's or the file's sites. `freeze` turns the choice around: these neurons stay, and all else of the model trains.

    Raises:
        InputError: a file cannot be read or is another model's, nothing is chosen, or it cannot train alone.
    """
    try:
        chosen = _saved(neurons, sites) if neurons is not None else _best(model, scores, amount, per, sites, seed)
        return freeze_neurons(model, chosen, full(model)) if freeze else train_rows(model, chosen)
    except ValueError as error:
        raise InputError(f"tuning=neurons: {error}") from None


def _saved(path: str, sites: str | Sequence[str]) -> Neurons:
    held = Neurons.load(Path(path).expanduser())
    return Neurons({site: held[site] for site in choose_sites(held.sites, sites)})


def _best(
    model: Model, kind: str, amount: float | int, per: Literal["site"] | None, sites: str | Sequence[str], seed: int
) -> Neurons:
    if kind not in ("random", "weight"):
        given = Scores.load(Path(kind).expanduser())
        return Scores({site: given[site] for site in choose_sites(given.sites, sites)}).top(amount, per)
    asked = choose_sites(model.sites, sites)
    reasons = {site.name: reason for site in asked if (reason := why_not(model, site))}
    taken = [reason for name, reason in reasons.items() if hasattr(model.get_submodule(name), "rows")]
    if taken or len(reasons) == len(asked):
        raise ValueError(" ".join(taken or reasons.values()))
    if reasons:
        log.info("Neurons are not chosen at %s, where they cannot train alone.", ", ".join(reasons))
    chosen = [site for site in asked if site.name not in reasons]
    if kind == "random":
        return Scores({site: torch.zeros(site.units) for site in chosen}).random(amount, seed, per)
    return Scores({site: _size(model, site) for site in chosen}).top(amount, per)


def _size(model: Model, site: Site) -> torch.Tensor:
    return model.get_submodule(site.name).weight.detach().flatten(1).square().mean(1).sqrt()
