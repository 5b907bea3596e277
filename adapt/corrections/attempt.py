"""Decode single examples, and try to add the correction of an example to a memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.corrections.overrides import overridden
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Batch, Loader, collate
from adapt.introspect.activations import valid_lengths
from adapt.models.ctc import ctc_greedy_loss
from adapt.models.inference import decode_examples
from adapt.models.model import CTCModel, Model, SpeechDecoderModel
from adapt.progress import track
from interventions.corrections.correct import CorrectionResult, correct
from interventions.corrections.memory import Memory
from interventions.corrections.search import Search

STRENGTH = 300.0  # default weight of the protected inputs, in time steps
# Where steps are tokens, changes must be larger, because the normalisation after the layer reduces them. The keys of a
# sentence's positions are also so similar that no map of the keys can give each position the change it needs.
SEARCHES = {"s": Search(), "token": Search(rate=0.03, penalty=0.005, margin=0.1, residual_scale=2.0)}


def unwritable(model: Model, example: Example, length: int) -> str:
    """Return why the model cannot output an example's text, or "" if it can.

    Args:
        model: the model.
        example: the example, with its text.
        length: length of the input that the model's reader returns for the example.
    """
    if not model.task.normalise(example.text):
        return "there is no text."
    return model.rejection_reason(example, length, training=True) or ""


def answer(model: Model, batch: Batch) -> str:
    """Return the model's normalised answer to the only example of a batch."""
    return model.task.normalise(written_answer(model, batch))


def written_answer(model: Model, batch: Batch) -> str:
    """Return the model's answer to the only example of a batch as the model writes it, with its capitals and all."""
    with torch.no_grad():
        return model.task.decode(model, batch)[0]


def answered(model: Model, examples: Sequence[Example], loader: Loader) -> list[Example]:
    """Return the examples with the model's answers as their texts, leaving out those with an empty answer."""
    texts = decode_examples(model, model.task, examples, loader, "answering")
    return [with_text(example, text) for example, text in zip(examples, texts, strict=True) if text]


def likely_answer(model: Model, batch: Batch) -> str:
    """Return the model's normalised answer to the only example of a batch, sooner if it is the example's text."""
    confirmed = confirmed_answer(model, batch)
    return answer(model, batch) if confirmed is None else model.task.normalise(confirmed)


@torch.no_grad()
def confirmed_answer(model: Model, batch: Batch) -> str | None:
    """Return the model's answer to the only example of a batch if it is its text, and one pass over the text proves it.

    None does not mean that the answer is another one. Output overrides apply to what is returned.
    """
    if not isinstance(model, SpeechDecoderModel):
        return None
    text = model.confirmed_text(batch.inputs, batch.lengths, batch.examples[0])
    return None if text is None else overridden(model, text)


def answers_from(model: Model, examples: Sequence[Example], guesses: Sequence[str]) -> list[str]:
    """Return the model's answers to examples, as `decode_examples` does, but sooner for those that are guessed right.

    Args:
        model: the model.
        examples: the examples.
        guesses: the answer to each that is likely.
    """
    texts: dict[int, str] = {}
    if isinstance(model, SpeechDecoderModel):
        device = next(model.parameters()).device
        for number, (example, guess) in enumerate(zip(track(examples, "protected"), guesses, strict=True)):
            batch = collate([(with_text(example, guess), model.reader.read(example))]).to(device)
            confirmed = confirmed_answer(model, batch)
            if confirmed is not None:
                texts[number] = confirmed
    others = [number for number in range(len(examples)) if number not in texts]
    if others:
        decoded = decode_examples(model, model.task, [examples[one] for one in others], Loader(), "protected")
        texts |= dict(zip(others, decoded, strict=True))
    return [texts[number] for number in range(len(examples))]


def add_correction(
    model: Model, memory: Memory, number: int, batch: Batch, text: str, search: Search | None = None
) -> CorrectionResult:
    """Try to add a correction of the only example of a batch to a memory that is not applied to the model.

    Args:
        model: the model.
        memory: the memory.
        number: an unused number for the correction.
        batch: the example, with its corrected text.
        text: the corrected text, normalised.
        search: settings of the search; None: the default for the layer's kind of steps.
    """
    site = memory.protected.layer.site
    steps = int(valid_lengths(model, batch)(site))
    search = search or SEARCHES[site.step.unit if site.step else "s"]

    def loss() -> Tensor:
        return ctc_greedy_loss(model, batch) if isinstance(model, CTCModel) else model.task.loss(model, batch)

    def is_correct() -> bool:
        return likely_answer(model, batch) == text

    return correct(model, memory, number, loss, is_correct, steps, search)
