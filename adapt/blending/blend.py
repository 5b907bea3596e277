"""Blend existing models: one adaptation with its base, or several models of the same base into one.

blended = blend(["outputs/scottish"], factor=0.8)
blended = blend(["outputs/a", "outputs/b"], method="ties")
blended.save("outputs/both/adaptation")
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from adapt.blending import merge
from adapt.blending.choice import Budget
from adapt.blending.curvature import diagonal_fisher
from adapt.blending.front import Front
from adapt.blending.interpolate import Factor, Interpolation, aligned_weights
from adapt.blending.related import common_base, stored_factors
from adapt.blending.search import EXAMPLES, search
from adapt.blending.source_data import part_off, stand_in
from adapt.blending.statistics import recompute_statistics
from adapt.checks import check_choice, check_count, check_number, check_share, is_number
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside, place
from adapt.models.factors import Factors
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.state import model_fingerprint, weights
from adapt.models.writing import normalising

Method = Literal["interpolate", "soup", "arithmetic", "ties", "dare", "fisher"]
_SUMMED = 0.4  # of a sum of task vectors, where no data decide (Yadav et al. 2023, section 6)


@dataclass(frozen=True)
class Blended:
    """A blend with its base.

    Attributes:
        base: The base.
        loaded: The blend, in eval mode.
        factors: Low-rank factors, if the blend of an adaptation by LoRA has some.
        front: The blends that were measured, and the chosen one; None if the factor was given.
        facts: Facts for the files: the models, the method and the factor.
    """

    base: Loaded
    loaded: Loaded
    factors: Sequence[Factors] = ()
    front: Front | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path | str) -> None:
        """Write an adaptation: the tensors that differ from the base, and which base that is."""
        save_adaptation(Path(folder), self.base, self.loaded.model, self.factors, **self.facts)


def blend(
    models: str | Sequence[str],
    *,
    method: Method | None = None,
    factor: Factor | Literal["auto"] | None = None,
    base: str | None = None,
    weights: Sequence[float] | None = None,
    density: float | None = None,
    strength: float = 1.0,
    statistics: Literal["interpolate", "recompute"] = "interpolate",
    splits: Splits | None = None,
    forget: float | str | None = None,
    loader: Loader | None = None,
    seed: int = 0,
    device: Any = "cpu",
) -> Blended:
    """Blend models in weight space. Nothing is trained.

    Args:
        models: One or several adaptations (runs, or their folders) of the same base, or whole models with `base`.
        method: "interpolate" (one model; the default for one), "soup" (the mean; the default for several), "arithmetic"
            (the sum of their changes), "ties", "dare", or "fisher" (weighted by Fisher information; needs data).
        factor: How far the result moves from the base (0) to what the method gives (1): a number, numbers by layer such
            as `{"*": 1.0, "first 3": 0.5}`, scores with a factor for each neuron, or "auto" to search on validation
            data. None: 0.4 for sums of several changes (arithmetic, dare), else 1; with `forget`, "auto".
        base: The base; needed for whole models, and for adaptations whose base was moved.
        weights: The weight of each model; None weighs them alike.
        density: For ties and dare: the share of changes that are kept; None for 0.2 and 0.5.
        strength: For fisher: how much the base counts beside the models; 0 leaves it out.
        statistics: Whether running statistics of batch norms are blended, or computed again from training data.
        splits: `validation`, `source_validation` and `source_train` for the search; `train` and source data for fisher
            and for statistics. Test data are not used.
        forget: How much worse the source may become, for the search.
        loader: Batches the examples.
        seed: The seed of dare, and of the random controls of the search.
        device: Where the models run: "cpu", "cuda", "cuda:1" or "auto".

    Returns:
        The blend; `save` writes it as an adaptation of the base.

    Raises:
        InputError: an option is out of range, data are missing, or the models have different bases or shapes.
    """
    names = [models] if isinstance(models, str) else list(models)
    method = method or ("interpolate" if len(names) == 1 else "soup")
    shares = _checked(names, method, weights, density, strength, statistics, seed)
    budget, data, loader = Budget.of(forget), splits or Splits(), as_loader(loader)
    if budget is not None and factor not in (None, "auto"):
        raise InputError(f"forget={forget} is kept by the search for a factor: leave out factor={factor}.")
    loaded = [place(load_model(name), device, double=True) for name in names]
    parent = beside(common_base(names, loaded, base), loaded[0].model)
    merged, factors = _combined(parent, loaded, method, shares, density, strength, data, loader, seed)
    line = Interpolation(parent.model, merged, factors)
    front, at = None, _SUMMED if method in ("arithmetic", "dare") and len(names) > 1 else 1.0
    if factor == "auto" or budget is not None:
        front = _searched(parent, line, data, loader, budget, seed)
        at = front.point.factor if front.point.kind == "single" else front.point.layers
    elif factor is not None:
        at = factor
    model = line.model_at(at)  # pyright: ignore[reportArgumentType]  "auto" was excluded above
    if statistics == "recompute":
        examples = evenly((*data.train, *data.source_train), EXAMPLES)
        if not examples:
            raise InputError("statistics=recompute needs training data: give data.train=...")
        recompute_statistics(model, examples, loader)
    facts: dict[str, Any] = {
        "blend": {"models": names, "method": method, "factor": _plain(at), "statistics": statistics}
    }
    if len(names) == 1:  # what was trained is still what differs
        kept = ("trained", "trained_rows", "trained_factors", "topographic")
        facts |= {key: loaded[0].header[key] for key in kept if key in loaded[0].header}
    header = {**model.header(), **facts, "base": {"reference": parent.reference, "fingerprint": parent.fingerprint,
                                                  "model": parent.model.header()}}  # fmt: skip
    result = Loaded(model, ", ".join(names), model_fingerprint(model), header)
    return Blended(parent, result, line.factors(at), front, facts)


def _checked(
    names: Sequence[str],
    method: str,
    weights: Sequence[float] | None,
    density: float | None,
    strength: float,
    statistics: str,
    seed: int,
) -> list[float]:
    check_choice("method", method, get_args(Method))
    check_choice("statistics", statistics, ("interpolate", "recompute"))
    check_count("seed", seed, 0, 2**32 - 1)
    check_number("strength", strength, 0.0)
    if not names:
        raise InputError("models is empty: give one or several adaptations.")
    if method == "interpolate" and len(names) > 1:
        raise InputError(
            f"method=interpolate blends one model with its base; got {len(names)}. Give method=soup, arithmetic, ties, "
            "dare or fisher."
        )
    if density is not None:
        if method not in ("ties", "dare"):
            raise InputError(f"density is for method=ties and dare, not {method}.")
        check_share("density", density, one=True)
    shares = [1.0] * len(names) if weights is None else list(weights)
    if len(shares) != len(names) or not all(is_number(one) and one >= 0 for one in shares) or not sum(shares):
        raise InputError(f"weights must be one number of 0 or more for each of the {len(names)} models; got {weights}.")
    return shares


def _combined(
    base: Loaded,
    models: Sequence[Loaded],
    method: str,
    shares: Sequence[float],
    density: float | None,
    strength: float,
    data: Splits,
    loader: Loader,
    seed: int,
) -> tuple[Model, Sequence[Factors]]:
    """Return what the method makes of the models at factor 1, and its low-rank factors."""
    if method == "interpolate":
        return models[0].model, stored_factors(models[0], base)
    old = aligned_weights(base.model, models[0].model)
    states = [weights(one.model.net) for one in models]
    if method == "soup":
        state = merge.soup(old, states, shares)
    elif method == "arithmetic":
        state = merge.task_arithmetic(old, states, shares)
    elif method == "ties":
        state = merge.ties(old, states, shares, 0.2 if density is None else density)
    elif method == "dare":
        state = merge.dare(old, states, shares, 0.5 if density is None else density, seed)
    else:
        state = _by_fisher(base, models, old, states, shares, strength, data, loader)
    model = copy.deepcopy(models[0].model)
    model.net.load_state_dict(state, strict=False)
    return model.eval(), ()


def _by_fisher(
    base: Loaded,
    models: Sequence[Loaded],
    old: Mapping[str, Tensor],
    states: Sequence[Mapping[str, Tensor]],
    shares: Sequence[float],
    strength: float,
    data: Splits,
    loader: Loader,
) -> dict[str, Tensor]:
    target = evenly(data.validation or data.train, EXAMPLES)
    source = evenly(data.source_train or data.source_validation, EXAMPLES)
    if not target or (strength > 0 and not source):
        missing = "data.train=..." if not target else "data.source_train=..., or strength=0 to leave the base out"
        raise InputError(f"method=fisher measures how much the models depend on each weight: give {missing}.")
    precisions = [diagonal_fisher(one.model, target, loader) for one in models]
    anchored = diagonal_fisher(base.model, source, loader) if strength > 0 else None
    return merge.fisher(old, states, shares, precisions, anchored, strength)


def _searched(
    base: Loaded, line: Interpolation, data: Splits, loader: Loader, budget: Budget | None, seed: int
) -> Front:
    if not data.validation:
        raise InputError("factor=auto needs validation data of the target: give data.validation=...")
    data, sentence = part_off(data, replayed=False)
    source = list(data.source_validation)
    if not source:
        source, sentence = stand_in(base, base.model, data.validation, loader)
    sets = {"target": data.validation, "source": source}
    with normalising([line.adapted, base.model], (*data.validation, *source)):  # as the result is compared
        return search(line, sets, loader, budget=budget, data=sentence, seed=seed)


def _plain(factor: Any) -> Any:
    if is_number(factor):
        return float(factor)
    return {str(key): value for key, value in factor.items()} if isinstance(factor, Mapping) else "a factor per neuron"
