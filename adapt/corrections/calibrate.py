"""Calibrate the limits beyond which a model's corrections are refused, using the model's own answers."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from statistics import fmean

import torch
from torch import Tensor

from adapt.corrections.attempt import SEARCHES, add_correction, answer, unwritable
from adapt.corrections.heard import changed_words
from adapt.corrections.support import SupportLimits, cost_per_character, differing_characters, mean_loss
from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import collate
from adapt.models.encoder_cache import cached_encoder
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel, Model, SpeechDecoderModel
from adapt.progress import track
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected

WRONG = 6  # examples whose text gets a wrong word
MISHEARD = 3  # examples whose audio gets noise
SPOKEN = 6  # examples whose answers are compared with each other's audio
_SHARE = 0.3  # where the margin limit lies between the mean margins of wrong and right texts; misread ones have less
_WORDS = 4  # wrong words put into each of these answers
_WORD_SHARE = 2 / 3  # the word limit, as a share of the mean cost of wrong words
_SIZES = 2.0  # the size limit is at least this multiple of the largest change for a true text
_LEAST = 0.1  # a text must always be this much likelier for its audio than for other audio
_FEWEST = 4  # different answers needed to calibrate
_CANDIDATES = 4  # words drawn; the most different one is used, because a similar word could have been misheard
_NOISE = [0.01 * 2**level for level in range(10)]  # noise levels, relative to the root mean square of the audio


def measure_limits(
    model: Model, protected: Protected, strength: float, examples: Sequence[Example]
) -> SupportLimits | None:
    """Return the limits for a model's corrections; None for translation models, which need none.

    See `calibrate_limits` for the arguments.
    """
    if isinstance(model, CTCModel):
        return calibrate_limits(model, protected, strength, examples)
    if isinstance(model, SpeechDecoderModel):
        return calibrate_margin(model, examples)
    return None


@torch.no_grad()
def calibrate_margin(model: SpeechDecoderModel, examples: Sequence[Example], seed: int = 0) -> SupportLimits:
    """Measure how likely wrong texts and wrong words are for a model, and return limits that refuse them.

    A wrong text is the model's answer to another example. The limit is three tenths of the way from the mean margin
    (`support_margin`) of wrong texts to that of the model's answers for their own audio. A wrong word is one of another
    answer, in the place of one of the model's words. The limit is two thirds of the mean cost of wrong words. The
    defaults are returned if there are fewer than four different answers.

    Args:
        model: the model.
        examples: protected examples, with the model's answers as their texts.
        seed: seed for the choice of wrong words.
    """
    different = list({model.task.normalise(example.text): example for example in examples}.values())
    count = min(SPOKEN, len(different))
    spaced = [different[number * len(different) // count] for number in range(count)]
    if count < _FEWEST:
        return SupportLimits()
    with eval_mode(model), cached_encoder(model):
        # One audio after another, because its keys and values are the same for all texts.
        heard = [model.reader.read(example) for example in spaced]
        costs = [[mean_loss(model, text, read) for text in spaced] for read in track(heard, "calibrating")]
    right: list[float] = []
    wrong: list[float] = []
    for audio, row in enumerate(costs):
        for said, cost in enumerate(row):
            margin = fmean(costs[other][said] for other in range(count) if other not in (said, audio)) - cost
            (right if audio == said else wrong).append(margin)
    limit = fmean(wrong) + _SHARE * (fmean(right) - fmean(wrong))
    if not isfinite(limit):
        return SupportLimits()
    return replace(_word_limit(model, spaced, heard, seed), margin=max(_LEAST, limit))


def _word_limit(
    model: SpeechDecoderModel, examples: Sequence[Example], heard: Sequence[Tensor], seed: int
) -> SupportLimits:
    """Return the limit for the cost of a word, from wrong words in the model's answers to the audio `heard`."""
    draw, costs = random.Random(seed), []
    texts = [model.task.normalise(example.text) for example in examples]
    vocabulary = sorted({word for text in texts for word in text.split()})
    with eval_mode(model), cached_encoder(model):
        for example, read, text in zip(examples, heard, texts, strict=True):
            for _ in range(_WORDS):
                words = text.split()
                words[draw.randrange(len(words))] = draw.choice(vocabulary)
                wrong = with_text(example, " ".join(words))
                if unwritable(model, wrong, len(read)):
                    continue
                batch = collate([(wrong, read)]).to(next(model.parameters()).device)
                costs += [one.cost for one in changed_words(model, batch, text)]
    limit = _WORD_SHARE * fmean(costs) if costs else SupportLimits.word
    return SupportLimits(word=max(_LEAST, limit)) if isfinite(limit) else SupportLimits()


