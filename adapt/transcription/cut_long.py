"""Cut long recordings that come with a text into utterances with the matching parts of the text.

The pieces are those in which a recording is transcribed. A CTC model aligns the whole text with its own output (forced
alignment). A decoder first transcribes the pieces, and the text is aligned with the words of its answers. A piece whose
text is not more likely for its audio than for the same audio played backwards is left out.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from adapt.data.example import Example, Phoneme
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Utterance
from adapt.data.normalisers import split_characters
from adapt.data.pieces import Cuts, Piece, cut_recording, read_pieces
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.eval_mode import eval_mode
from adapt.models.model import CTCModel, Model
from adapt.progress import track
from adapt.transcription.ctc_words import emissions_of, units_of
from adapt.transcription.long_alignment import align_long
from adapt.transcription.transcribe import is_long, longest_piece, silences_for, transcribe_recordings

# Nats by which a text must be likelier for its audio than for it backwards. Of the parts of three strings of accented
# speech, Whisper tiny.en has 0.3 to 4.3 nats a token for the right texts, and -0.5 to 0.1 for those of other parts.
LEAST_CHARACTER, LEAST_TOKEN = 1.0, 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a long recording: its start and end in seconds, its text, and why it is left out ("" if it is not)."""

    start: float
    end: float
    text: str
    problem: str = ""


@dataclass(frozen=True)
class CutExamples:
    """Examples of which the long ones were cut.

    Attributes:
        examples: The examples, with the parts of a long one in its place.
        found: The parts of each example that was cut, by its key (`key_of`).
        problems: A sentence for each part that was left out.
    """

    examples: tuple[Example, ...]
    found: Mapping[str, tuple[TextPart, ...]]
    problems: tuple[str, ...] = ()


def cut_examples(
    model: Model,
    examples: Sequence[Example],
    loader: Loader | None = None,
    name: str = "recordings",
    known: Mapping[str, Sequence[TextPart]] | None = None,
) -> CutExamples:
    """Cut the examples that are longer than a model reads at once (`is_long`) and have a text.

    Args:
        model: A speech recogniser; with others, nothing is cut.
        examples: The examples.
        loader: Batches the pieces; None for the default.
        name: What is cut, for the label of the progress bar and the log.
        known: Parts that were found before, by the keys of their examples.

    Returns:
        The examples, and what was left out. An example that cannot be read stays as it is; whoever checks the examples
        names it.
    """
    long = [one for one in examples if isinstance(one, (Utterance, Recording)) and _is_cut(model, one)]
    found = {key: tuple(known[key]) for one in long if known and (key := key_of(one)) in known}
    new = [one for one in long if key_of(one) not in found]
    with eval_mode(model), torch.inference_mode():
        for example in track(new, f"cutting {name}") if new else ():
            with suppress(InputError):
                found[key_of(example)] = tuple(_cut(model, example, loader))
    kept: list[Example] = []
    problems: list[str] = []
    for example in examples:
        parts = found.get(key_of(example)) if isinstance(example, (Utterance, Recording)) else None
        if parts is None or not isinstance(example, (Utterance, Recording)):
            kept.append(example)
            continue
        kept += [_part(example, part) for part in parts if not part.problem]
        problems += [f"{_part(example, part).where}: {part.problem}" for part in parts if part.problem]
    if found:
        ctc = isinstance(model, CTCModel)
        log.info(
            "Cut %d long recordings of %s into %d utterances, by aligning their texts with %s. %d parts were left "
            "out.%s", len(found), name, len(kept) - len(examples) + len(found),
            "the model's own output" if ctc else "the words of the model's own answers", len(problems),
            f" The first: {problems[0]}" if problems else "",
        )  # fmt: skip
    return CutExamples(tuple(kept), found, tuple(problems))


