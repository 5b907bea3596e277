"""Neuron-level tuning: chosen units of convolutions and linear maps train, or all but these."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.choice import best_neurons, keep, kept, score
from adapt.tuning.layers import full
from interventions.neurons import Neurons
from interventions.rows import freeze_neurons, train_rows
from interventions.sites import choose_sites


def neurons(
    model: Model,
    neurons: str | None = None,
    choose: str = "rgn",
    amount: float | int = 0.05,
    weights: float | None = None,
    per: Literal["site"] | None = None,
    sites: str | Sequence[str] = "*",
    freeze: bool = False,
    examples: int | None = 64,
    seed: int = 0,
    sample: TuningData | None = None,
) -> list[str]:
    """Rows of the chosen neurons, as `interventions.rows.train_rows` makes them; `merge_rows` ends it.

    `neurons` is a file that `Neurons.save` wrote. Without one, those with the highest scores are taken, `amount` of
    them (a share or a count), `per` site or of all; with `weights`, as many as this share of the model's weights pays
    for, and `amount` is not looked at. `choose`, `examples` and `seed` say who scores them, as in
    `adapt.tuning.choice.score`. `sites` are globs over the model's or the file's sites. `freeze` turns the choice
    around: these neurons stay, and all else of the model trains.

    Raises:
        InputError: a file cannot be read or is another model's, nothing is chosen, or it cannot train alone.
    """
    if not isinstance(neurons, (str, Path, type(None))):
        raise InputError(f"tuning.neurons is a file that Neurons.save wrote; got {neurons!r}.")
    try:
        if found := kept(sample):
            chosen = found[0]
        else:
            if neurons is not None:
                chosen, said = _saved(neurons, sites), f"by the file '{Path(neurons).name}'"
            else:
                scores, said = score(model, choose, sample, sites, seed, examples)
                chosen = best_neurons(model, scores, amount, per, weights)
            if not len(chosen):
                raise ValueError("There are no neurons to train: the set is empty.")
            keep(sample, model, chosen, f"{said}, to stay as they are" * freeze or said)
        return freeze_neurons(model, chosen, full(model)) if freeze else train_rows(model, chosen)
    except ValueError as error:
        raise InputError(f"tuning=neurons: {error}") from None


def _saved(path: str, sites: str | Sequence[str]) -> Neurons:
    held = Neurons.load(Path(path).expanduser())
    return Neurons({site: held[site] for site in choose_sites(held.sites, sites)})