def calibrate_limits(
    model: CTCModel, protected: Protected, strength: float, examples: Sequence[Example], seed: int = 0
) -> SupportLimits:
    """Measure what corrections to wrong and to true texts need, and return limits that separate the two.

    A wrong text is the model's answer with one word replaced by a different one. A true text is the answer itself, for
    audio with just enough white noise that the model misreads it. The limit for the size of a change is the smallest
    change that a wrong text needs, but at least twice the largest that a true text needs. The limit for the cost is
    midway between the highest cost of a true text and the lowest of a wrong one. Calibration never makes the cost limit
    stricter, or the size limit more lenient, than the default. The defaults are returned if no correction to a wrong
    text succeeds.

    Args:
        model: the model.
        protected: statistics of the protected inputs.
        strength: weight of the protected inputs in the ridge regression.
        examples: protected examples, with the model's answers as their texts.
        seed: seed for the choice of words and for the noise.
    """
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    words = sorted({word for example in examples for word in model.task.normalise(example.text).split()})
    default = SupportLimits()
    if len(words) < 2:
        return default
    wrong: list[SupportLimits] = []
    true: list[SupportLimits] = []
    spaced = [examples[number * len(examples) // WRONG] for number in range(min(WRONG, len(examples)))]
    with eval_mode(model):
        for number, example in enumerate(track(spaced, "calibrating")):
            text = model.task.normalise(example.text)
            read = model.reader.read(example)
            wrong += _measure(model, protected, strength, with_text(example, _with_wrong_word(text, words, draw)), read)
            if number < MISHEARD:
                noisy = _misheard(model, example, text, read, generator)
                if noisy is not None:
                    true += _measure(model, protected, strength, with_text(example, text), noisy)
    if not wrong:
        return default
    largest = max((one.size for one in true), default=0.0)
    size = max(min(one.size for one in wrong), _SIZES * largest)
    cost = (max((one.cost for one in true), default=0.0) + min(one.cost for one in wrong)) / 2
    return SupportLimits(max(default.cost, cost), min(default.size, size))


def _measure(
    model: CTCModel, protected: Protected, strength: float, example: Example, read: Tensor
) -> list[SupportLimits]:
    """Return a list with the cost and size of the correction of one example.

    The list is empty if the model's answer is already the example's text, or if the correction fails.
    """
    if unwritable(model, example, len(read)):
        return []
    batch = collate([(example, read)]).to(next(model.parameters()).device)
    before, text = answer(model, batch), model.task.normalise(example.text)
    if before == text:
        return []
    site = protected.layer.site
    search = replace(SEARCHES[site.step.unit if site.step else "s"], rounds=1)
    result = add_correction(model, Memory.new(protected, strength), 1, batch, text, search)
    return [SupportLimits(cost_per_character(model, batch, before), result.size)] if result.fixed else []


def _with_wrong_word(text: str, words: Sequence[str], draw: random.Random) -> str:
    """Replace a random word of the text by the most different of a few randomly drawn words."""
    own = text.split()
    place = draw.randrange(len(own))
    others = [word for word in words if word != own[place]]
    candidates = draw.sample(others, min(_CANDIDATES, len(others)))
    own[place] = max(candidates, key=lambda word: differing_characters(own[place], word))
    return " ".join(own)


def _misheard(model: CTCModel, example: Example, text: str, read: Tensor, generator: torch.Generator) -> Tensor | None:
    """Return the audio with the least noise that changes the model's answer, or None if no level does."""
    device = next(model.parameters()).device
    noise = torch.randn(read.shape, generator=generator) * read.square().mean().sqrt()
    for level in _NOISE:
        noisy = read + level * noise
        if answer(model, collate([(example, noisy)]).to(device)) != text:
            return noisy
    return None
