"""Read audio of any length in blocks: mono, at one rate, and with no more than about a minute in memory."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapt.data.audio import ANTIPHASE, check_complete, refuse_cut, too_short
from adapt.data.audio_file import AudioSource, open_audio
from adapt.data.channels import channel_instead
from adapt.data.manifest import Utterance
from adapt.data.notes import note
from adapt.data.recording import Recording
from adapt.data.resampling import resample
from adapt.errors import InputError
from adapt.files import file_problem

_BLOCK = 30.0  # seconds that are resampled at once
_CONTEXT = 0.1  # seconds on each side of a block, so that the resampling filter has no edge there
_EVERYTHING = 1 << 62  # samples


def read_blocks(example: Utterance | Recording, sample_rate: int) -> Iterator[Tensor]:
    """Yield the samples of an utterance in blocks `(samples,)` float32, mono, at `sample_rate` Hz.

    Together they are what `adapt.data.audio.read_audio` returns, but an utterance may have any length. Files of several
    channels are read twice: first to find out whether the channels cancel each other out.

    Raises:
        InputError: as `read_audio`, except that there is no longest duration. A damaged file raises it where the damage
            is.
    """
    if isinstance(example, Recording):
        blocks: Iterator[Tensor] = iter([torch.from_numpy(example.samples)])
        yield from resampled(blocks, example.sample_rate, sample_rate)
        return
    path, prefix = example.audio_filepath, f"{example.where}: " if example.where else ""
    if (problem := file_problem(path, "audio file")) is not None:
        raise InputError(f"{prefix}{problem}. Relative paths start at the manifest's folder.")
    try:
        if example.duration is None:
            refuse_cut(path)
        with open_audio(path) as source:
            yield from resampled(_mono(path, source, example.offset, example.duration), source.rate, sample_rate)
    except InputError as error:
        raise InputError(prefix + str(error)) from None


def read_parts(
    example: Utterance | Recording, sample_rate: int, parts: Sequence[tuple[float, float]]
) -> Iterator[Tensor]:
    """Yield the samples of parts of an utterance, `(samples,)` each, at `sample_rate` Hz.

    Args:
        example: The utterance.
        sample_rate: The sample rate in Hz.
        parts: The start and the end of each part in seconds, by their starts. Parts may overlap.

    Raises:
        InputError: as `read_blocks`.
    """
    blocks = read_blocks(example, sample_rate)
    kept, first = torch.zeros(0), 0  # the samples that are in memory, and the number of the first of them
    for start, end in parts:
        begin, stop = round(start * sample_rate), round(end * sample_rate)
        while first + len(kept) < stop and (block := next(blocks, None)) is not None:
            drop = max(0, min(begin - first, len(kept)))
            kept, first = torch.cat([kept[drop:], block]), first + drop
        yield kept[begin - first : stop - first].clone()


def resampled(blocks: Iterator[Tensor], rate: int, target: int) -> Iterator[Tensor]:
    """Resample blocks `(samples,)` from `rate` Hz to `target` Hz, as if they were one.

    Blocks are joined or divided to about 30 s, and each is resampled together with the samples around it.
    """
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor  # every `old` samples become `new`
    core = max(1, round(_BLOCK * rate / old)) * old
    context = math.ceil(_CONTEXT * rate / old) * old
    kept, before = torch.zeros(0), 0  # `before`: how many samples at the start of `kept` are done already
    for block in blocks:
        kept = torch.cat([kept, block])
        while len(kept) >= before + core + context:
            made = resample(kept[: before + core + context], rate, target)
            yield made[before // old * new : (before + core) // old * new]
            done = before + core
            kept, before = kept[done - context :], context
    made = resample(kept, rate, target)[before // old * new :]
    if len(made):
        yield made


def _mono(path: Path, source: AudioSource, offset: float, duration: float | None) -> Iterator[Tensor]:
    start, wanted = round(offset * source.rate), None if duration is None else round(duration * source.rate)
    if source.frames is not None and start >= source.frames:
        raise too_short(path, source.frames / source.rate, offset, duration)
    count = _EVERYTHING if wanted is None else wanted
    channel = None
    if source.channels > 1:
        channel = channel_instead(source.blocks(start, count))
        if channel is not None:
            note(ANTIPHASE, str(path))
    read = 0
    for block in source.blocks(start, count):
        mono = block.mean(axis=1) if channel is None else block[:, channel].copy()
        if not np.isfinite(mono).all():
            raise InputError(f"'{path}' contains samples that are not numbers (NaN or infinite).")
        read += len(mono)
        yield torch.from_numpy(mono)
    check_complete(path, source, read, offset, duration)
