"""The words of a model's output, each with the output steps that produced it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from adapt.data.example import Example, language_of
from adapt.data.kinds import with_text
from adapt.data.loader import Batch
from adapt.introspect.profiles.groups import starts_word, token_class
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model, SpeechDecoderModel


@dataclass(frozen=True)
class Word:
    """One word of a model's output.

    Attributes:
        text: The word.
        steps: The output steps that produced it.
        units: The output unit at each of these steps.
        prefix: For a decoder, the tokens of the output up to and including the word.
        start: Start of its first step in seconds; None for a decoder.
        end: End of its last step in seconds; None for a decoder.
    """

    text: str
    steps: tuple[int, ...]
    units: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    start: float | None = None
    end: float | None = None


def output_words(model: Model, example: Example) -> list[Word]:
    """Return the words of the model's output for an example."""
    batch = single_batch(model, example)
    with eval_mode(model), torch.no_grad():
        if isinstance(model, DecoderModel):
            return words_of_tokens(model, _written(model, batch))
        assert isinstance(model, CTCModel)
        return _ctc_words(model, batch)


def single_batch(model: Model, example: Example) -> Batch:
    """Return a batch of one example on the model's device."""
    x = model.reader.read(example)
    device = next(model.parameters()).device
    return Batch(x.unsqueeze(0), torch.tensor([len(x)]), [example]).to(device)


def _written(model: DecoderModel, batch: Batch) -> list[int]:
    """Return the tokens that the model writes for a batch of one example, also if punctuation is removed from them."""
    (example,) = batch.examples
    languages = [language_of(example)]
    if not isinstance(model, SpeechDecoderModel) or not model.generation_options.normalise:
        return model.target(with_text(example, model.generate(batch.inputs, batch.lengths, languages)[0]))
    options = model.generation_options
    model.set_generation(replace(options, normalise=False))
    try:
        return model.target(with_text(example, model.generate(batch.inputs, batch.lengths, languages)[0]))
    finally:
        model.set_generation(options)


def _ctc_words(model: CTCModel, batch: Batch) -> list[Word]:
    log_probs, lengths = model(batch.inputs, batch.lengths)
    valid = int(lengths[0])
    output = model.sites[-1].step
    assert output is not None
    step, seconds = output.length, int(batch.lengths[0]) / model.sample_rate
    first = seconds / 2 - (valid - 1) / 2 * step  # the centre of the first step
    words: list[Word] = []
    steps: list[int] = []
    path = log_probs[0, :valid].argmax(-1).tolist()
    for place, unit in [*enumerate(path), (valid, None)]:
        if unit is None or model.vocabulary[unit] in (" ", "|"):
            text = model.decode([path[at] for at in range(steps[0], steps[-1] + 1)]).strip() if steps else ""
            if text:
                start, end = max(0.0, first + (steps[0] - 0.5) * step), min(seconds, first + (steps[-1] + 0.5) * step)
                words.append(Word(text, tuple(steps), tuple(path[at] for at in steps), (), start, end))
            steps = []
        elif unit != model.blank:
            steps.append(place)
    return words


def words_of_tokens(model: DecoderModel, tokens: Sequence[int]) -> list[Word]:
    """Return the words of a decoder's output, given its tokens."""
    special = model.special_units
    words: list[tuple[list[int], list[int]]] = []
    for place, unit in enumerate(tokens):
        kind = token_class(model.vocabulary[unit], unit in special)
        if kind == "special":
            continue
        if not words or starts_word(model.vocabulary[unit]):
            words.append(([], []))
        words[-1][0].append(place)
        words[-1][1].append(unit)
    decode = model.tokenizer.decode
    return [
        Word(decode(units).strip(), tuple(places), tuple(units), tuple(tokens[: places[-1] + 1]))
        for places, units in words
    ]
