"""Transcribe a batch of pieces: the model's answers, and their words with times."""

from typing import Any

import torch

from adapt.data.example import language_of
from adapt.data.loader import Batch, collate
from adapt.data.normalisers import without_spaces
from adapt.data.recording import Recording
from adapt.models.encoder_cache import cached_encoder
from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq
from adapt.models.model import CTCModel, Model, SpeechDecoderModel
from adapt.models.wav2letter import Wav2LetterCTC
from adapt.models.whisper_long import LongSegment, sequential_segments
from adapt.transcription.attention_words import attention_words
from adapt.transcription.ctc_words import ctc_words, emissions_of
from adapt.transcription.shifted import Read, read_shifted
from adapt.transcription.transcript import Word


def read_batch(model: Model, batch: Batch, whole: bool = False) -> list[Read]:
    """Return the model's answer for each example of a batch, with its words.

    Args:
        model: The model, in eval mode.
        batch: The batch, on the model's device.
        whole: Whether the examples are whole recordings and not pieces, whose first sound is not known exactly.
    """
    if isinstance(model, Wav2LetterCTC) and not whole:
        return read_shifted(lambda one: _read_ctc(model, one), batch, model.sample_rate)
    if isinstance(model, CTCModel):
        return [answer for answer, _ in _read_ctc(model, batch)]
    assert isinstance(model, SpeechDecoderModel)
    with cached_encoder(model, keep=False):
        texts = model.task.decode(model, batch)
        languages = [language_of(example) for example in batch.examples]
        return list(zip(texts, attention_words(model, batch.inputs, batch.lengths, texts, languages), strict=True))


def _read_ctc(model: CTCModel, batch: Batch) -> list[tuple[Read, float]]:
    """Return each answer with the log-probability of the likeliest path through the model's output."""
    outputs: list[Any] = []

    def keep(_module: Any, _given: Any, output: Any) -> None:
        if not torch.is_grad_enabled():  # test-time adaptation takes gradient steps before it decodes
            outputs.append(output)

    handle = model.register_forward_hook(keep)
    try:
        texts = model.task.decode(model, batch)
    finally:
        handle.remove()
    seconds = [length / model.sample_rate for length in batch.lengths.tolist()]
    # Several outputs if each example is decoded alone.
    kept = [own for one in outputs for own in emissions_of(one.log_probs, one.lengths)]
    return [
        ((text, ctc_words(model, own, text, long)), float(own.amax(dim=-1).sum()))
        for text, own, long in zip(texts, kept, seconds, strict=True)
    ]


def read_sequentially(model: HFSpeechSeq2Seq, piece: Recording) -> Read:
    """Return a Whisper's answer for a piece of any length by its own sequential decoding, with its words."""
    language = language_of(piece)
    segments = sequential_segments(model, torch.from_numpy(piece.samples), language)
    joint = "" if without_spaces(language or model.own_language) else " "
    words: list[Word] = []
    for group in _windows(segments, model.reader.window or 30.0):
        start, end = group[0].start, group[-1].end
        rate = model.sample_rate
        samples = piece.samples[round(start * rate) : max(round(end * rate), round(start * rate) + rate // 10)]
        if not len(samples):
            continue
        window = Recording(samples[: round((model.reader.window or 30.0) * rate)], rate)
        batch = collate([(window, torch.from_numpy(window.samples))]).to(next(model.parameters()).device)
        text = joint.join(segment.text for segment in group)
        (own,) = attention_words(model, batch.inputs, batch.lengths, [text], [language])
        words += [Word(word.text, start + word.start, start + word.end, word.confidence) for word in own]
    return joint.join(segment.text for segment in segments), tuple(words)


def _windows(segments: list[LongSegment], longest: float) -> list[list[LongSegment]]:
    """Return the segments in groups that fit into a window."""
    groups: list[list[LongSegment]] = []
    for segment in segments:
        if groups and segment.end - groups[-1][0].start <= longest:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups
