"""Speech to text by CTC (Graves et al. 2006): the loss, and greedy decoding.

A model for it has `forward(audio, lengths)`, which returns `Emissions`; `blank`, the output unit that writes nothing;
`missing(text)`, the characters that it cannot write; `encode(text)`, the output unit of each character; and
`decode(path)`, the text of one output unit a time step.
"""

from typing import NamedTuple

import numpy as np
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


def ctc_greedy_loss(model: nn.Module, batch: Batch, margin: float = 0.5) -> Tensor:
    """The CTC loss of a batch's one example, and what keeps greedy decoding from its text: a low loss alone does not.

    It may be shared out over many alignments, of which none is the likeliest (a doubled letter, say). So where the loss
    is low already, each time step adds what the unit of the likeliest right alignment lacks to be ahead of all others
    by `margin` nats. By character, as the loss is.
    """
    emissions = model(batch.inputs, batch.lengths)
    log_probs = emissions.log_probs[0, : int(emissions.lengths[0])]
    target = model.encode(batch.examples[0].text)
    loss = nn.functional.ctc_loss(
        log_probs, torch.tensor(target), torch.tensor(len(log_probs)), torch.tensor(len(target)), blank=model.blank
    )
    if not float(loss.detach()) < 1:
        return loss
    path = ctc_path(log_probs.detach(), target, model.blank).to(log_probs.device).unsqueeze(1)
    others = log_probs.scatter(1, path, float("-inf")).amax(1)
    return loss + (others - log_probs.gather(1, path).squeeze(1) + margin).clamp_min(0).sum() / len(target)


def ctc_path(log_probs: Tensor, target: list[int], blank: int) -> Tensor:
    """The likeliest alignment of a text (Viterbi): an output unit for each time step, `(time,)`.

    `log_probs` is `(time, units)`; there must be as many steps as the text needs (`ctc_steps`).
    """
    states = np.full(2 * len(target) + 1, blank)
    states[1::2] = target
    # In numpy, which takes a quarter of torch's time for arrays as small as these.
    emitted = log_probs.detach().float().cpu().numpy()[:, states]
    # A blank between two different letters may be left out.
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf, dtype=np.float32)
    score[:2] = emitted[0, :2]
    ways = np.full((3, len(states)), -np.inf, dtype=np.float32)  # to stay, to come from the state before, to skip one
    back = []
    for now in emitted[1:]:
        ways[0], ways[1, 1:], ways[2, 2:] = score, score[:-1], np.where(skips[2:], score[:-2], -np.inf)
        step = ways.argmax(0)
        score = ways.max(0) + now
        back.append(step)
    state = len(states) - 1 if len(states) == 1 or score[-1] >= score[-2] else len(states) - 2
    path = [state]
    for step in reversed(back):
        state -= int(step[state])
        path.append(state)
    return torch.from_numpy(states[path[::-1]])


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
