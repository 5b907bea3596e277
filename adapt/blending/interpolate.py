"""Move a model's weights between a base and its adaptation (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning").

    line = Interpolation(base, adapted)
    model = line.model_at(0.8)                       # base + 0.8 (adapted - base)
    model = line.model_at({"*": 1.0, "first 3": 0.5})  # a factor per layer
    model = line.model_at(scores)                    # a factor per neuron

Factor 0 gives the base and factor 1 the adapted model, bit for bit. Weights that the adaptation did not change keep
their bits at any factor. Running statistics of batch norms are interpolated like weights, which is better than to
compute them again (docs/guides/blending.md has the measurement).
"""

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from adapt.blending.choice import check_factor
from adapt.blending.scaled import scaled_factors
from adapt.errors import InputError
from adapt.models.factors import Factors, merged_weights
from adapt.models.model import Model
from adapt.models.state import weights
from interventions.bits import changed_bits
from interventions.neurons import Scores
from interventions.sites import choose_layers

# One factor; factors by layer (or a glob of parameters), of which the last match counts, and 1 elsewhere; or a factor
# for each neuron.
Factor = float | Mapping[Any, float] | Scores
OUTSIDE = "outside the layers"


class Interpolation:
    """All models between a base and its adaptation.

    Args:
        base: The base. It and `adapted` stay unchanged, and must not change while this object is used.
        adapted: The adapted model, of the same architecture. If its alphabet grew, its new output units keep their
            weights at any factor.
        factors: Low-rank factors that were merged into `adapted`.

    Attributes:
        changed: The names of the tensors that differ, in the network's order.
        layers: For each layer with a difference, from input to output: the names of these tensors.

    Raises:
        InputError: the models have different architectures.
    """

    def __init__(self, base: Model, adapted: Model, factors: Sequence[Factors] = ()) -> None:
        self.base, self.adapted = base, adapted
        self._old, self._new = aligned_weights(base, adapted), weights(adapted.net)
        self.changed = [name for name, new in self._new.items() if changed_bits(self._old[name], new).any()]
        self.layers = layers_of(adapted, self.changed)
        names = {f"{one.module}.weight".removeprefix("net."): one for one in factors}
        current = weights(base.net)
        # A rebuilt output layer has other rows than the base's, so factors do not fit it.
        self._factors = {name: one for name, one in names.items() if current[name].shape == self._new[name].shape}

    def amounts(self, factor: Factor) -> dict[str, float | Tensor]:
        """Return the factor of each changed tensor: one number, or one for each row `(rows,)`.

        With a factor for each neuron, its weight rows have this factor. In a layer with one site, so do the
        neuron's entries in vectors of that length, such as those of a batch norm. All else has the mean of its layer.

        Raises:
            InputError: a factor is not from 0 to 1, or a key of a mapping matches nothing.
        """
        if isinstance(factor, Scores):
            return self._amounts_by_neuron(factor)
        if not isinstance(factor, Mapping):
            check_factor("factor", factor)
            return dict.fromkeys(self.changed, float(factor))
        result: dict[str, float | Tensor] = dict.fromkeys(self.changed, 1.0)
        for key, value in factor.items():
            check_factor(f"factor.{key}", value)
            names = self._matching(key)
            if names is None:
                known = ", ".join(layer.name for layer in self.adapted.layers)
                raise InputError(
                    f"factor: {key!r} matches no layer and no weight. Give numbers, names or globs of layers "
                    f"({known}), "
                    "'first N', 'last N', or globs of weights such as '*.bias'."
                )
            result |= dict.fromkeys(names, float(value))
        return result

    @torch.no_grad()
    def tensors(self, factor: Factor) -> dict[str, Tensor]:
        """Return the changed tensors of the network at a factor, by name. Raises InputError as `amounts`."""
        found: dict[str, Tensor] = {}
        for name, amount in self.amounts(factor).items():
            one = self._scaled(name, amount)
            if one is None or not one.exact:
                found[name] = between(self._old[name], self._new[name], amount)
            else:
                found[name] = merged_weights(self.base.get_submodule(one.module), one)["weight"]
        return found

    def changes(self) -> dict[str, Tensor]:
        """Return the change of each changed tensor of floating-point numbers, by name."""
        return {
            name: self._new[name].detach() - self._old[name]
            for name in self.changed
            if self._new[name].is_floating_point()
        }

    def factors(self, factor: Factor) -> list[Factors]:
        """Return the low-rank factors of the model at a factor, for `save_adaptation`."""
        amounts = self.amounts(factor)
        scaled = (self._scaled(name, amounts[name]) for name in self._factors if name in amounts)
        return [one for one in scaled if one is not None]

    def write(self, model: Model, factor: Factor) -> None:
        """Give a model of the adapted architecture the weights at a factor. Raises InputError as `amounts`."""
        model.net.load_state_dict(self.tensors(factor), strict=False)

    def model_at(self, factor: Factor) -> Model:
        """Return a new model with the weights at a factor, in eval mode. Raises InputError as `amounts`."""
        model = copy.deepcopy(self.adapted)
        self.write(model, factor)
        return model.eval()

    def _scaled(self, name: str, amount: float | Tensor) -> Factors | None:
        """Return the factors of a weight at an amount; None if it has none, or none that can be scaled."""
        one = self._factors.get(name)
        if one is None or (not isinstance(amount, Tensor) and amount == 0):
            return None
        if not isinstance(amount, Tensor) and amount == 1:
            return one
        return scaled_factors(self.base.get_submodule(one.module), one, amount)

    def _matching(self, key: str | int) -> list[str] | None:
        """Return the changed tensors that a key names; None if it matches nothing, changed or not."""
        if key in self.layers:  # a layer's own name may read like a choice of layers
            return self.layers[str(key)]
        try:
            chosen = choose_layers(self.adapted.layers, key)
        except ValueError:
            every = [name for name in self._new if any(fnmatchcase(each, str(key)) for each in (name, f"net.{name}"))]
            return [name for name in every if name in set(self.changed)] if every else None
        return [name for layer in chosen for name in self.layers.get(layer.name, [])]

    def _amounts_by_neuron(self, scores: Scores) -> dict[str, float | Tensor]:
        for site in scores.sites:
            if not ((scores[site] >= 0) & (scores[site] <= 1)).all():
                raise InputError(f"factor: the factors of the neurons at '{site.name}' must be from 0 to 1.")
        by_row = {row.removeprefix("net."): scores[site] for site in scores.sites for row in site.rows}
        if not by_row:
            raise InputError("factor: none of its sites has weight rows of its own, so neurons have no factors.")
        overall = float(torch.cat([values.double() for values in by_row.values()]).mean())
        result: dict[str, float | Tensor] = {}
        every = layers_of(self.adapted, self._new)
        for layer, names in self.layers.items():
            own = {name: by_row[name] for name in every[layer] if name in by_row}
            mean = float(torch.cat([one.double() for one in own.values()]).mean()) if own else overall
            single = next(iter(own.values())) if len({id(one) for one in own.values()}) == 1 else None
            for name in names:
                shape = self._new[name].shape
                result[name] = own.get(name, single if single is not None and shape == single.shape else mean)
        return result


