"""Whether an input supports a corrected text: what is not said, or no translation, is not forced on a model."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from math import isfinite

import torch

from adapt.data.example import Example
from adapt.data.kinds import input_exists, with_text
from adapt.data.loader import Batch, collate
from adapt.data.pairs import Pair
from adapt.models.model import CTCModel, Model

LIMIT = 10.0  # nats a character
LARGEST = 1.0  # of a change that makes a CTC model write a text, beside the layer's usual output (README)


@torch.no_grad()
def unsupported(model: Model, batch: Batch, before: str, others: Sequence[Example]) -> str:
    """Why a corrected text, that of the batch's one example, is not one of its input; "" where it may be.

    - CTC: the text costs `LIMIT` nats more than the model's own answer `before`, for each character that they differ
      in. What is said, badly heard, costs some 4; another word in its place some 20 (README).
    - Speech encoder-decoders: the text is no likelier here than on `others` (some of the protected examples).
    - Translation: the text is the source itself; or it takes fewer tokens as a source than as a target, where a model
      has a tokenizer for each (Marian): then it is in the source's language, or at least not in the target's.
    """
    (example,) = batch.examples
    task, text = model.task, model.task.normalise(example.text)
    if isinstance(example, Pair):
        as_source, as_target = (len(read) for read in (model.reader.source(Pair(text)), model.reader.target(text)))
        if text == task.normalise(example.source):
            return "it is the source itself."
        own_tokenizers = model.reader.source(Pair(example.source)) != model.reader.target(example.source)
        if own_tokenizers and as_source < as_target:
            return (
                f"it takes {as_source} tokens as a sentence of the source language and {as_target} as one of the "
                "target language, so that it seems not to be in the target's."
            )
        return ""

    def loss(of: Example) -> float:
        read = model.reader.read(of)
        return float(task.loss(model, collate([(with_text(of, text), read)]).to(batch.inputs.device)))

    if isinstance(model, CTCModel):
        answered = replace(batch, examples=[with_text(example, before)])
        own = float(task.loss(model, answered)) * len(before) if before else 0.0
        more = (float(task.loss(model, batch)) * len(text) - own) / max(1, _differing(before, text))
        if more > LIMIT or not isfinite(more):
            return (
                f"each character that differs from '{before}' costs {more:.0f} nats (at most {LIMIT:g} where the words "
                "are said, only badly heard). Is that what is said?"
            )
        return ""
    heard = [example for example in others if input_exists(example)][:3]
    if heard and loss(example) >= sum(map(loss, heard)) / len(heard):
        return "the text is no likelier for this audio than for others. Is that what is said?"
    return ""


def _differing(one: str, other: str) -> int:
    """How many characters two texts differ in."""
    pieces = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in pieces if kind != "equal")
