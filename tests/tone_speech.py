"""Artificial speech: each letter is a tone, so a tiny network learns to transcribe it in seconds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from adapt.data.example import Phoneme
from adapt.data.manifest import Utterance, write_manifest

RATE = 16_000
LETTERS = " abcde"
SECONDS = 0.12  # of a tone


def tones(text: str, shift: float = 1.0, seconds: float = SECONDS) -> np.ndarray:
    """Return the samples of `text`: one tone of 120 ms per letter. `shift` multiplies all frequencies."""
    time = np.arange(int(RATE * seconds)) / RATE
    parts = [
        np.sin(2 * np.pi * 300 * 1.5 ** LETTERS.index(letter) * shift * time) * np.hanning(len(time)) for letter in text
    ]
    noise = np.random.default_rng(len(text)).normal(0, 0.003, len(parts) * len(time))
    return (0.4 * np.concatenate(parts) * [letter != " " for letter in text for _ in time] + noise).astype(np.float32)


def write_tones(folder: Path, name: str, count: int, shift: float = 1.0, seed: int = 0, **facts: str) -> Path:
    """Write `count` utterances of two short words each, and return their manifest."""
    draw = np.random.default_rng(seed)
    utterances = []
    for number in range(count):
        words = ["".join(draw.choice(list(LETTERS[1:]), 3)) for _ in range(2)]
        text = " ".join(words)
        path = folder / name / f"{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = tones(text, shift)
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(path, text, duration=len(samples) / RATE, **facts))
    write_manifest(folder / f"{name}.jsonl", utterances)
    return folder / f"{name}.jsonl"


def write_speech(folder: Path) -> dict[str, Path]:
    """Manifests of two "accents", in the second of which all tones are higher: train, validation and test of each."""
    made = {}
    for accent, shift in (("low", 1.0), ("high", 1.25)):
        for number, (split, count) in enumerate((("train", 120), ("validation", 8), ("test", 12))):
            seed, speaker = 2 * number + 1, f"{accent}{(number + 1) % 2}"
            made[f"{accent}_{split}"] = write_tones(
                folder, f"{accent}_{split}", count, shift, seed, accent=accent, speaker=speaker
            )
    return made


def timed(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return the utterances with their letters as phonemes, with the times at which they are spoken."""
    return [
        replace(
            own,
            phonemes=tuple(
                Phoneme(letter, SECONDS * place, SECONDS * (place + 1))
                for place, letter in enumerate(own.text) if letter != " "
            ),
        )
        for own in utterances
    ]  # fmt: skip


_SMALL = ["model.inner=32", "model.big=48", "model.n_features=20"]
TINY = [*_SMALL, f"model.labels='{LETTERS}'"]  # for Hydra
TINY_WORDS = [*_SMALL, f"model.labels={LETTERS}"]  # as on the command line
