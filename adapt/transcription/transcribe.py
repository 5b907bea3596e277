"""Transcribe recordings of any length, with the times and the confidence of each word.

for number, result in transcribe_recordings(model, examples):
    ...  # a Transcript, or the InputError of a recording that cannot be read
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from adapt.checks import check_choice, check_flag
from adapt.data.example import language_of
from adapt.data.loader import Loader, as_loader, collate
from adapt.data.manifest import Utterance
from adapt.data.pieces import LOOSE, TIGHT, Cuts, Piece, Silences, cut_recording, read_pieces
from adapt.data.recording import Recording
from adapt.data.speech_detection import SAMPLE_RATE
from adapt.data.stream import read_blocks
from adapt.errors import InputError
from adapt.models.batch_memory import within_budget
from adapt.models.devices import answering
from adapt.models.model import Model, SpeechDecoderModel
from adapt.models.wav2letter import Wav2LetterCTC
from adapt.models.whisper_long import check_sequential
from adapt.transcription.assemble import transcript_of
from adapt.transcription.read_batch import Read, read_batch, read_sequentially
from adapt.transcription.shifted import MARGIN
from adapt.transcription.transcript import Transcript

Decoding = Literal["pieces", "sequential"]
EXACT = Silences(joined=0.16, margin=MARGIN, after=0.005)  # for models that only know speech without silence around it
LONGEST = 20.0  # seconds of a piece for a model without a window
WHOLE = 60.0  # seconds up to which such a model reads a recording as a whole
QUIET = 0.01  # the largest sample of silence, of 1
_STRETCH = 300.0  # seconds of a piece that is decoded sequentially
_AHEAD = 4  # batches whose pieces are in memory, so that pieces of similar lengths are read together
Progress = Callable[[float], None]


def longest_piece(model: Model) -> float:
    """Return the longest piece of a recording that a model reads at once, in seconds."""
    window = model.reader.window
    return LONGEST if window is None else window - 0.02  # times are rounded to samples


def silences_for(model: Model) -> Silences:
    """Return how much silence pieces for a model have."""
    if isinstance(model, Wav2LetterCTC):
        return EXACT
    return TIGHT if model.reader.window is None else LOOSE


def is_long(model: Model, example: Utterance | Recording) -> bool:
    """Return whether a recording is longer than what a model reads at once: its window, or a minute if it has none."""
    try:
        return model.reader.length(example) > (model.reader.window or WHOLE)
    except InputError:  # it is named where it is read
        return False


def is_silent(model: Model, example: Utterance | Recording) -> bool:
    """Return whether a recording is silence: its samples stay below -40 dB, and there is no speech in them.

    That is decided by the voice activity detection of `transcribe_recordings`. Louder sounds are for the model to read.
    """
    if any(len(block) and float(block.abs().max()) >= QUIET for block in read_blocks(example, SAMPLE_RATE)):
        return False
    return not cut_recording(example, longest_piece(model), True, silences_for(model)).pieces


def transcribe_recordings(
    model: Model,
    examples: Sequence[Utterance | Recording],
    *,
    vad: bool = True,
    decoding: Decoding = "pieces",
    loader: Loader | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Transcript | InputError]]:
    """Yield the transcript of each recording, as soon as it is complete.

    A recording is cut in silences into pieces that the model can read (`adapt.data.pieces.cut_recording`), and the
    pieces of all recordings are read in batches. Where there is no speech, nothing is written.

    Args:
        model: A speech recogniser.
        examples: The recordings, of any length. They are read in blocks, so that hours fit into memory.
        vad: Whether to find the speech first, by silero-vad. Otherwise the model reads everything.
        decoding: "pieces", or "sequential" for Whisper's own decoding of long audio.
        loader: Batches the pieces; None for the default.
        progress: Called with the seconds of audio that are done.

    Yields:
        The number of a recording, and its transcript; or the error, if it cannot be read.

    Raises:
        InputError: the model reads text, or has no sequential decoding.
    """
    if not model.reads_audio:
        raise InputError("This model reads text, not audio, and cannot transcribe.")
    check_choice("decoding", decoding, ("pieces", "sequential"))
    check_flag("vad", vad)
    whisper = check_sequential(model) if decoding == "sequential" else None
    longest = longest_piece(model) if whisper is None else _STRETCH
    loader, tell = as_loader(loader), progress or (lambda _: None)
    waiting: list[_Job] = []
    pieces: list[_Part] = []
    # The model answers only while pieces are read: between two results, the caller's code runs, which may train.
    for number, example in enumerate(examples):
        job = _Job(number, example)
        waiting.append(job)
        with answering(model):
            try:
                job.open(model, longest, vad)
                for part in job.parts(model, check=whisper is None):
                    if whisper is not None:
                        job.done(part, read_sequentially(whisper, part.audio), tell)
                        continue
                    pieces.append(part)
                    if _enough(pieces, model, loader):
                        loader = _read(model, pieces, loader, tell)
                job.complete = True
            except InputError as error:
                job.error = error
                pieces[:] = [part for part in pieces if part.job is not job]
        yield from _finished(waiting)
    if pieces:
        with answering(model):
            _read(model, pieces, loader, tell)
    yield from _finished(waiting)


def transcribe_whole(model: Model, example: Utterance | Recording) -> Transcript:
    """Transcribe a recording that the model reads at once as it is, as `correct` and `evaluate` do.

    Args:
        model: A speech recogniser.
        example: A recording for which `is_long` is false.

    Raises:
        InputError: the model reads text, or the recording cannot be read.
    """
    if not model.reads_audio:
        raise InputError("This model reads text, not audio, and cannot transcribe.")
    samples = model.reader.read(example)
    reason = model.rejection_reason(example, len(samples), False)
    if reason is not None:
        raise InputError(f"{example.where or example.name}: {reason}")
    batch = collate([(example, samples)]).to(next(model.parameters()).device)
    with answering(model):
        read = read_batch(model, batch, whole=True)
    seconds = len(samples) / model.sample_rate
    piece = Piece(0.0, seconds, 0.0, seconds, ((0.0, seconds),))
    return transcript_of(example.name, Cuts(seconds, (piece,)), read, language_of(example))


@dataclass
class _Job:
    """A recording that is being transcribed."""

    number: int
    example: Utterance | Recording
    cuts: Cuts | None = None
    language: str | None = None
    complete: bool = False  # whether all of its pieces are on their way
    error: InputError | None = None
    read: list[Read | None] = field(default_factory=list)

    def open(self, model: Model, longest: float, vad: bool) -> None:
        self.cuts = cut_recording(self.example, longest, vad, silences_for(model))
        self.read = [None] * len(self.cuts.pieces)
        self.language = language_of(self.example)
        if self.cuts.pieces and self.language is None and isinstance(model, SpeechDecoderModel):
            self.language = self._detected(model, self.cuts.pieces[0])

    def _detected(self, model: SpeechDecoderModel, piece: Piece) -> str | None:
        # The language of a recording is that of its first piece: short pieces would be taken for others.
        own = model.generation_options.language
        if not model.multilingual or own is not None:
            return own
        first = next(read_pieces(self.example, model.sample_rate, [piece]))
        window = int((model.reader.window or LONGEST) * model.sample_rate)
        batch = collate([(first, torch.from_numpy(first.samples[:window]))]).to(next(model.parameters()).device)
        return model.detect_languages(batch.inputs, batch.lengths)[0]

    def parts(self, model: Model, check: bool) -> "Iterator[_Part]":
        assert self.cuts is not None
        known = self.language if language_of(self.example) is None else None
        for place, audio in enumerate(read_pieces(self.example, model.sample_rate, self.cuts.pieces, known)):
            piece: Any = audio
            reason = model.rejection_reason(piece, len(audio.samples), False) if check else None
            if reason is not None:
                raise InputError(f"{audio.where}: {reason}")
            yield _Part(self, place, audio)

    def done(self, part: "_Part", read: Read, tell: Progress) -> None:
        assert self.cuts is not None
        self.read[part.place] = read
        before = self.cuts.pieces[part.place - 1].right if part.place else 0.0
        last = part.place + 1 == len(self.cuts.pieces)
        tell((self.cuts.seconds if last else self.cuts.pieces[part.place].right) - before)

    def result(self) -> Transcript:
        assert self.cuts is not None
        read = [one for one in self.read if one is not None]
        return transcript_of(self.example.name, self.cuts, read, self.language)


@dataclass
class _Part:
    """A piece of a recording with its audio."""

    job: _Job
    place: int
    audio: Recording


def _enough(pieces: Sequence[_Part], model: Model, loader: Loader) -> bool:
    window = model.reader.window
    seconds = sum(part.audio.duration if window is None else window for part in pieces)
    return seconds >= _AHEAD * loader.bound(model.reader)


def _read(model: Model, pieces: list[_Part], loader: Loader, tell: Progress) -> Loader:
    """Read the pieces and empty the list. Return the loader, whose batches keep to its budget of memory."""
    recordings = [part.audio for part in pieces]
    bounded = within_budget(model, recordings, loader)
    batches = bounded.evaluation(recordings, model.reader)
    numbers = {id(part.audio): number for number, part in enumerate(pieces)}
    device = next(model.parameters()).device
    for batch in batches:
        for example, read in zip(batch.examples, read_batch(model, batch.to(device)), strict=True):
            part = pieces[numbers[id(example)]]
            part.job.done(part, read, tell)
    pieces.clear()
    return bounded


def _finished(waiting: list[_Job]) -> Iterator[tuple[int, Transcript | InputError]]:
    """Yield the results of recordings from which nothing is missing, and take them from the list."""
    for job in [*waiting]:
        if job.error is not None:
            waiting.remove(job)
            yield job.number, job.error
        elif job.complete and None not in job.read:
            waiting.remove(job)
            yield job.number, job.result()
