"""Whisper's own sequential decoding of long audio (Radford et al. 2022, section 3.8), by transformers.

Each window starts where the last complete segment of the window before it ends, by the timestamps that the model
writes. A window whose answer repeats itself or is unlikely is decoded again at higher temperatures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.models.devices import device_of, own_random
from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq

_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_COMPRESSION = 1.35  # the limits of OpenAI's code, in transformers' units
_LOG_PROB, _NO_SPEECH = -1.0, 0.6


@dataclass(frozen=True, slots=True)
class LongSegment:
    """A segment that the model marked by timestamps: its text, and its start and end in seconds."""

    text: str
    start: float
    end: float


def sequential_segments(model: HFSpeechSeq2Seq, samples: Tensor, language: str | None = None) -> list[LongSegment]:
    """Transcribe audio of more than one window as Whisper's authors do.

    Args:
        model: The model, in eval mode.
        samples: The audio, `(samples,)` at the model's rate.
        language: The language; None for the model's own.

    Returns:
        The segments, in order. The same audio gives the same segments.
    """
    extractor = model.processor.feature_extractor
    device = device_of(model)
    with torch.autocast("cpu", enabled=False):  # 16 bits are too coarse for features
        features = extractor(
            samples.numpy(), sampling_rate=model.sample_rate, return_tensors="pt", truncation=False, padding="longest",
            return_attention_mask=True,
        )  # fmt: skip
    arguments = {**model.generation_arguments, "return_timestamps": True, "return_segments": True}
    if model.multilingual:
        arguments["language"] = model.language_for(language)
    frames = features["input_features"].shape[-1]
    if frames > extractor.nb_max_frames:
        arguments |= {
            "temperature": _TEMPERATURES, "compression_ratio_threshold": _COMPRESSION,
            "logprob_threshold": _LOG_PROB, "no_speech_threshold": _NO_SPEECH, "condition_on_prev_tokens": False,
        }  # fmt: skip
        arguments["attention_mask"] = features["attention_mask"].to(device)
    else:
        with torch.autocast("cpu", enabled=False):
            padded = extractor(samples.numpy(), sampling_rate=model.sample_rate, return_tensors="pt")
        features = {**features, "input_features": padded["input_features"]}
    with own_random(model):
        torch.manual_seed(0)  # temperatures above 0 draw
        made = model.net.generate(features["input_features"].to(device), **arguments)
    return _segments(model, made["segments"][0], len(samples) / model.sample_rate, language)


def _segments(model: HFSpeechSeq2Seq, made: Sequence[Any], seconds: float, language: str | None) -> list[LongSegment]:
    found = []
    for one in made:
        (text,) = model.generation_options.texts(model.tokenizer, one["tokens"].unsqueeze(0).cpu(), [language])
        start, end = float(one["start"]), min(float(one["end"]), seconds)
        if text and start < seconds:
            found.append(LongSegment(text, start, max(end, start)))
    return found


def check_sequential(model: Any) -> HFSpeechSeq2Seq:
    """Return the model if it has sequential decoding of its own. Raises InputError otherwise."""
    if not isinstance(model, HFSpeechSeq2Seq):
        raise InputError(
            "decoding=sequential is Whisper's own decoding of long audio, and this model is no Whisper. Leave it out."
        )
    return model
