"""Merge several models of one architecture into one, in weight space.

Each function takes the weights of the base and of the models by name, `{name: tensor}`, and returns weights. A task
vector is what a model changed: its weights minus the base's. Where no model changed a weight, its bits stay.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from interventions.bits import changed_bits

State = Mapping[str, Tensor]
Combine = Callable[[str, Tensor, Tensor], Tensor]  # (name, base, task vectors `(models, ...)`) to the change


def soup(base: State, models: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of the models (Wortsman et al. 2022, "Model soups", section 2)."""
    shares = _shares(weights)
    return _merged(base, models, shares, lambda _, __, vectors: _weighted_sum(vectors, shares))


def task_arithmetic(base: State, models: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the base plus the weighted sum of the task vectors (Ilharco et al. 2023, section 2)."""
    return _merged(base, models, _shares(weights), lambda _, __, vectors: _weighted_sum(vectors, weights))


def ties(base: State, models: Sequence[State], weights: Sequence[float], density: float = 0.2) -> dict[str, Tensor]:
    """Trim the task vectors, elect a sign for each weight, and average what agrees with it (Yadav et al. 2023).

    Args:
        base: The weights of the base.
        models: The weights of the models.
        weights: The weight of each model.
        density: The share of a task vector that is kept: its largest changes.
    """
    least = [_threshold(base, model, density) for model in models]

    def combine(_: str, __: Tensor, vectors: Tensor) -> Tensor:
        bounds, shares = _column(least, vectors), _column(weights, vectors)
        trimmed = torch.where(vectors.abs() >= bounds, vectors, 0.0) * shares
        sign = trimmed.sum(0).sign()
        agrees = (trimmed.sign() == sign) & (trimmed != 0)
        total = (agrees * shares).sum(0)
        return (trimmed * agrees).sum(0) / torch.where(total == 0, 1.0, total)

    return _merged(base, models, _shares(weights), combine)


def dare(
    base: State, models: Sequence[State], weights: Sequence[float], density: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """Drop changes at random, rescale the others, and add them to the base (Yu et al. 2024, "Super Mario").

    Args:
        base: The weights of the base.
        models: The weights of the models.
        weights: The weight of each model.
        density: The share of the changes that are kept, and divided by this share.
        seed: The seed of the choice.
    """

    def combine(name: str, _: Tensor, vectors: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
        kept = torch.rand(vectors.shape, generator=draw, dtype=torch.float64) < density
        return _weighted_sum(torch.where(kept.to(vectors.device), vectors / density, 0.0), weights)

    return _merged(base, models, _shares(weights), combine)


def fisher(
    base: State,
    models: Sequence[State],
    weights: Sequence[float],
    precisions: Sequence[State],
    base_precision: State | None = None,
    strength: float = 1.0,
) -> dict[str, Tensor]:
    """Average the models, and the base if it has a precision, weighted by their diagonal Fisher information.

    This is Matena & Raffel 2022, section 3. With one model and the base it is also a diagonal form of what inverse
    Hessian regularisation does (Vander Eeckt & Van hamme 2026): a change is the smaller, the more the source depends on
    its weight.

    Args:
        base: The weights of the base.
        models: The weights of the models.
        weights: The weight of each model.
        precisions: The Fisher information of each model's parameters, by name. Other tensors are averaged plainly.
        base_precision: The Fisher information of the base on the source; None leaves the base out of the average.
        strength: How much the base's information counts; each information is divided by its mean over all weights.
    """
    scaled = [_normalised(one) for one in precisions]
    source = None if base_precision is None else _normalised(base_precision)
    plain = [*_shares(weights)]
    if source is not None:
        plain = [share / (1 + strength) for share in plain]

    def combine(name: str, _: Tensor, vectors: Tensor) -> Tensor:
        if name not in scaled[0]:
            return _weighted_sum(vectors, plain)
        own = torch.stack([one[name] for one in scaled]) * _column(weights, vectors)
        total = own.sum(0) + (0.0 if source is None else strength * source[name])
        mean = _weighted_sum(vectors, plain)  # where nothing depends on a weight
        return torch.where(total > 0, (own * vectors).sum(0) / torch.where(total > 0, total, 1.0), mean)

    return _merged(base, models, plain, combine)


def _merged(base: State, models: Sequence[State], shares: Sequence[float], combine: Combine) -> dict[str, Tensor]:
    """Return the base plus what `combine` makes of the task vectors. Other tensors than parameters are averaged.

    A variance that is a sum of changes could become negative, so running statistics are always averaged.
    """
    merged: dict[str, Tensor] = {}
    for name, old in base.items():
        changed = [bool(changed_bits(old, model[name]).any()) for model in models]
        if not any(changed):
            merged[name] = old
        elif not old.is_floating_point():
            merged[name] = models[changed.index(True)][name]
        else:
            start = old.double()
            vectors = torch.stack([model[name].double() - start for model in models])
            change = _weighted_sum(vectors, shares) if ".running_" in f".{name}" else combine(name, start, vectors)
            merged[name] = torch.where((vectors == 0).all(0), old, (start + change).to(old.dtype))
    return merged


def _weighted_sum(vectors: Tensor, weights: Sequence[float]) -> Tensor:
    return (vectors * _column(weights, vectors)).sum(0)


def _column(values: Sequence[float], vectors: Tensor) -> Tensor:
    """Return one value per model, in a shape that multiplies task vectors `(models, ...)`."""
    column = torch.tensor(list(values), dtype=torch.float64, device=vectors.device)
    return column.reshape(-1, *[1] * (vectors.dim() - 1))


def _shares(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _threshold(base: State, model: State, density: float) -> float:
    """Return the size from which on a change is among the largest share `density` of a model's task vector."""
    sizes = [
        (model[name].float() - old.float()).abs().flatten()
        for name, old in base.items()
        if old.is_floating_point() and ".running_" not in f".{name}"
    ]
    every = torch.cat(sizes)
    kept = max(1, round(density * len(every)))
    return float(every.kthvalue(len(every) - kept + 1).values)


def _normalised(precision: State) -> dict[str, Tensor]:
    total = sum(float(one.double().sum()) for one in precision.values())
    count = sum(one.numel() for one in precision.values())
    return {name: one.double() / (total / count if total else 1.0) for name, one in precision.items()}
