"""Speech recognition by CTC (Graves et al. 2006): loss, greedy decoding and alignment."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Batch
from adapt.data.text import strip_punctuation


class Emissions(NamedTuple):
    """The output of a CTC model: `log_probs` `(batch, time, units)`, and `lengths` `(batch,)` in valid time steps."""

    log_probs: Tensor
    lengths: Tensor


class CTC(Protocol):
    """The part of `adapt.models.model.CTCModel` that this module uses; see there for its documentation."""

    @property
    def blank(self) -> int: ...

    def __call__(self, audio: Tensor, lengths: Tensor, /) -> Emissions: ...

    def unwritable(self, example: Example, /) -> list[str]: ...

    def target(self, example: Example, /) -> list[int]: ...

    def decode(self, path: list[int], /) -> str: ...


def ctc_loss(model: CTC, batch: Batch) -> Tensor:
    """Return the mean CTC loss of a batch in nats; each utterance's loss is divided by its number of characters."""
    return _loss(model, batch, model(batch.inputs, batch.lengths))


def _loss(model: CTC, batch: Batch, emissions: Emissions) -> Tensor:
    targets = [model.target(example) for example in batch.examples]
    return nn.functional.ctc_loss(
        emissions.log_probs.transpose(0, 1),
        torch.tensor([unit for target in targets for unit in target], device=emissions.log_probs.device),
        emissions.lengths,
        torch.tensor([len(target) for target in targets], device=emissions.log_probs.device),
        blank=model.blank,
    )


def ctc_terms(model: CTC, example: Example) -> int:
    """Return how many terms an utterance has in the mean that `ctc_loss` returns: one."""
    return 1


def ctc_decode(model: CTC, batch: Batch) -> list[str]:
    """Decode greedily: take the most likely unit at each time step, merge repeats and drop blanks."""
    return _greedy(model, model(batch.inputs, batch.lengths))


def _greedy(model: CTC, emissions: Emissions) -> list[str]:
    best = emissions.log_probs.argmax(-1).cpu()
    return [model.decode(path[:length].tolist()) for path, length in zip(best, emissions.lengths.tolist(), strict=True)]


def ctc_validate(model: CTC, batch: Batch) -> tuple[Tensor, list[str]]:
    """Return what `ctc_loss` and `ctc_decode` return, from one forward pass."""
    emissions = model(batch.inputs, batch.lengths)
    return _loss(model, batch, emissions), _greedy(model, emissions)


def ctc_greedy_loss(model: CTC, batch: Batch, margin: float = 0.5) -> Tensor:
    """Return a loss that is small only if greedy decoding writes the text of the batch's only example.

    A low CTC loss does not guarantee that: the probability may be spread over many alignments, and the most likely
    units may spell another text. Once the CTC loss is below 1, a hinge loss is added: at each time step, the unit of
    the best correct alignment should exceed all others by `margin` nats. Both terms are per character.
    """
    return greedy_loss(model, model(batch.inputs, batch.lengths), model.target(batch.examples[0]), margin)


def greedy_loss(model: CTC, emissions: Emissions, target: list[int], margin: float = 0.5) -> Tensor:
    """Return what `ctc_greedy_loss` returns, given the emissions and the output units of the text."""
    log_probs = emissions.log_probs[0, : int(emissions.lengths[0])]
    loss = nn.functional.ctc_loss(
        log_probs,
        torch.tensor(target, device=log_probs.device),
        torch.tensor(len(log_probs)),
        torch.tensor(len(target)),
        blank=model.blank,
    )
    if not float(loss.detach()) < 1:
        return loss
    path = ctc_path(log_probs.detach(), target, model.blank).to(log_probs.device).unsqueeze(1)
    others = log_probs.scatter(1, path, float("-inf")).amax(1)
    return loss + (others - log_probs.gather(1, path).squeeze(1) + margin).clamp_min(0).sum() / len(target)


def ctc_path(log_probs: Tensor, target: list[int], blank: int, whole: bool = True) -> Tensor:
    """Return the most likely alignment of a text (Viterbi): one output unit per time step, `(time,)`.

    The result is that of `torchaudio.functional.forced_align`; this function is faster for short utterances.

    Args:
        log_probs: `(time, units)`, with at least `ctc_steps(target)` time steps.
        target: The output units of the text.
        blank: The output unit of the blank.
        whole: Whether the alignment is that of the whole text. Otherwise it may end after any of its units.
    """
    states = np.full(2 * len(target) + 1, blank)
    states[1::2] = target
    # numpy takes a quarter of torch's time for arrays this small.
    emitted = log_probs.detach().float().cpu().numpy()[:, states]
    # The blank between two different characters may be skipped.
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf, dtype=np.float32)
    score[:2] = emitted[0, :2]
    moves = np.full((3, len(states)), -np.inf, dtype=np.float32)  # stay, advance by one state, skip a blank
    back = []
    for current in emitted[1:]:
        moves[0], moves[1, 1:], moves[2, 2:] = score, score[:-1], np.where(skips[2:], score[:-2], -np.inf)
        step = moves.argmax(0)
        score = moves.max(0) + current
        back.append(step)
    if whole:
        state = len(states) - 1 if len(states) == 1 or score[-1] >= score[-2] else len(states) - 2
    else:
        state = int(score.argmax())
    path = [state]
    for step in reversed(back):
        state -= int(step[state])
        path.append(state)
    return torch.from_numpy(states[path[::-1]])


def ctc_steps(target: list[int]) -> int:
    """Return the minimum number of time steps for a target: one per unit, and a blank between equal neighbours."""
    return len(target) + sum(left == right for left, right in zip(target, target[1:], strict=False))


def ctc_rejection_reason(
    model: CTC, example: Example, steps: int, seconds: float, alphabet: str, remedy: str
) -> str | None:
    """Return why a text cannot be learned from an utterance; None if it can.

    Args:
        model: The model to train.
        example: The utterance, with its transcript.
        steps: The number of output steps of the utterance.
        seconds: The duration of the utterance.
        alphabet: The characters that the model can write, for the message.
        remedy: What to do about missing characters, for the message.
    """
    missing = model.unwritable(example)
    if missing:
        named = ", ".join(map(repr, missing))
        plain = with_text(example, strip_punctuation(example.text))
        if len(model.unwritable(plain)) < len(missing):
            remedy = f"Remove punctuation with data.normalise=true. Otherwise: {remedy[:1].lower()}{remedy[1:]}"
        return f"the text contains {named}, outside the model's alphabet '{alphabet}'. {remedy}"
    needed = ctc_steps(model.target(example))
    if needed > steps:
        return (
            f"the text needs {needed} output steps, but {seconds:.2f} s of audio give {steps} (CTC writes at most one "
            "character per step). Does the text belong to this audio?"
        )
    return None
