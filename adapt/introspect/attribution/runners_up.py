"""What a model nearly wrote instead of a word: the likeliest other units at each step that made it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.introspect.attribution.words import Word, single_batch
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model


@dataclass(frozen=True)
class StepChoice:
    """One step of a word.

    Attributes:
        unit: What was written: a character of a CTC model, or a token.
        probability: Its probability.
        others: The likeliest other units with their probabilities, the likeliest first. "" is CTC's blank.
        start: The centre of the step in seconds; None for a decoder.
    """

    unit: str
    probability: float
    others: tuple[tuple[str, float], ...]
    start: float | None = None


@torch.no_grad()
def runners_up(model: Model, example: Example, word: Word, count: int = 3) -> list[StepChoice]:
    """Return what else was likely at each step of a word.

    A CTC model repeats a character over several steps; the one where the character is likeliest stands for it.

    Args:
        model: The model.
        example: The example that the model reads.
        word: One of the words that `output_words` returns for it.
        count: How many other units are returned for each step.
    """
    check_count("count", count, 1)
    batch = single_batch(model, example)
    with eval_mode(model):
        if isinstance(model, DecoderModel):
            tokens = torch.tensor([word.prefix], device=batch.inputs.device)
            chances = model(batch.inputs, batch.lengths, tokens)[0].float().softmax(-1).cpu()
            tokenizer: Any = model.tokenizer
            return [
                _choice(chances[step], unit, count, lambda other: tokenizer.decode([other]).strip())
                for step, unit in zip(word.steps, word.units, strict=True)
            ]
        assert isinstance(model, CTCModel)
        log_probs, lengths = model(batch.inputs, batch.lengths)
    chances, valid = log_probs[0].float().exp().cpu(), int(lengths[0])
    output = model.sites[-1].step
    assert output is not None
    first = int(batch.lengths[0]) / model.sample_rate / 2 - (valid - 1) / 2 * output.length  # centre of the first step
    vocabulary, blank = model.vocabulary, model.blank

    def name(unit: int) -> str:
        return "" if unit == blank else vocabulary[unit]

    return [
        _choice(chances[step], unit, count, name, first + step * output.length)
        for unit, step in characters(word, chances)
    ]


def characters(word: Word, chances: Tensor) -> list[tuple[int, int]]:
    """Return the unit and the likeliest step of each character of a CTC word."""
    found: list[tuple[int, int]] = []
    last = None
    for step, unit in zip(word.steps, word.units, strict=True):
        if last != (step - 1, unit):
            found.append((unit, step))
        elif chances[step, unit] > chances[found[-1][1], unit]:
            found[-1] = unit, step
        last = step, unit
    return found


def _choice(
    chances: Tensor, unit: int, count: int, name: Callable[[int], str], start: float | None = None
) -> StepChoice:
    likely = chances.topk(min(count + 1, len(chances))).indices.tolist()
    others = [other for other in likely if other != unit][:count]
    return StepChoice(
        name(unit), float(chances[unit]), tuple((name(other), float(chances[other])) for other in others), start
    )
