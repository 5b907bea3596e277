"""What a page asks to change inside a model, as checked data, and the interventions that do it."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.evaluation.steering_fit import fit_vectors
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.transcription.transcribe import is_long
from interventions.ablate import Ablate
from interventions.capture import capture
from interventions.clamp import Clamp, Scale, Set
from interventions.intervention import Intervention
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.sites import Site
from interventions.steer import Steer

How = Literal["ablate", "scale", "set", "at least", "at most"]
MAX_NEURONS = 20_000
MAX_STRENGTH = 3.0
_KEPT = 8  # vectors and activations that are remembered
_LARGEST = 1e4  # of values that neurons are set to


@dataclass(frozen=True)
class Change:
    """What to change inside a model. Nothing by default.

    Attributes:
        neurons: Pairs of a site's name and a unit's number.
        how: What is done with the neurons: "ablate" sets them to 0.
        value: The factor, the value or the bound of the neurons.
        site: Where a steering vector is added; empty for none.
        away: The group from which the vector points.
        toward: The group to which it points.
        strength: The factor of the vector, from -3 to 3.
        blend: The factor of each layer, 0 for the other model and 1 for the model; layers that are missing have 1.
        patch: The id of the example whose activations replace those of the answer; empty for none.
        patch_site: Where they do.
        saved: The name of a saved change that applies before all this; empty for none.
        seed: The seed of the control.
    """

    neurons: tuple[tuple[str, int], ...] = ()
    how: How = "ablate"
    value: float = 0.0
    site: str = ""
    away: str = ""
    toward: str = ""
    strength: float = 0.0
    blend: Mapping[str, float] = field(default_factory=dict)
    patch: str = ""
    patch_site: str = ""
    saved: str = ""
    seed: int = 0

    @classmethod
    def read(cls, given: Any) -> "Change":
        """Return the change that a page describes by a JSON object. Raises InputError if it describes none."""
        if not isinstance(given, dict):
            raise InputError("Expected 'change', an object.")
        if unknown := sorted(given.keys() - cls.__dataclass_fields__.keys()):
            raise InputError(f"A change has no '{unknown[0][:40]}'.")
        texts = {name: _text(name, given.get(name, "")) for name in _TEXTS}
        if (how := given.get("how", "ablate")) not in get_args(How):
            raise InputError(f"how must be one of {', '.join(get_args(How))}.")
        seed = given.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
            raise InputError("seed must be a whole number from 0.")
        return cls(
            neurons=_pairs(given.get("neurons", [])), how=how, blend=_factors(given.get("blend", {})), seed=seed,
            value=_number("value", given.get("value", 0.0), _LARGEST),
            strength=_number("strength", given.get("strength", 0.0), MAX_STRENGTH), **texts,
        )  # fmt: skip

    @property
    def blends(self) -> bool:
        """Whether a factor differs from 1."""
        return any(factor != 1 for factor in self.blend.values())


class Builder:
    """Makes the interventions of changes for one model; vectors and activations that were read are remembered.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.sites = model, {site.name: site for site in model.sites}
        self._kept: OrderedDict[tuple[str, ...], tuple[Tensor, Sequence[Any]]] = OrderedDict()

    @property
    def patchable(self) -> list[str]:
        """The sites that run once for the whole input, so that activations of another input can be put there."""
        return [site.name for site in self.sites.values() if site.part in (None, "encoder")]

    def neurons(self, change: Change) -> list[Intervention]:
        """Return what is done with the chosen neurons. Raises InputError if the model lacks one."""
        units: dict[Site, list[int]] = {}
        for name, unit in change.neurons:
            units.setdefault(self._site(name), []).append(unit)
        if not units:
            return []
        try:
            chosen = Neurons(units)
        except ValueError as error:
            raise InputError(str(error)) from None
        if change.how == "scale":
            return [Scale(chosen, change.value)]
        if change.how == "set":
            return [Set(chosen, change.value)]
        if change.how == "at least":
            return [Clamp(chosen, low=change.value)]
        return [Clamp(chosen, high=change.value)] if change.how == "at most" else [Ablate(chosen)]

    def steering(self, change: Change, groups: Mapping[str, Sequence[Example]]) -> list[Intervention]:
        """Return the steering vector between the means of two groups. Raises InputError if there is none."""
        if not change.site or not change.strength:
            return []
        site, pair = self._site(change.site), (change.away, change.toward)
        if missing := [name for name in pair if name not in groups]:
            raise InputError(f"There is no group '{missing[0][:60]}' here. Choose two groups of the list.")
        if change.away == change.toward:
            raise InputError("Choose two different groups: the vector points from one to the other.")
        members = groups[change.away], groups[change.toward]
        vector = self._remembered(
            ("vector", site.name),
            members,
            lambda: fit_vectors(self.model, [site], members, "mean", Loader())[site.name],
        )
        return [Steer(site, vector, change.strength)]

    def patching(self, change: Change, example: Example | None) -> list[Intervention]:
        """Return the patch with the activations of another example; None for none.

        Raises:
            InputError: The site does not run once for the whole input, or the example is longer than the model reads.
        """
        if example is None or not change.patch_site:
            return []
        site = self._site(change.patch_site)
        if site.name not in self.patchable:
            raise InputError(f"'{site.name}' runs again for every token. Patch at a site before the decoder.")
        self.check_short(example)
        activation = self._remembered(("patch", site.name), (example,), lambda: self._read(site, example))
        timed = site.step is not None and site.step.unit == "s"
        return [Patch(site, activation, align="time" if timed or activation.dim() == 3 else "step")]

    def check_short(self, example: Example) -> None:
        """Raise InputError if an example is read in several pieces, which share no time axis with another example."""
        if self.model.reads_audio and is_long(self.model, example):  # pyright: ignore[reportArgumentType]
            raise InputError("Patching is for recordings that the model reads in one piece.")

    def _read(self, site: Site, example: Example) -> Tensor:
        with capture(self.model, site) as activations:
            decode_examples(self.model, self.model.task, [example], Loader())
        calls = activations.calls(site)
        if len(calls) != 1:
            raise InputError(f"'{site.name}' ran {len(calls)} times for one input. Patch at another site.")
        return calls[0].detach().clone()

    def _site(self, name: str) -> Site:
        if name not in self.sites:
            raise InputError(f"The model has no site '{name[:80]}'.")
        return self.sites[name]

    def _remembered(self, what: tuple[str, str], of: Sequence[Any], make: Callable[[], Tensor]) -> Tensor:
        key = *what, str([[id(one) for one in part] if isinstance(part, Sequence) else id(part) for part in of])
        if key not in self._kept:
            # The examples are kept too: the number of one that is gone could become that of another.
            self._kept[key] = make(), of
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]


_TEXTS = ("site", "away", "toward", "patch", "patch_site", "saved")


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str) or len(given) > 300:
        raise InputError(f"{name} must be a short text.")
    return given


def _number(name: str, given: Any, largest: float) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InputError(f"{name} must be a number.")
    if abs(given) > largest:
        raise InputError(f"{name} must be from {-largest:g} to {largest:g}.")
    return float(given)


def _pairs(given: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(given, list) or len(given) > MAX_NEURONS:
        raise InputError(f"neurons must be a list of at most {MAX_NEURONS:,} pairs of a site and a unit.")
    for pair in given:
        fits = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int
        if not fits:
            raise InputError("neurons must be pairs of a site's name and a unit's number.")
    return tuple(dict.fromkeys((site, unit) for site, unit in given))


def _factors(given: Any) -> dict[str, float]:
    if not isinstance(given, dict) or len(given) > 1000:
        raise InputError("blend must give a factor for each layer.")
    factors = {str(name): _number("blend", value, 1.0) for name, value in given.items()}
    if any(value < 0 for value in factors.values()):
        raise InputError("blend must give factors from 0 to 1.")
    return factors
