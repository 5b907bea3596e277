"""The conditions of an evaluation: interventions at several settings, with controls.

Each function takes the model, the data and the loader, and returns conditions. `conf/intervention/` has a configuration
for each function.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import user_path
from adapt.introspect.activations import read_activations
from adapt.models.loaded import Loaded
from adapt.tuning.selection import score
from interventions.ablate import Ablate, To
from interventions.files import FileError
from interventions.intervene import Edits
from interventions.intervention import Intervention
from interventions.reduce import Mean, Reservoir
from interventions.sites import Part, Site, choose_sites
from interventions.steer import Steer
from interventions.store import load


@dataclass(frozen=True)
class Condition:
    """Interventions that are applied together.

    Attributes:
        line: The name of the curve on which the condition is a point.
        value: Where on that curve the point lies: a strength, or a number of neurons.
        interventions: The interventions, in the order in which they are applied.
        control: Whether the condition is a control.
    """

    line: str
    value: float
    interventions: tuple[Intervention, ...]
    control: bool = False


def none(loaded: Loaded, splits: Splits, loader: Loader) -> list[Condition]:
    """Return no condition: only the unmodified model is evaluated."""
    return []


def saved(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    path: str | Sequence[str],
    names: str | Sequence[str] | None = None,
    strengths: float | Sequence[float] = (1.0,),
    controls: int = 0,
    any_model: bool = False,
) -> list[Condition]:
    """Apply the interventions of one or more files together, at each strength.

    Args:
        loaded: The model.
        splits: Not used.
        loader: Not used.
        path: A file of interventions, or several.
        names: The names of the interventions to apply, in order; None applies all. If several files have an
            intervention of the same name, all of them are applied.
        strengths: Factors by which the interventions' own strengths are multiplied.
        controls: The number of controls. In each, all steering vectors are replaced by random vectors of the same
            length.
        any_model: Accept files that were made for other weights.

    Raises:
        InputError: A file cannot be read or is for another model; no file has an intervention of a given name; or
            controls are requested without a steering vector.
    """
    paths = [path] if isinstance(path, str) else path
    found: list[tuple[str, Intervention]] = []
    for file in paths:
        try:
            found += load(user_path(file), loaded.fingerprint, any_model).items()
        except FileError as error:
            raise InputError(str(error)) from None
    known = list(dict.fromkeys(name for name, _ in found))
    chosen = known if names is None else [str(name) for name in _as_list(names)]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise InputError(
            f"names: '{path}' has no {', '.join(unknown) or 'interventions'}. It has {', '.join(known) or 'none'}."
        )
    interventions = tuple(one for name in chosen for other, one in found if other == name)
    edits = Edits(loaded.model)
    try:
        for intervention in interventions:
            edits.add(intervention)
    except ValueError as error:
        raise InputError(f"path={path}: {error}") from None
    finally:
        edits.clear()
    factors = _numbers("strengths", strengths)
    _check_controls(controls)
    if controls and not any(isinstance(one, Steer) for one in interventions):
        raise InputError(
            f"controls={controls}: only steering vectors have controls, but none was "
            f"selected from '{path}'. Give controls=0."
        )
    lines = {"interventions": interventions}
    for seed in range(controls):
        # Each vector of a control is drawn with a different seed.
        lines[f"random {seed}"] = tuple(
            random_vector(one, seed + controls * number) if isinstance(one, Steer) else one
            for number, one in enumerate(interventions)
        )
    return [
        Condition(line, float(factor), tuple(_scaled(one, factor) for one in applied), control=line != "interventions")
        for line, applied in lines.items()
        for factor in factors
    ]


def ablate(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    sites: str | Sequence[str] = "*",
    part: Part | None = None,
    sizes: float | int | Sequence[float | int] = (0.01, 0.02, 0.05, 0.1),
    choose: str = "weight",
    order: Literal["top", "bottom"] = "top",
    per_site: bool = False,
    to: Literal["zero", "mean", "resample"] = "zero",
    controls: int = 1,
    examples: int | None = 64,
    seed: int = 0,
) -> list[Condition]:
    """Ablate the neurons with the highest or lowest scores and, as a control, equally many random ones.

    The output layer is left out unless it is the only site: to ablate one of its units is to forbid a character.

    Args:
        loaded: The model.
        splits: Training data for the scores; validation data, or training data if there are none, for means and
            samples.
        loader: Batches the data.
        sites: Globs over the names of sites to include.
        part: Only sites of this part: encoder, decoder or cross-attention.
        sizes: How many neurons to ablate: shares (0.05) or numbers (10).
        choose: The measure that scores the neurons, as in `adapt.tuning.selection.score`.
        order: "top" ablates the highest scores, "bottom" the lowest.
        per_site: Ablate this share or number at every site, instead of over all sites together.
        to: What replaces the activations: zero, their mean, or samples of them.
        controls: The number of controls, each with the same number of neurons at every site, drawn at random.
        examples: The maximum number of target examples, and of source examples, that a measure reads; None reads all.
        seed: Seed of random scores, of the controls and of samples.

    Raises:
        InputError: There is no such site, the scores cannot be read, a size is not a share or a number, or there are
            no data for means or samples.
    """
    for name, value, allowed in (("order", order, ("top", "bottom")), ("to", to, get_args(To))):
        if value not in allowed:
            raise InputError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
    _check_controls(controls)
    counts = _numbers("sizes", sizes)
    places = _sites(loaded, sites, part)
    data = TuningData(splits.train, splits.source_train, loader)
    try:
        scores, _ = score(loaded.model, choose, data, [site.name for site in places], seed, examples)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"choose={choose}: {error}") from None
    reference = None if to == "zero" else _reference(loaded, splits, loader, places, to, seed)
    conditions = []
    main = f"{order} by {Path(choose).stem}"
    for count in counts:
        try:
            chosen = (scores.top if order == "top" else scores.bottom)(count, per_site)
        except ValueError as error:
            raise InputError(f"sizes: {error}") from None
        lines = {main: chosen} | {f"random {number}": chosen.random(seed + number) for number in range(controls)}
        conditions += [
            Condition(line, len(neurons), (Ablate(neurons, to, reference, seed),), control=line != main)
            for line, neurons in lines.items()
        ]
    names = list(dict.fromkeys(condition.line for condition in conditions))
    return sorted(conditions, key=lambda condition: names.index(condition.line))


def _reference(
    loaded: Loaded, splits: Splits, loader: Loader, sites: Sequence[Site], to: str, seed: int
) -> dict[str, torch.Tensor]:
    reducer = Mean() if to == "mean" else Reservoir(256, seed)
    examples = splits.validation or splits.train
    if not examples:
        raise InputError(f"to={to} is measured on validation or training examples, and there are none.")
    read_activations(loaded.model, examples, loader, sites, reducer, f"{to} activations")
    return dict(reducer.result())


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _numbers(name: str, value: Any) -> list[Any]:
    numbers = _as_list(value)
    if not numbers or not all(isinstance(n, (int, float)) and not isinstance(n, bool) and isfinite(n) for n in numbers):
        raise InputError(f"{name} must be a number or a list of numbers, got {value!r}.")
    return numbers


def _check_controls(controls: Any) -> None:
    if not isinstance(controls, int) or controls < 0:
        raise InputError(f"controls must be a number of controls, 0 or more, got {controls!r}.")


def _scaled(intervention: Intervention, factor: float) -> Intervention:
    return replace(intervention, strength=float(factor) * intervention.strength)


def random_vector(steer: Steer, seed: int) -> Steer:
    """Return a steering intervention whose vector has the same length and a random direction."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(steer.vector.shape, generator=generator, dtype=torch.float64)
    scale = steer.vector.double().norm(dim=-1, keepdim=True) / vector.norm(dim=-1, keepdim=True)
    return replace(steer, vector=(vector * scale).to(steer.vector))


def _sites(loaded: Loaded, sites: str | Sequence[str], part: Part | None) -> list[Site]:
    try:
        chosen = choose_sites(loaded.model.sites, sites, part)
    except ValueError as error:
        raise InputError(f"sites: {error}") from None
    return [site for site in chosen if site.name != loaded.model.sites[-1].name] or chosen
