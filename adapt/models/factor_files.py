"""Factors in an adaptation's files: their tensors in `weights.safetensors`, their description in `adaptation.json`."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from adapt.models.factors import Factors, merged_weights
from adapt.models.model import Model

# How far merged weights may differ from those merged on another machine: relative to the change by the factors, and
# relative to the size of the weights.
_CHANGE_TOLERANCE, _SIZE_TOLERANCE = 1e-3, 1e-6


def factor_tensors(factors: Sequence[Factors]) -> dict[str, Tensor]:
    """Return the tensors to store, under the names `MODULE:NAME`, where NAME is peft's."""
    return {
        f"{_in_net(one.module)}:{name}": tensor.cpu().contiguous()
        for one in factors
        for name, tensor in one.tensors.items()
    }


def factor_facts(factors: Sequence[Factors], merged: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Return the description of factors, as JSON: each method with its options, and the modules that have it.

    If peft does the merging, the weights may differ slightly on another machine. The description therefore has a sketch
    of the merged weights of each such module (`_sketch`), against which loading checks them.
    """
    groups: list[dict[str, Any]] = []
    for one in factors:
        options = {name: list(value) if isinstance(value, tuple) else value for name, value in one.options.items()}
        facts = {"method": one.method, "options": options, "seed": one.seed, "exact": one.exact}
        facts |= {} if one.exact else {"peft": version("peft")}
        group = next((known for known in groups if {**known, "modules": None} == {**facts, "modules": None}), None)
        if group is None:
            groups.append(group := {**facts, "modules": {}})
        name = _in_net(one.module)
        written = {key: tensor for key, tensor in merged.items() if key.rpartition(".")[0] == name}
        group["modules"][name] = {} if one.exact else {key: _sketch(tensor) for key, tensor in written.items()}
    return groups


def with_factors(base: Model, factors: Sequence[Factors]) -> dict[str, Tensor]:
    """Merge factors into a base's weights, and return the changed weights by their names in its network."""
    return {
        f"{_in_net(one.module)}.{kind}": tensor
        for one in factors
        for kind, tensor in merged_weights(base.get_submodule(one.module), one).items()
    }


def read_factors(groups: Sequence[Mapping[str, Any]], stored: Mapping[str, Tensor]) -> list[Factors]:
    """Return stored factors, from the description that `factor_facts` returned and the stored tensors."""
    return [
        Factors(f"net.{name}", group["method"], group["options"], group["seed"], _tensors_of(name, stored))
        for group in groups
        for name in group["modules"]
    ]


def _tensors_of(module: str, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{module}:"
    return {key.removeprefix(start): tensor for key, tensor in stored.items() if key.startswith(start)}


def load_factors(
    base: Model, groups: Sequence[Mapping[str, Any]], stored: dict[str, Tensor]
) -> tuple[dict[str, Tensor], bool]:
    """Merge stored factors into a base's weights.

    Args:
        base: The base model, which stays unchanged.
        groups: The description that `factor_facts` returned.
        stored: The stored tensors; those of the factors are removed from it.

    Returns:
        The changed weights by name, and whether they are bit-identical on every machine.

    Raises:
        ValueError: a tensor is missing, does not fit the base, or the merged weights differ from those of the machine
            that stored the factors.
    """
    merged: dict[str, Tensor] = {}
    exact = True
    try:
        for group in groups:
            for name, sketches in group["modules"].items():
                tensors = _tensors_of(name, stored)
                for key in tensors:
                    stored.pop(f"{name}:{key}")
                one = Factors(f"net.{name}", group["method"], group["options"], group["seed"], tensors)
                written = with_factors(base, [one])
                exact &= one.exact
                if not one.exact:
                    _compare(written, sketches, dict(base.net.named_parameters()), group["peft"])
                merged |= written
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"their description is invalid ({type(error).__name__}: {error}).") from None
    return merged, exact


def _compare(
    written: Mapping[str, Tensor], sketches: Mapping[str, list[float]], base: Mapping[str, Tensor], peft: str
) -> None:
    for name in written.keys() | sketches.keys():
        close = name in written and name in sketches
        if close:
            old = base[name].detach().double()
            change, size = float((written[name].double() - old).norm()), float(old.norm())
            tolerance = _CHANGE_TOLERANCE * change + _SIZE_TOLERANCE * size
            pairs = zip(_sketch(written[name]), sketches[name], strict=True)
            close = all(abs(here - there) <= tolerance for here, there in pairs)
        if not close:
            raise ValueError(
                f"the merged weight '{name}' differs from that of the machine that trained it, which had peft {peft}; "
                f"this one has peft {version('peft')}."
            )


def _sketch(tensor: Tensor) -> list[float]:
    """Return two numbers that identify a tensor: its projections onto two fixed vectors of about unit length."""
    flat = tensor.detach().cpu().double().flatten()
    steps = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    return [float((flat * (pace * steps).cos()).sum() * (2 / len(flat)) ** 0.5) for pace in (1.0, 2.3)]


def _in_net(module: str) -> str:
    return module.removeprefix("net.")
