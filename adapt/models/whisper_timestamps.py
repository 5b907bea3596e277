"""Whisper's targets with timestamps: tokens such as <|2.40|> that say when a text begins and ends."""

import hashlib
from typing import Any

from adapt.data.example import Example

STEP = 0.02  # seconds between two timestamps
LAST = 1500  # the number of the last one, <|30.00|>


def has_timestamps(net: Any, tokenizer: Any) -> bool:
    """Return whether a Whisper has all timestamps among its output units. Many tokenizers have no names for them."""
    first = net.generation_config.no_timestamps_token_id + 1
    named = tokenizer.convert_ids_to_tokens(first)
    return named in (None, "", "<|0.00|>") and net.proj_out.out_features > first + LAST


def with_timestamps(example: Example, share: float) -> bool:
    """Return whether an example is one of the `share` of examples that have timestamps: always the same ones."""
    if not share:
        return False
    digest = hashlib.blake2b(f"{example.name}\n{example.text}".encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "big") < share * 2**32


def timed_target(net: Any, target: list[int], example: Example, seconds: float) -> list[int]:
    """Return a target with a timestamp before its text and one after it.

    They are the start of the first phoneme and the end of the last one, if the phonemes are known; otherwise the start
    and the end of the audio.

    Args:
        net: The network.
        target: The target without timestamps.
        example: Its example.
        seconds: The duration of the audio as it is read, which is shorter than the example at a higher speed.
    """
    known = net.generation_config.no_timestamps_token_id
    place = target.index(known)
    start, end = 0.0, seconds
    if example.phonemes and seconds:
        # Phonemes are of the unchanged audio, whose duration an utterance may not announce.
        duration: Any = getattr(example, "duration", None)
        speed = duration / seconds if duration else 1.0
        start, end = example.phonemes[0].start / speed, min(seconds, example.phonemes[-1].end / speed)
    first, last = (known + 1 + max(0, min(LAST, round(time / STEP))) for time in (start, end))
    return [*target[:place], first, *target[place + 1 : -1], last, target[-1]]
