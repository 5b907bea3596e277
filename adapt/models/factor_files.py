"""Factors in an adaptation's files: `weights.safetensors` has their tensors, `adaptation.json` says what they are."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from adapt.models.factors import Factors, made
from adapt.models.model import Model

# How far a weight may be from another machine's: of its change, and of itself.
_NEAR, _ROUNDING = 1e-3, 1e-6


def factor_tensors(factors: Sequence[Factors]) -> dict[str, Tensor]:
    """The tensors to store, by module and peft's name."""
    return {
        f"{_inside(one.module)}:{name}": tensor.cpu().contiguous()
        for one in factors
        for name, tensor in one.tensors.items()
    }


def factor_facts(factors: Sequence[Factors], merged: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """What to say of them, as JSON: a method with its options, and the modules that have it.

    Where another machine may merge them into slightly other weights, each module has a `sketch` of these.
    """
    groups: list[dict[str, Any]] = []
    for one in factors:
        options = {name: list(value) if isinstance(value, tuple) else value for name, value in one.options.items()}
        facts = {"method": one.method, "options": options, "seed": one.seed, "exact": one.exact}
        facts |= {} if one.exact else {"peft": version("peft")}
        group = next((known for known in groups if {**known, "modules": None} == {**facts, "modules": None}), None)
        if group is None:
            groups.append(group := {**facts, "modules": {}})
        name = _inside(one.module)
        written = {key: tensor for key, tensor in merged.items() if key.rpartition(".")[0] == name}
        group["modules"][name] = {} if one.exact else {key: _sketch(tensor) for key, tensor in written.items()}
    return groups


def with_factors(base: Model, factors: Sequence[Factors]) -> dict[str, Tensor]:
    """What the factors make of a base's weights: those that change, by their names in its network."""
    return {
        f"{_inside(one.module)}.{kind}": tensor
        for one in factors
        for kind, tensor in made(base.get_submodule(one.module), one).items()
    }


def load_factors(
    base: Model, groups: Sequence[Mapping[str, Any]], stored: dict[str, Tensor]
) -> tuple[dict[str, Tensor], bool]:
    """What stored factors make of a base's weights, and whether it is the same on every machine.

    Their tensors are taken out of `stored`.

    Raises:
        ValueError: they are not whole, do not fit the base, or become other weights here than where they were stored.
    """
    merged: dict[str, Tensor] = {}
    exact = True
    try:
        for group in groups:
            for name, sketches in group["modules"].items():
                own = {key: stored.pop(key) for key in list(stored) if key.startswith(f"{name}:")}
                tensors = {key.removeprefix(f"{name}:"): tensor for key, tensor in own.items()}
                one = Factors(f"net.{name}", group["method"], group["options"], group["seed"], tensors)
                written = with_factors(base, [one])
                exact &= one.exact
                if not one.exact:
                    _compare(written, sketches, dict(base.net.named_parameters()), group["peft"])
                merged |= written
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"they are not described as we do it ({type(error).__name__}: {error}).") from None
    return merged, exact


def _compare(
    written: Mapping[str, Tensor], sketches: Mapping[str, list[float]], base: Mapping[str, Tensor], peft: str
) -> None:
    for name in written.keys() | sketches.keys():
        near = name in written and name in sketches
        if near:
            old = base[name].detach().double()
            change, size = float((written[name].double() - old).norm()), float(old.norm())
            pairs = zip(_sketch(written[name]), sketches[name], strict=True)
            near = all(abs(here - there) <= _NEAR * change + _ROUNDING * size for here, there in pairs)
        if not near:
            raise ValueError(
                f"'{name}' becomes another weight here than where it was trained, with peft {peft}; here is peft "
                f"{version('peft')}."
            )


def _sketch(tensor: Tensor) -> list[float]:
    """Two numbers that another tensor would not have: projections onto fixed directions of about unit length."""
    flat = tensor.detach().cpu().double().flatten()
    steps = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    return [float((flat * (pace * steps).cos()).sum() * (2 / len(flat)) ** 0.5) for pace in (1.0, 2.3)]


def _inside(module: str) -> str:
    return module.removeprefix("net.")