def key_of(example: Utterance | Recording) -> str:
    """Return what identifies an example, its text and its audio: the file with its size and time, or the samples."""
    digest = hashlib.sha256(f"{example.name}\n{example.text}\n".encode("utf-8", "replace"))
    if isinstance(example, Recording):
        digest.update(example.samples.tobytes())
    else:
        with suppress(OSError):
            stat = example.audio_filepath.stat()
            digest.update(f"{example.offset} {example.duration} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _is_cut(model: Model, example: Utterance | Recording) -> bool:
    return model.reads_audio and bool(example.text.strip()) and is_long(model, example)


def _cut(model: Model, example: Utterance | Recording, loader: Loader | None) -> Iterator[TextPart]:
    cuts = cut_recording(example, longest_piece(model), silences=silences_for(model))
    words = example.text.split()
    if not cuts.pieces:
        yield TextPart(0.0, cuts.seconds, example.text, "there is no speech in it.")
        return
    texts = _ctc_texts(model, example, cuts) if isinstance(model, CTCModel) else _texts(model, example, cuts, loader)
    rest = " ".join(words[sum(len(text.split()) for text in texts) :])
    if rest:
        yield TextPart(0.0, cuts.seconds, rest, f"there is no audio left for the end of its text, '{_short(rest)}'.")
    for piece, text, audio in zip(
        cuts.pieces, texts, read_pieces(example, model.sample_rate, cuts.pieces), strict=True
    ):
        if text:
            own = audio.samples[_samples(piece.left - piece.start, audio) : _samples(piece.right - piece.start, audio)]
            reason = _problem(model, replace(audio, samples=own, text=text))
            yield TextPart(piece.left, piece.right, text, "" if reason is None else f"{reason} '{_short(text)}'")


def _ctc_texts(model: CTCModel, example: Utterance | Recording, cuts: Cuts) -> list[str]:
    parts = units_of(model, example.text)
    if not parts:
        raise InputError("The text has characters that the model cannot write.")
    device = next(model.parameters()).device
    outputs, ends = [], []
    for piece, audio in zip(cuts.pieces, read_pieces(example, model.sample_rate, cuts.pieces), strict=True):
        batch = collate([(audio, torch.from_numpy(audio.samples))]).to(device)
        (own,) = emissions_of(*model(batch.inputs, batch.lengths))
        each = len(own) / audio.duration
        outputs.append(own[round((piece.left - piece.start) * each) : round((piece.right - piece.start) * each)])
        ends.append(len(outputs[-1]) + (ends[-1] if ends else 0))
    places = align_long(torch.cat(outputs), parts, model.blank)
    texts: list[list[str]] = [[] for _ in cuts.pieces]
    for (word, _), steps in zip(parts, places, strict=True):
        if word and steps is not None:
            middle = sum(steps) / 2
            texts[next(number for number, end in enumerate(ends) if middle <= end)].append(word)
    joint = " " if " " in example.text.strip() else ""
    return [joint.join(own) for own in texts]


def _texts(model: Model, example: Utterance | Recording, cuts: Cuts, loader: Loader | None) -> list[str]:
    import jiwer

    ((_, result),) = transcribe_recordings(model, [with_text(example, "")], loader=loader)  # pyright: ignore
    if isinstance(result, InputError):
        raise result
    words, answer, normal = _words(example.text), result.words, model.task.normalise
    if not answer:
        return [""] * len(cuts.pieces)
    heard = [(answer_word, one) for answer_word in answer for _, one in _words(answer_word.text)]
    # Words that become empty, such as a dash, keep their place as a sign that is in no answer.
    one, other = (
        [normal(word).replace(" ", "") or "-" for word in own]
        for own in ([word for _, word in words], [word for _, word in heard])
    )
    chunks = jiwer.process_words([" ".join(one)], [" ".join(other)]).alignments[0]
    piece_of = [_piece_at(cuts, (word.start + word.end) / 2) for word, _ in heard]
    numbers: list[int | None] = [None] * len(words)
    for chunk in chunks:
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
            if chunk.type in ("equal", "substitute"):
                numbers[chunk.ref_start_idx + offset] = piece_of[chunk.hyp_start_idx + offset]
    known = 0
    begins: dict[int, int] = {}  # pieces in their order, with where their part of the text begins
    for (place, _), number in zip(words, numbers, strict=True):
        known = known if number is None else max(known, number)  # words that were not heard stay with those before
        begins.setdefault(known, place)
    ends = dict(zip(begins, [*[*begins.values()][1:], len(example.text)], strict=True))
    return [
        " ".join(example.text[begins[number] : ends[number]].split()) if number in begins else ""
        for number in range(len(cuts.pieces))
    ]


def _words(text: str) -> list[tuple[int, str]]:
    """Return the words of a text, each with where it begins. Characters of scripts without spaces are words."""
    found: list[tuple[int, str]] = []
    place = 0
    for word in split_characters(text).split():
        place = text.index(word, place)
        found.append((place, word))
        place += len(word)
    return found


def _piece_at(cuts: Cuts, seconds: float) -> int:
    return min(range(len(cuts.pieces)), key=lambda number: _distance(cuts.pieces[number], seconds))


def _distance(piece: Piece, seconds: float) -> float:
    return max(piece.left - seconds, seconds - piece.right, 0.0)


def _problem(model: Model, part: Recording) -> str | None:
    """Return why a model should not learn a text from its audio; None if it can."""
    piece: Any = part
    reason = model.rejection_reason(piece, len(part.samples), True)
    if reason is not None:
        return reason
    gain = _loss(model, replace(part, samples=part.samples[::-1])) - _loss(model, part)
    unit, least = ("character", LEAST_CHARACTER) if isinstance(model, CTCModel) else ("token", LEAST_TOKEN)
    if gain < least:
        return f"the text does not fit: it is only {gain:.1f} nats a {unit} likelier than for the audio backwards."
    return None


def _loss(model: Model, part: Recording) -> float:
    batch = collate([(part, torch.from_numpy(part.samples.copy()))])
    return float(model.task.loss(model, batch.to(next(model.parameters()).device)))


def _part(example: Utterance | Recording, part: TextPart) -> Utterance | Recording:
    duration = part.end - part.start
    where = f"{example.where or example.name}, {part.start:.2f} to {part.end:.2f} s"
    phonemes = tuple(
        Phoneme(one.symbol, one.start - part.start, one.end - part.start)
        for one in example.phonemes
        if one.start >= part.start and one.end <= part.end
    )
    if isinstance(example, Utterance):
        offset = example.offset + part.start
        return replace(example, text=part.text, offset=offset, duration=duration, phonemes=phonemes, where=where)
    first, last = _samples(part.start, example), _samples(part.end, example)
    return replace(example, samples=example.samples[first:last], text=part.text, phonemes=phonemes, where=where)


def _samples(seconds: float, audio: Recording) -> int:
    return round(seconds * audio.sample_rate)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
