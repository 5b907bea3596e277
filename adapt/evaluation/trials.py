"""What an evaluation puts on a model: interventions at several settings, and the controls that they are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.sample import Sample as Examples
from adapt.errors import InputError
from adapt.introspect.activations import read_activations
from adapt.models.loaded import Loaded
from adapt.tuning.choice import score
from interventions.ablate import Ablate, To
from interventions.files import FileError
from interventions.intervene import Edits
from interventions.intervention import Intervention
from interventions.reduce import Mean, Reservoir
from interventions.sites import Site, choose_sites
from interventions.steer import Steer
from interventions.store import load


@dataclass(frozen=True)
class Trial:
    """Interventions that are on together. `line` is what a picture calls the curve that it is a point of, and `value`
    where along that curve it lies: a strength, or a number of neurons. `control` says that it is one.
    """

    line: str
    value: float
    interventions: tuple[Intervention, ...]
    control: bool = False


def none(loaded: Loaded, splits: Splits, loader: Loader) -> list[Trial]:
    """The model as it is."""
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
) -> list[Trial]:
    """The interventions that one or more files hold, together, at each strength; `names` picks some of them, in the
    order in which they edit. Where files share a name, it means all of that name.

    `controls` is how many times all steering vectors are exchanged for random ones of equal length. `any_model` takes
    files that were made for other weights.

    Raises:
        InputError: a file cannot be read or is for another model, a name is not there, or there is nothing to exchange.
    """
    found: list[tuple[str, Intervention]] = []
    for place in [path] if isinstance(path, str) else path:
        try:
            found += load(Path(place).expanduser(), loaded.fingerprint, any_model).items()
        except FileError as error:
            raise InputError(str(error)) from None
    there = list(dict.fromkeys(name for name, _ in found))
    chosen = there if names is None else [str(name) for name in _several(names)]
    unknown = [name for name in chosen if name not in there]
    if unknown or not chosen:
        raise InputError(
            f"intervention.names: {', '.join(unknown) or 'none'}: not in '{path}'. It holds {', '.join(there)}."
        )
    own = tuple(one for name in chosen for known, one in found if known == name)
    edits = Edits(loaded.model)
    try:
        for one in own:
            edits.add(one)
    except ValueError as error:
        raise InputError(f"intervention.path={path}: {error}") from None
    finally:
        edits.clear()
    steps = _numbers("strengths", strengths)
    _check_controls(controls)
    lines = {"interventions": own}
    if controls and not any(isinstance(one, Steer) for one in own):
        raise InputError("intervention.controls: only steering vectors have random controls, and there are none here.")
    for seed in range(controls):
        # Vectors that are on together are drawn apart.
        lines[f"random {seed}"] = tuple(
            _random(one, seed + controls * number) if isinstance(one, Steer) else one for number, one in enumerate(own)
        )
    return [
        Trial(
            line,
            strength,
            tuple(replace(one, strength=strength * one.strength) for one in interventions),
            control=line != "interventions",
        )
        for line, interventions in lines.items()
        for strength in map(float, steps)
    ]


def ablate(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    amounts: float | int | Sequence[float | int] = (0.01, 0.02, 0.05, 0.1),
    choose: str = "weight",
    order: Literal["top", "bottom"] = "top",
    per: Literal["site"] | None = None,
    to: Literal["zero", "mean", "resample"] = "zero",
    controls: int = 1,
    examples: int | None = 64,
    seed: int = 0,
) -> list[Trial]:
    """Ablate the neurons with the highest scores, or the lowest, at the chosen sites: a share (0.05) or a number of
    them, of all or `per` site. The output layer is left out.

    `choose`, `examples` and `seed` say who scores them, as in `adapt.tuning.choice.score`: training data are looked at.
    `to` says what stands in their place; means and samples are of the validation data, or else of the training data.
    `controls` is how many times as many neurons of each site are drawn at random.

    Raises:
        InputError: there is no such site, the scores cannot be read, an amount is not a share or a number, or there are
            no data to take means of.
    """
    for name, given, known in (("order", order, ("top", "bottom")), ("to", to, get_args(To))):
        if given not in known:
            raise InputError(f"intervention.{name} must be {', '.join(known)}, got {given!r}.")
    _check_controls(controls)
    shares = _numbers("amounts", amounts)
    places = _sites(loaded, sites, part)
    sample = Examples(splits.train, splits.source_train, loader)
    try:
        scored, _ = score(loaded.model, choose, sample, [site.name for site in places], seed, examples)
    except (InputError, ValueError) as error:
        raise InputError(f"intervention.choose={choose}: {error}") from None
    reference = None
    if to != "zero":
        reducer = Mean() if to == "mean" else Reservoir(256, seed)
        heard = splits.validation or splits.train
        if not heard:
            raise InputError(f"intervention.to={to} is measured on data: give data.validation=... or data.train=...")
        read_activations(loaded.model, heard, loader, places, reducer, f"{to} activations")
        reference = dict(reducer.result())
    trials = []
    own = f"{order} by {Path(choose).stem}"
    for amount in shares:
        try:
            chosen = (scored.top if order == "top" else scored.bottom)(amount, per)
        except ValueError as error:
            raise InputError(f"intervention.amounts: {error}") from None
        lines = {own: chosen} | {f"random {number}": chosen.random(seed + number) for number in range(controls)}
        trials += [
            Trial(line, len(neurons), (Ablate(neurons, to, reference, seed),), control=line != own)
            for line, neurons in lines.items()
        ]
    return sorted(trials, key=lambda trial: [t.line for t in trials].index(trial.line))


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _numbers(name: str, given: Any) -> list[float]:
    numbers = _several(given)
    if not numbers or not all(isinstance(n, (int, float)) and not isinstance(n, bool) and isfinite(n) for n in numbers):
        raise InputError(f"intervention.{name} must be a number or a list of numbers, got {given!r}.")
    return numbers


def _check_controls(controls: Any) -> None:
    if not isinstance(controls, int) or controls < 0:
        raise InputError(f"intervention.controls is a number of controls, 0 or more; got {controls!r}.")


def _random(steer: Steer, seed: int) -> Steer:
    draw = torch.Generator().manual_seed(seed)
    vector = torch.randn(steer.vector.shape, generator=draw, dtype=torch.float64)
    scale = steer.vector.double().norm(dim=-1, keepdim=True) / vector.norm(dim=-1, keepdim=True)
    return replace(steer, vector=(vector * scale).to(steer.vector))


def _sites(loaded: Loaded, sites: str | Sequence[str], part: str | None) -> list[Site]:
    try:
        chosen = choose_sites(loaded.model.sites, sites, part)
    except ValueError as error:
        raise InputError(f"intervention.sites: {error}") from None
    # Units of the output layer are characters, and to ablate one is to forbid it.
    return [site for site in chosen if site.name != loaded.model.sites[-1].name] or chosen