def between(old: Tensor, new: Tensor, amount: float | Tensor) -> Tensor:
    """Return `old + amount (new - old)`, computed in float64 and rounded once; where both are equal, their own bits.

    Args:
        old: The tensor at amount 0.
        new: The tensor at amount 1, of the same shape.
        amount: One number, or one for each row of the tensors, `(rows,)`.

    Returns:
        The tensor between them, with the dtype of `new`. Whole numbers are those of `new` unless the amount is 0.
    """
    shape = (-1, *[1] * (new.dim() - 1)) if isinstance(amount, Tensor) and new.dim() else ()
    share = torch.as_tensor(amount, dtype=torch.float64, device=new.device).reshape(shape)
    if not new.is_floating_point():
        return torch.where(share > 0, new, old)
    mixed = (old.double() + share * (new.double() - old.double())).to(new.dtype)
    return torch.where(share == 1, new, torch.where((share == 0) | (old == new), old, mixed))


def aligned_weights(base: Model, adapted: Model) -> dict[str, Tensor]:
    """Return the base's weights in the shapes of the adapted model.

    If the alphabet changed, the rows of the output layer are those of the same characters. Where the base has no such
    character, they are the adapted model's.

    Raises:
        InputError: the models have different architectures.
    """
    old, new = weights(base.net), weights(adapted.net)
    if old.keys() != new.keys():
        raise InputError(f"The models have different architectures: only one has '{min(old.keys() ^ new.keys())}'.")
    head, units = adapted.head.removeprefix("net."), {token: unit for unit, token in enumerate(base.vocabulary)}
    pairs = [(unit, units[token]) for unit, token in enumerate(adapted.vocabulary) if token in units]
    for name, tensor in new.items():
        if base.vocabulary != adapted.vocabulary and name.rpartition(".")[0] == head:
            rows, old_rows = (list(side) for side in zip(*pairs, strict=True))
            aligned = tensor.detach().clone()
            aligned[rows] = old[name].detach()[old_rows]
            old[name] = aligned
        if old[name].shape != tensor.shape or old[name].dtype != tensor.dtype:
            raise InputError(
                f"The models have different architectures: '{name}' is {tuple(old[name].shape)} ({old[name].dtype}) in "
                f"the one, and {tuple(tensor.shape)} ({tensor.dtype}) in the other."
            )
    return {name: old[name].detach() for name in new}


def layers_of(model: Model, names: Sequence[str] | Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Divide tensors of a network among the model's layers, from input to output; those outside all come last."""
    owners = {module: layer.name for layer in model.layers for module in layer.modules}
    found: dict[str, list[str]] = {layer.name: [] for layer in model.layers} | {OUTSIDE: []}
    for name in names:
        module = f"net.{name}".rpartition(".")[0]
        while module and module not in owners:
            module = module.rpartition(".")[0]
        found[owners.get(module, OUTSIDE)].append(name)
    return {layer: own for layer, own in found.items() if own}
