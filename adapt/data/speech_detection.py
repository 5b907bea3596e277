"""Find speech in audio by the voice activity detector silero-vad, whose weights come with its package."""

import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz, of the audio that the detector reads
FRAME = 512 / SAMPLE_RATE  # seconds of a frame
_STRIPS = 16  # parts of a block that the detector reads at once
_WARM_UP = 31  # frames before a part, from which the detector learns what it sounds like

THRESHOLD = 0.5  # the probability at which speech begins
SILENCE = 0.35  # the probability below which it ends
_CERTAIN = 0.85  # the probability that speech reaches; music and hum stay below it
_SHORTEST = 0.1  # seconds; anything shorter is a click
_PAUSE = 0.1  # seconds; shorter silences are inside words


def speech_probabilities(blocks: Iterable[Tensor]) -> np.ndarray:
    """Return the probability of speech in each frame of 32 ms, `(frames,)` float32.

    Args:
        blocks: The audio in blocks `(samples,)` at 16,000 Hz, together of any length.
    """
    found: list[np.ndarray] = []
    warm, kept = torch.zeros(0), torch.zeros(0)
    for block in blocks:
        kept = torch.cat([kept, block])
        whole = len(kept) // 512 * 512
        if whole >= _STRIPS * _WARM_UP * 512:
            found.append(_probabilities(warm, kept[:whole]))
            warm, kept = torch.cat([warm, kept[:whole]])[-_WARM_UP * 512 :], kept[whole:]
    if len(kept):
        padded = torch.nn.functional.pad(kept, (0, -len(kept) % 512))
        found.append(_probabilities(warm, padded))
    return np.concatenate([np.zeros(0, np.float32), *found])


def speech_spans(probabilities: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """Return where there is speech, as starts and ends in seconds.

    Speech begins where the probability reaches 0.5, and ends where it stays below 0.35 for 0.1 s. It reaches 0.85 in
    between.

    Args:
        probabilities: The probability of speech in each frame, `(frames,)`.
        seconds: The duration of the audio.
    """
    spans: list[tuple[float, float]] = []
    inside, silent = False, 0
    for number, value in enumerate(probabilities.tolist()):
        if value >= THRESHOLD:
            if not inside:
                spans.append((number * FRAME, seconds))
            inside, silent = True, 0
        elif inside:
            silent = silent + 1 if value < SILENCE else 0
            if silent * FRAME >= _PAUSE:
                spans[-1] = spans[-1][0], (number + 1 - silent) * FRAME
                inside, silent = False, 0
    if inside:
        spans[-1] = spans[-1][0], (len(probabilities) - silent) * FRAME
    return [(start, min(end, seconds)) for start, end in spans if _is_speech(probabilities, start, end)]


def _is_speech(probabilities: np.ndarray, start: float, end: float) -> bool:
    own = probabilities[round(start / FRAME) : round(end / FRAME)]
    return end - start >= _SHORTEST and float(own.max()) >= _CERTAIN


def _probabilities(warm: Tensor, samples: Tensor) -> np.ndarray:
    # The detector is recurrent and reads 32 ms at a time; parts that are read side by side take a fraction of the time.
    frames = torch.cat([warm, samples]).view(-1, 512)
    count, lead = len(samples) // 512, len(warm) // 512
    strips = _STRIPS if count >= _STRIPS * _WARM_UP else 1
    each = -(-count // strips)
    starts = [lead + number * each for number in range(strips)]
    rows = [frames[max(0, start - _WARM_UP) : start + each] for start in starts]
    # All parts end with their own frames; the first one may have less before them.
    heads = [torch.zeros(max(0, _WARM_UP - start), 512) for start in starts]
    rows = [torch.cat([head, row]) for head, row in zip(heads, rows, strict=True)]
    longest = max(map(len, rows))
    batch = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    with torch.inference_mode():
        detector = _detector()
        detector.reset_states()
        values = torch.stack([detector(batch[:, step], SAMPLE_RATE)[:, 0] for step in range(longest)], dim=1)
    return values[:, _WARM_UP:].flatten()[:count].numpy().astype(np.float32)


@lru_cache(maxsize=1)
def _detector() -> Any:
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit, the form of its weights
        from silero_vad import load_silero_vad

        detector = load_silero_vad()
    torch.set_num_threads(threads)  # importing silero_vad sets them to 1
    return detector
