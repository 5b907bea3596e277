"""Train chosen neurons of convolutions and linear layers, or everything except the chosen neurons."""

from collections.abc import Sequence
from pathlib import Path

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.model import Model
from adapt.tuning.layers import trainable_names
from adapt.tuning.selection import best_neurons, score, select
from adapt.tuning.tuned import Tuned
from interventions.neurons import Neurons
from interventions.rows import freeze_neurons, train_rows
from interventions.sites import choose_sites


def neurons(
    model: Model,
    data: TuningData | None = None,
    neurons: Neurons | str | Path | None = None,
    choose: str = "rgn",
    top: float | int = 0.05,
    weight_share: float | None = None,
    per_site: bool = False,
    sites: str | Sequence[str] = "*",
    freeze: bool = False,
    examples: int | None = 64,
    seed: int = 0,
) -> Tuned:
    """Train the weight rows of chosen neurons (`interventions.rows.train_rows`; `merge_rows` ends it).

    The running statistics of batch norms stay as they are, except with `freeze`, which trains all norms.

    Args:
        model: The model to train.
        data: Training examples, needed by most measures.
        neurons: The neurons to train, or a file that `Neurons.save` wrote; None chooses them by `choose`.
        choose: How the neurons are scored (`adapt.tuning.selection.score`).
        top: The share (float) or number (int) of neurons to choose.
        weight_share: Instead of `top`: choose neurons up to this share of the model's weights.
        per_site: Choose the same share or number at every site, instead of the best neurons of all sites together.
        sites: Globs over the sites to choose from.
        freeze: Train everything except the chosen neurons.
        examples: The maximum number of target examples, and of source examples, that a measure reads.
        seed: For `choose="random"`.

    Returns:
        The trained rows and the selection.

    Raises:
        InputError: the file cannot be read or is of another model, no neuron is chosen, or one cannot be trained alone.
    """
    if not isinstance(neurons, (Neurons, str, Path, type(None))):
        raise InputError(f"neurons must be a file that Neurons.save wrote; got {neurons!r}.")
    try:
        selection = None if data is None else data.selections.get("")
        if selection is None:
            if neurons is None:
                scores, reason = score(model, choose, data, sites, seed, examples)
                chosen = best_neurons(model, scores, top, per_site, weight_share)
            else:
                chosen, reason = _given(neurons, sites)
            if not len(chosen):
                raise ValueError("There are no neurons to train: the set is empty.")
            selection = select(model, chosen, f"{reason}, to stay frozen" if freeze else reason)
        if freeze:
            names = freeze_neurons(model, selection.neurons, list(trainable_names(model)))
        else:
            names = train_rows(model, selection.neurons)
        return Tuned.of(names, selection)
    except ValueError as error:
        raise InputError(f"tuning=neurons: {error}") from None


def _given(neurons: Neurons | str | Path, sites: str | Sequence[str]) -> tuple[Neurons, str]:
    if isinstance(neurons, Neurons):
        return Neurons({site: neurons[site] for site in choose_sites(neurons.sites, sites)}), "by name"
    path = user_path(neurons)
    saved = Neurons.load(path)
    return Neurons({site: saved[site] for site in choose_sites(saved.sites, sites)}), f"by the file '{path.name}'"
