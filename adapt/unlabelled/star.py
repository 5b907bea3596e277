"""The trust in each token of a pseudo-label (STAR: Hu et al. 2024, arXiv 2405.14161, section 3.2).

A model is often sure of wrong tokens. The decoder's attention among its own tokens says more, but is noisy. STAR takes
the attention, and corrects it by the confidence where the two do not conflict.
"""

import torch
from torch import Tensor

THRESHOLD = 2.0  # lambda in the paper: the ratio from which the two scores conflict
TEMPERATURE = 10.0  # tau in the paper


def attentive_scores(attention: Tensor, own: Tensor) -> Tensor:
    """Return how much each token attends to the text, and the text to it, with mean 1 over the tokens of the text.

    Args:
        attention: `(tokens, tokens)`, the mean over the heads of the decoder's last layer; row i attends to column j.
            Position i reads the token before target i, so the score of target i is that of position i + 1.
        own: `(tokens,)`, which targets are tokens of the text; the others are a prompt, the end or padding.
    """
    scores = torch.ones(len(own), dtype=attention.dtype, device=attention.device)
    places = own.nonzero().flatten()
    read = places[places + 1 < len(own)] + 1  # the positions that read the text's tokens
    if len(read) < len(places):
        places = places[: len(read)]
    if not len(read):
        return scores
    inside = attention[read][:, read]
    scores[places] = inside.sum(1) + inside.sum(0) - inside.diagonal()
    return scores / scores[places].mean().clamp_min(1e-6)


def star_scores(probabilities: Tensor, attention: Tensor | None, own: Tensor) -> Tensor:
    """Return the weight of each target token in the loss.

    Args:
        probabilities: `(tokens,)`, the model's probability of each target.
        attention: As in `attentive_scores`; None for a model without it, whose weights are the confidences.
        own: `(tokens,)`, which targets are tokens of the text. All others have weight 1.

    Returns:
        `(tokens,)`, at most 2 each, so that one token cannot outweigh a text.
    """
    weights = torch.ones_like(probabilities)
    if not own.any():
        return weights
    confidence = probabilities / probabilities[own].mean().clamp_min(1e-6)
    if attention is None:
        weights[own] = confidence[own]
        return weights.clamp(0, 2)
    attentive = attentive_scores(attention.to(probabilities.dtype), own)
    first = attentive.square() / confidence.clamp_min(1e-6)
    second = confidence.square() / attentive.clamp_min(1e-6)
    conflict = torch.sigmoid(first - THRESHOLD) + torch.sigmoid(second - THRESHOLD)
    stable = torch.sigmoid(THRESHOLD - first) * torch.sigmoid(THRESHOLD - second)
    scores = attentive * (conflict + stable * ((confidence - attentive) / TEMPERATURE).exp())
    weights[own] = scores[own]
    return weights.clamp(0, 2)
