"""Speech to text by CTC (Graves et al. 2006): the loss, and greedy decoding."""

import torch
from torch import Tensor, nn

from adapt.data.loader import Batch


def ctc_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over utterances of the CTC loss, each divided by its number of characters. Natural logarithm."""
    emissions = model(batch.audio, batch.lengths)
    targets = [model.labels.encode(utterance.text) for utterance in batch.utterances]
    return nn.functional.ctc_loss(
        emissions.log_probs.transpose(0, 1),
        torch.tensor([unit for target in targets for unit in target], device=emissions.log_probs.device),
        emissions.lengths,
        torch.tensor([len(target) for target in targets], device=emissions.log_probs.device),
        blank=model.labels.blank,
    )


def ctc_decode(model: nn.Module, batch: Batch) -> list[str]:
    """The text of the likeliest unit at each time step, repeats joined and blanks dropped."""
    emissions = model(batch.audio, batch.lengths)
    best = emissions.log_probs.argmax(-1).cpu()
    return [
        model.labels.decode(path[:length].tolist())
        for path, length in zip(best, emissions.lengths.tolist(), strict=True)
    ]


def ctc_steps(target: list[int]) -> int:
    """The fewest time steps that can spell a target: one a character, and a blank between equal neighbours."""
    return len(target) + sum(left == right for left, right in zip(target, target[1:], strict=False))
