"""Speech to text by CTC (Graves et al. 2006): the loss, and greedy decoding.

A model for it has `forward(audio, lengths)`, which returns `Emissions`; `blank`, the output unit that writes nothing;
`missing(text)`, the characters that it cannot write; `encode(text)`, the output unit of each character; and
`decode(path)`, the text of one output unit a time step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapt.data.loader import Batch


class Emissions(NamedTuple):
    """`log_probs` `(batch, time, units)`, and `lengths` `(batch,)`: how many time steps are the utterance's own."""

    log_probs: Tensor
    lengths: Tensor


def ctc_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over utterances of the CTC loss, each divided by its number of characters. Natural logarithm."""
    emissions = model(batch.inputs, batch.lengths)
    targets = [model.encode(example.text) for example in batch.examples]
    return nn.functional.ctc_loss(
        emissions.log_probs.transpose(0, 1),
        torch.tensor([unit for target in targets for unit in target], device=emissions.log_probs.device),
        emissions.lengths,
        torch.tensor([len(target) for target in targets], device=emissions.log_probs.device),
        blank=model.blank,
    )


def ctc_decode(model: nn.Module, batch: Batch) -> list[str]:
    """The text of the likeliest unit at each time step, repeats joined and blanks dropped."""
    emissions = model(batch.inputs, batch.lengths)
    best = emissions.log_probs.argmax(-1).cpu()
    return [model.decode(path[:length].tolist()) for path, length in zip(best, emissions.lengths.tolist(), strict=True)]


def ctc_steps(target: list[int]) -> int:
    """The fewest time steps that can spell a target: one a character, and a blank between equal neighbours."""
    return len(target) + sum(left == right for left, right in zip(target, target[1:], strict=False))


def ctc_unfit(model: nn.Module, text: str, steps: int, seconds: float, alphabet: str, remedy: str) -> str | None:
    """Why a text cannot be learned from audio of `steps` output steps; None where it can. `remedy`: for new letters."""
    missing = model.missing(text)
    if missing:
        named = ", ".join(map(repr, missing))
        return f"the text has {named}, outside the model's alphabet '{alphabet}'. {remedy}"
    needed = ctc_steps(model.encode(text))
    if needed > steps:
        return (
            f"the text needs {needed} output steps, and {seconds:.2f} s of audio give {steps} (CTC writes at most "
            "one character a step). Does the text belong to this audio?"
        )
    return None
