#!/usr/bin/env python3
"""Transcribe long recordings whose words and times are known, and recordings of no speech at all.

    scripts/study_long.py                                     # us-english on 2, 10 and 30 minutes of synthetic speech
    scripts/study_long.py --minutes 2 --accent en-gb-scotland
    scripts/study_long.py --model WHISPER --manifest us_test.jsonl --minutes 3      # real speech, without word times

Utterances are strung together with pauses of 0.2 to 2 s, and white noise if wanted. espeak-ng tells when it
says each word.
Columns:

- WER in pieces: of the long recording, as `innertune transcribe` reads it; WER cut: of each utterance by itself;
- median, within 80 ms: the difference of word starts to the truth, over the words that are right, and its share up to
  80 ms;
- no speech: words that are written for white and pink noise, a hum, tones, a melody and digital silence, 30 s each;
- sure: of the words with a confidence of at least 0.9, the share that is right; unsure: of those below 0.5;
- RTF: processing time as a share of the duration, and the memory at the peak.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import jiwer
import numpy as np
from result_table import add_results_option, write_table

from adapt.data.audio import read_audio
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.recording import Recording
from adapt.data.resampling import resample
from adapt.data.synthetic import espeak, sentences
from adapt.data.synthetic.accents import TEST_VARIANTS
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.models.writing import normalising
from adapt.transcription.transcribe import transcribe_recordings
from adapt.transcription.transcript import Transcript

RATE = 16_000
Said = tuple[str, list[float | None], np.ndarray]  # a text, the start of each of its words, and its samples


def spoken(accent: str, seed: int, minutes: float) -> list[Said]:
    """Return synthetic sentences with the starts of their words, in seconds."""
    import torch

    draw, found, seconds = random.Random(seed), [], 0.0
    while seconds < 60 * minutes:
        text = sentences.ENGLISH.sentence(draw)
        speech = espeak.speak(text, accent, draw.choice(TEST_VARIANTS), draw.randint(140, 190))
        samples = resample(torch.from_numpy(speech.samples / np.float32(1 << 15)), speech.sample_rate, RATE).numpy()
        known, place, starts = dict(speech.words), 0, []
        for word in text.split():
            starts.append(known.get(place))
            place += len(word) + 1
        found.append((text, starts, samples))
        seconds += len(samples) / RATE + 1.1
    return found


def recorded(manifest: Path, minutes: float) -> list[Said]:
    """Return utterances of a manifest, whose words have no known times."""
    found, seconds = [], 0.0
    for utterance in read_manifest(manifest)[0]:
        samples = read_audio(utterance, RATE).numpy()
        found.append((utterance.text, [None] * len(utterance.text.split()), samples))
        seconds += len(samples) / RATE + 1.1
        if seconds >= 60 * minutes:
            break
    return found


def strung(said: Sequence[Said], seed: int, level: float = 0.0) -> tuple[Recording, list[tuple[str, float | None]]]:
    """Return one recording of all utterances, and its words with their starts."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    parts, words, at = [], [], 0
    for text, starts, samples in said:
        pause = int(RATE * draw.uniform(0.2, 2.0))
        parts += [np.zeros(pause, np.float32), samples]
        at += pause
        words += [(word, None if s is None else at / RATE + s) for word, s in zip(text.split(), starts, strict=True)]
        at += len(samples)
    whole = np.concatenate(parts)
    return Recording((whole + level * noise.normal(0, 1, len(whole))).astype(np.float32), RATE), words


def utterances(said: Sequence[Said], recording: Recording, seed: int) -> list[Recording]:
    """Return the utterances of `strung`, cut where they begin and end."""
    draw, at, found = random.Random(seed), 0, []
    for text, _, samples in said:
        at += int(RATE * draw.uniform(0.2, 2.0))
        found.append(Recording(recording.samples[at : at + len(samples)], RATE, text=text))
        at += len(samples)
    return found


def without_speech(seed: int) -> dict[str, Recording]:
    """Return 30 s of each kind of sound that is no speech."""
    draw, time_ = np.random.default_rng(seed), np.arange(30 * RATE) / RATE
    white = draw.normal(0, 1, len(time_))
    pink = np.cumsum(white - white.mean())
    notes = draw.choice([262, 294, 330, 349, 392, 440, 494, 523], 120)
    note = np.arange(RATE // 4) / RATE
    melody = np.concatenate(
        [sum(np.sin(2 * np.pi * k * one * note) / k for k in (1, 2, 3)) * np.exp(-6 * note) for one in notes]
    )
    kinds = {
        "white noise": 0.1 * white,
        "pink noise": 0.1 * pink / np.abs(pink).max(),
        "hum": sum(0.1 / k * np.sin(2 * np.pi * 50 * k * time_) for k in (1, 2, 3)),
        "tones": 0.1 * sum(np.sin(2 * np.pi * one * time_) for one in (262, 330, 392)),
        "melody": 0.1 * melody,
        "silence": np.zeros(len(time_)),
    }
    return {name: Recording(np.asarray(samples, np.float32), RATE, name=name) for name, samples in kinds.items()}


def transcript(model: Model, recording: Recording, decoding: Any = "pieces") -> Transcript:
    """Return the transcript of a recording."""
    ((_, result),) = transcribe_recordings(model, [recording], decoding=decoding, loader=Loader(batch_seconds=60))
    if isinstance(result, InputError):
        raise result
    return result


def compared(model: Model, found: Transcript, words: Sequence[tuple[str, float | None]]) -> dict[str, Any]:
    """Return the differences of word starts, and how often sure and unsure words are right."""
    normal = model.task.normalise
    reference = [normal(word).replace(" ", "") or "-" for word, _ in words]
    answer = [normal(word.text).replace(" ", "") or "-" for word in found.words]
    aligned = jiwer.process_words([" ".join(reference)], [" ".join(answer)])
    late, right = [], set()
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                start, own = words[chunk.ref_start_idx + offset][1], found.words[chunk.hyp_start_idx + offset]
                right.add(chunk.hyp_start_idx + offset)
                late += [] if start is None else [own.start - start]
    sure = {name: [n in right for n, word in enumerate(found.words) if chosen(word.confidence or 0.0)]
            for name, chosen in (("sure", lambda c: c >= 0.9), ("unsure", lambda c: c < 0.5))}  # fmt: skip
    return {"late": late, **sure}


def row(model: Model, said: Sequence[Said], seed: int, decoding: str, level: float) -> dict[str, Any]:
    """Return a row of the table."""
    recording, words = strung(said, seed, level)
    began = time.perf_counter()
    found = transcript(model, recording, decoding)
    seconds = time.perf_counter() - began
    alone = utterances(said, recording, seed)
    texts = decode_examples(model, model.task, alone, Loader(batch_seconds=60))
    whole = Recording(recording.samples, RATE, text=" ".join(word for word, _ in words))
    with normalising([model], alone):
        result = compared(model, found, words)
        cut = model.task.score(alone, texts).values()["wer"]
        in_pieces = model.task.score([whole], [found.text]).values()["wer"]
    late = np.array(result["late"])
    return {
        "minutes": f"{recording.duration / 60:.1f}", "words": len(words),
        "WER in pieces": f"{100 * in_pieces:.1f} %",
        "WER cut": f"{100 * cut:.1f} %", "median": f"{1000 * np.median(late):+.0f} ms" if len(late) else None,
        "within 80 ms": f"{100 * np.mean(np.abs(late) <= 0.08):.1f} %" if len(late) else None,
        "sure": _share(result["sure"]), "unsure": _share(result["unsure"]),
        "RTF": f"{seconds / recording.duration:.3f}",
        "GB": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}",
    }  # fmt: skip


def _share(values: Sequence[bool]) -> str:
    return f"{100 * np.mean(values):.0f} % of {len(values)}" if values else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="us-english", help="a model")
    parser.add_argument("--accent", default="en-us", help="the voice of espeak-ng")
    parser.add_argument("--manifest", type=Path, help="real utterances instead of synthetic ones")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 10.0, 30.0], help="durations")
    parser.add_argument("--decoding", default="pieces", choices=("pieces", "sequential"))
    parser.add_argument("--noise", type=float, default=0.0, help="the level of white noise, such as 0.0005")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--title", default="Long recordings", help="the title of the table")
    add_results_option(parser)
    given = parser.parse_args()
    model = load_model(given.model).model
    rows = []
    written = sum(len(transcript(model, one).words) for one in without_speech(given.seed).values())
    for minutes in given.minutes:
        said = recorded(given.manifest, minutes) if given.manifest else spoken(given.accent, given.seed, minutes)
        rows.append(row(model, said, given.seed, given.decoding, given.noise) | {"no speech": f"{written} words"})
        print(rows[-1], flush=True)
    if given.results:
        write_table(given.results, given.title, rows, f"seed {given.seed}")


if __name__ == "__main__":
    main()
