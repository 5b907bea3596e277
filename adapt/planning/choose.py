"""Which recordings to transcribe next, or which sentences to translate or to read next, within a budget."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.checks import check_count, check_number, check_type
from adapt.data.example import Example
from adapt.data.loader import Loader, as_loader
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.planning.candidates import Criterion, Measured, measure, measures_for
from adapt.planning.next_batch import NextBatch, Pool, choose_batch
from adapt.planning.units import Units, units_of

CHARACTERS_PER_SECOND = 14.0  # of read speech, if no known recording tells the reader's own rate


def next_examples(
    loaded: Loaded,
    candidates: Sequence[Example],
    known: Sequence[Example] = (),
    *,
    minutes: float | None = None,
    number: int | None = None,
    criterion: Criterion = "combined",
    units: Units = "letters",
    voice: str = "en-us",
    loader: Loader | None = None,
    folder: Path | str | None = None,
    seed: int = 0,
) -> NextBatch:
    """Choose which recordings to transcribe, or which sentences to translate, next.

    Args:
        loaded: The model that is to be adapted, or that was adapted already.
        candidates: Recordings or sentence pairs without references. What references they have is not used.
        known: Examples with references, which need not be covered again.
        minutes: The budget in minutes of audio. Give this or `number`.
        number: The budget as a number of examples.
        criterion: "coverage" of units, and of speakers where they are known; or the same with each candidate weighted
            by its expected "gradient" length, by the model's "confusion" (entropy), by the "disagreement" between
            speeds, or by all of these ("combined"); or "random".
        units: The units to cover: "letters", "words" or "phonemes" (`adapt.planning.units.units_of`).
        voice: The voice of espeak-ng for phonemes.
        loader: Batches the candidates; None for the default.
        folder: Where measurements are kept, so that an interrupted choice continues; None for nowhere.
        seed: The seed of random choices.

    Returns:
        The batch, with the scores of all candidates and a comparison with random batches.

    Raises:
        InputError: an option is out of range, or does not fit the model; or no candidate fits the budget.
    """
    model = loaded.model
    names = measures_for(model, criterion)
    if minutes is not None and not model.reads_audio:
        raise InputError("Sentences have no minutes. Give number, the number of sentences to translate.")
    _check(candidates, minutes, number, seed)
    place = None if folder is None else user_path(folder)
    if model.reads_audio or names:
        measured = measure(loaded, candidates, names, as_loader(loader), place)
    else:
        measured = Measured(("",) * len(candidates), {})  # only the sources count
    texts = measured.hypotheses if model.reads_audio else [_source(example) for example in candidates]
    covered = units_of([example.text if model.reads_audio else _source(example) for example in known], units, voice)
    costs = [1.0] * len(candidates) if minutes is None else [model.reader.length(e) / 60 for e in candidates]
    counts = units_of(texts, units, voice)
    speakers = [_speaker(example) for example in candidates]
    seen = _sum([*covered, *map(_speaker, known)])
    pool = Pool(candidates, measured.hypotheses, counts, seen, costs, measured.values, speakers)
    kind = "transcribe" if model.reads_audio else "translate"
    return choose_batch(pool, kind, criterion, units, minutes, number, seed)


def next_sentences(
    loaded: Loaded,
    sentences: Sequence[str],
    known: Sequence[Example] = (),
    *,
    minutes: float | None = None,
    number: int | None = None,
    criterion: Criterion = "combined",
    units: Units = "letters",
    voice: str = "en-us",
    loader: Loader | None = None,
    seed: int = 0,
) -> NextBatch:
    """Choose which sentences to read aloud next, to adapt a speech recogniser.

    There is no audio yet, so the model's confusion is that on the `known` recordings: how often it misses each unit.

    Args:
        loaded: The speech recogniser.
        sentences: The candidates.
        known: Recordings with transcripts, if there are any: their units need not be covered again, their errors tell
            which units are hard, and their durations how fast the reader is.
        minutes: The budget in minutes of reading, estimated from the number of characters.
        number: The budget as a number of sentences.
        criterion: "combined" (coverage, weighted by the errors on the known recordings), "coverage", "confusion" (the
            same as combined) or "random".
        units, voice, loader, seed: As in `next_examples`.

    Raises:
        InputError: as `next_examples`; or `criterion` needs audio, or known recordings that are not there.
    """
    if not loaded.model.reads_audio:
        raise InputError(f"'{loaded.reference}' reads text. Use next_examples() to choose sentences to translate.")
    if criterion in ("gradient", "disagreement"):
        raise InputError(f"criterion={criterion!r} needs audio. For sentences to read, give combined or coverage.")
    measures_for(loaded.model, criterion)
    if criterion == "confusion" and not known:
        raise InputError(
            "criterion='confusion' needs known recordings, on which the model's errors are counted. Give some, or "
            "criterion='coverage'."
        )
    _check(sentences, minutes, number, seed)
    own, covered = units_of(sentences, units, voice), units_of([example.text for example in known], units, voice)
    values: dict[str, Tensor] = {}
    if known and criterion in ("combined", "confusion"):
        model = loaded.model
        heard = units_of(decode_examples(model, model.task, known, as_loader(loader), "known"), units, voice)
        values["confusion"] = _expected_errors(own, covered, heard)
    rate = _reading_rate(loaded.model, known)
    costs = [1.0] * len(sentences) if minutes is None else [len(text) / rate / 60 for text in sentences]
    pool = Pool(None, sentences, own, _sum(covered), costs, values)
    return choose_batch(pool, "read", criterion, units, minutes, number, seed)


def _check(candidates: Sequence[Any], minutes: float | None, number: int | None, seed: int) -> None:
    check_count("seed", seed)
    check_type("candidates", candidates, (list, tuple), "Give a list.")
    if not candidates:
        raise InputError("There are no candidates to choose from.")
    if (minutes is None) == (number is None):
        raise InputError(f"Give a budget, either minutes or number; got minutes={minutes} and number={number}.")
    if minutes is not None:
        check_number("minutes", minutes, 0)
    if number is not None:
        check_count("number", number, 1)
    for place, candidate in enumerate(candidates, start=1):
        text = candidate if isinstance(candidate, str) else candidate.source if isinstance(candidate, Pair) else None
        if text is not None and not text.strip():
            raise InputError(f"candidates: number {place} of {len(candidates)} is an empty sentence. Leave it out.")


def _speaker(example: Example) -> Counter[str]:
    speaker = example.group("speaker")
    return Counter() if speaker == "unknown" else Counter([f"speaker {speaker}"])


def _sum(counts: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for own in counts:
        total.update(own)
    return total


def _expected_errors(
    own: Sequence[Counter[str]], known: Sequence[Counter[str]], heard: Sequence[Counter[str]]
) -> Tensor:
    """Return the mean rate, over the units of each text, at which the model missed them in known recordings."""
    there, missed = Counter(), Counter()
    for reference, hypothesis in zip(known, heard, strict=True):
        there.update(reference)
        missed.update(reference - hypothesis)
    mean = missed.total() / max(1, there.total())
    # A unit that was rarely or never there has about the mean rate: it counts as seen once more at that rate.
    rate = {unit: (missed[unit] + mean) / (count + 1) for unit, count in there.items()}
    means = [
        sum(rate.get(unit, mean) * count for unit, count in counts.items()) / max(1, counts.total()) for counts in own
    ]
    return torch.tensor(means, dtype=torch.float64)


def _reading_rate(model: Model, known: Sequence[Example]) -> float:
    """Return characters per second."""
    seconds = sum(model.reader.length(example) for example in known)
    return sum(len(example.text) for example in known) / seconds if seconds else CHARACTERS_PER_SECOND


def _source(example: Example) -> str:
    assert isinstance(example, Pair)
    return example.source
