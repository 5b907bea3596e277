"""Decide whether an input supports a corrected text, so that a model is not taught texts that nobody said."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from itertools import islice
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from adapt.corrections.heard import least_supported
from adapt.corrections.same_input import same_input
from adapt.data.example import Example
from adapt.data.kinds import input_exists, with_text
from adapt.data.loader import Batch, collate
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.model import CTCModel, Model

COMPARED = 3  # protected examples whose audio a text is scored on for comparison


@dataclass(frozen=True)
class SupportLimits:
    """The limits beyond which corrections are refused. `measure_limits` measures them for a model.

    Args:
        cost: for CTC models: at most how much the negative log-likelihood of the text may exceed that of the model's
            own answer, in nats per differing character.
        size: for CTC models: the largest change at the layer, relative to the scale of the layer's outputs.
        margin: for speech encoder-decoders: how much likelier the text must at least be for its own audio than for
            other audio, in nats per token.
        word: for speech encoder-decoders: at most how much a changed word may cost, in nats
            (`adapt.corrections.heard`).
    """

    cost: float = 10.0
    size: float = 1.0
    margin: float = 1.0
    word: float = 11.0

    def as_dict(self) -> dict[str, float]:
        """Return the limits as JSON data."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "SupportLimits":
        """Return the limits among a store's facts, or the defaults for stores of older versions, which have none."""
        limits = facts.get("limits", {})
        known = (
            {name: limits[name] for name in ("cost", "size", "margin", "word") if name in limits}
            if isinstance(limits, dict)
            else {}
        )
        if not all(isinstance(one, (int, float)) and 0 < one < inf for one in known.values()):
            raise InputError(f"The limits of these corrections are {limits}: expected numbers above 0.")
        return cls(**known)


@torch.no_grad()
def unsupported(
    model: Model, batch: Batch, before: str, others: Sequence[Example], limits: SupportLimits | None = None
) -> str:
    """Return why the text of the only example of a batch does not fit its input, or "" if it may fit.

    - CTC models: the text costs more than `limits.cost` nats for each character that differs from the model's answer.
      A text that was said but misheard costs about 4 nats per character, one with a different word about 20.
    - Speech encoder-decoders: the text is less than `limits.margin` nats per token likelier for this audio than for the
      audio of `others`, or a word in which it differs from the model's answer costs more than `limits.word` nats.
    - Translation: the text is the source sentence itself. For models with a tokenizer for each language (Marian), it is
      also refused if it takes fewer tokens as a source than as a target, because it is then not in the target language.

    Args:
        model: the model.
        batch: the example, with the corrected text.
        before: the model's answer.
        others: protected examples whose audio the text is scored on for comparison; the example itself does not count.
        limits: the limits; None: the defaults.
    """
    (example,) = batch.examples
    text, limits = model.task.normalise(example.text), limits or SupportLimits()
    if isinstance(example, Pair):
        return _not_a_translation(model, example, text)
    if isinstance(model, CTCModel):
        cost = cost_per_character(model, batch, before)
        if cost > limits.cost or not isfinite(cost):
            return (
                f"each character that differs from '{before}' costs {cost:.0f} nats (at most {limits.cost:.0f} if the "
                "words were said, but misheard). Check that this is what was said."
            )
        return ""
    word = least_supported(model, batch, before)
    if word is not None and not word.cost <= limits.word:
        what = f"'{word.word}' costs" if word.word else f"leaving out '{word.removed}' costs"
        return (
            f"{what} {word.cost:.0f} nats (at most {limits.word:.0f} if the words were said, but misheard). Check that "
            "this is what was said."
        )
    audible = [*islice((one for one in others if input_exists(one) and not same_input(model, example, one)), COMPARED)]
    if not audible:
        return ""
    margin = support_margin(model, batch, audible)
    if margin < limits.margin or not isfinite(margin):
        return (
            f"each token of the text is {margin:.1f} nats likelier for this audio than for other audio (at least "
            f"{limits.margin:.1f} if this was said). Check that this is what was said."
        )
    return ""


@torch.no_grad()
def support_margin(model: Model, batch: Batch, others: Sequence[Example]) -> float:
    """Return by how much the text of a batch's only example is likelier for its audio than for that of others.

    Args:
        model: a speech encoder-decoder.
        batch: the example, with its text.
        others: at least one example with other audio. Their texts are not used.

    Returns:
        The mean difference of the log-likelihoods, in nats per token.
    """
    elsewhere = [mean_loss(model, batch.examples[0], model.reader.read(other)) for other in others]
    return sum(elsewhere) / len(elsewhere) - float(model.task.loss(model, batch))


@torch.no_grad()
def mean_loss(model: Model, example: Example, read: Tensor) -> float:
    """Return the loss of an example's text, in its language, for the audio `read` by the model's reader."""
    return float(model.task.loss(model, collate([(example, read)]).to(next(model.parameters()).device)))


@torch.no_grad()
def cost_per_character(model: CTCModel, batch: Batch, before: str) -> float:
    """Return by how much the text of a batch's only example costs more than the answer `before`, in nats per character.

    Only characters that differ are counted.
    """
    (example,) = batch.examples
    task, text = model.task, model.task.normalise(example.text)
    own_batch = replace(batch, examples=[with_text(example, before)])
    own = float(task.loss(model, own_batch)) * len(before) if before else 0.0
    return (float(task.loss(model, batch)) * len(text) - own) / max(1, differing_characters(before, text))


def _not_a_translation(model: Model, example: Pair, text: str) -> str:
    from adapt.models.text_reader import TextReader

    if text == model.task.normalise(example.source):
        return "it is the source itself."
    reader = model.reader
    if not isinstance(reader, TextReader):
        return ""
    as_source, as_target = len(reader.source(Pair(text))), len(reader.target(text))
    two_tokenizers = reader.source(Pair(example.source)) != reader.target(example.source)
    if two_tokenizers and as_source < as_target:
        return (
            f"it takes {as_source} tokens as a sentence of the source language and {as_target} as one of the target "
            "language, so it does not seem to be in the target language."
        )
    return ""


def differing_characters(one: str, other: str) -> int:
    """Return the number of characters in which two texts differ."""
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in blocks if kind != "equal")
