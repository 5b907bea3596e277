"""Scale trained low-rank factors: a scaled LoRA is a LoRA, and a scaled DoRA is a DoRA."""

from dataclasses import replace

import torch
from torch import Tensor

from adapt.models.factors import DOWN, LENGTH, UP, Factors, merged_weights


@torch.no_grad()
def scaled_factors(base: torch.nn.Module, factors: Factors, amount: float | Tensor) -> Factors | None:
    """Return factors whose merged weight is `(1 - amount) * base + amount * merged`.

    LoRA's update is linear in its factors: one amount scales `lora_alpha`, an amount per row scales the rows of B. For
    DoRA, row i of the blend is `(1 - a) w + a m (w + b A) / |w + b A|`, which is again a rescaled `w + b' A`, so the
    rows of B and the magnitudes change.

    Args:
        base: The module with its weight from before the factors were merged.
        factors: The factors of this module.
        amount: One number from 0 to 1, or one for each row `(rows,)`.

    Returns:
        The scaled factors; None for methods other than LoRA and DoRA, whose blend they cannot express.
    """
    if not factors.exact:
        return None
    tensors = dict(factors.tensors)
    if LENGTH in tensors:
        return replace(factors, tensors=tensors | _scaled_dora(base, factors, amount))
    if isinstance(amount, Tensor):
        return replace(factors, tensors=tensors | {UP: _by_row(tensors[UP], amount)})
    return replace(factors, options={**factors.options, "lora_alpha": factors.options["lora_alpha"] * amount})


def _scaled_dora(base: torch.nn.Module, factors: Factors, amount: float | Tensor) -> dict[str, Tensor]:
    """Return the new rows of B and the new magnitudes."""
    plain = replace(factors, tensors={name: factors.tensors[name] for name in (DOWN, UP)})
    unscaled = merged_weights(base, plain)["weight"].double().flatten(1)
    weight, length = base.get_parameter("weight").double().flatten(1), factors.tensors[LENGTH]
    per_norm = length.double().reshape(-1) / unscaled.norm(dim=1)
    share = torch.as_tensor(amount, dtype=torch.float64) * per_norm  # of the direction w + b A
    kept = share + 1 - torch.as_tensor(amount, dtype=torch.float64)  # of the direction w
    up = _by_row(factors.tensors[UP], share / kept)
    blended = kept.unsqueeze(1) * weight + share.unsqueeze(1) * (unscaled - weight)
    return {UP: up, LENGTH: blended.norm(dim=1).reshape(length.shape).to(length.dtype)}


def _by_row(tensor: Tensor, amounts: Tensor) -> Tensor:
    return (tensor.double() * amounts.double().reshape(-1, *[1] * (tensor.dim() - 1))).to(tensor.dtype)
