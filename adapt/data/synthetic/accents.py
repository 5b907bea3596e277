"""The recipe `accents`: synthetic utterances in a source and a target accent, made once and kept in a cache folder."""

import hashlib
import io
import json
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from adapt.data.manifest import Splits, Utterance, read_manifest, write_manifest
from adapt.data.synthetic import espeak, sentences
from adapt.errors import InputError
from adapt.progress import track

log = logging.getLogger(__name__)
RECIPE = 1  # raise it whenever the same arguments would give other bytes
SAMPLE_RATE = 16_000  # Hz, of the files
_BLOCK = 500  # utterances from one manifest to the next: what a killed synthesis may lose

# espeak-ng speaker variants like an ordinary person: none that whispers, echoes, creaks, clips or is a robot.
TRAIN_VARIANTS = (
    "m1", "m3", "m4", "m5", "m7", "f1", "f2", "f4", "klatt", "klatt3", "Alex", "Andy", "Denis", "Gene", "Michael",
    "Mario", "adam", "belinda", "linda", "max", "rob", "robert", "shelby",
)  # fmt: skip
TEST_VARIANTS = ("m2", "m6", "m8", "f3", "f5", "klatt2", "Mike", "Andrea", "edward", "victor")


def accents(
    source: str = "en-us",
    target: str = "en-gb-scotland",
    train: int = 400,
    validation: int = 60,
    test: int = 200,
    source_train: int = 0,
    source_test: int = 200,
    seed: int = 0,
    cache: Path | str | None = None,
) -> Splits:
    """Synthetic speech to adapt with: `train`, `validation` and `test` utterances in the target accent.

    `source` and `target` are English or German voices of espeak-ng ("en-us", "en-gb-scotland", "en-029", "de", ...) and
    speak sentences of their language. With both the same, the splits are those of one accent, as for training a base.
    `source_train` utterances in the source accent say what the target's in `train` do, one by one.

    - Utterance i of a split is the same however many are asked for, and the same in every process.
    - Which split a sentence may be used in depends on the sentence alone (`sentences.part`), so no seed puts a sentence
      into one set's training and another's test. Test speakers (variants) are never training speakers.
    - Utterance i says the same sentence in the same variant, rate and pitch in all accents of a language: one split in
      two accents differs in nothing but the accent.

    Each utterance has its phonemes' times, `speaker` ("en-gb-scotland+m3"), `accent`, `lang`, and in `extra` the `rate`
    (words a minute) and `pitch` (0 to 99). Files are 16 kHz mono 16-bit FLAC below `cache`, which is by default
    $INNERTUNE_CACHE or ~/.cache/innertune.

    Raises:
        InputError: the wheel `espeakng-loader` is not installed, there is no such voice, we have no sentences in its
            language, or more distinct sentences are asked for than there are.
    """
    counts = {"train": train, "validation": validation, "test": test}
    counts |= {"source_train": source_train, "source_test": source_test}
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"'{name}' is a number of utterances, 0 or more; got {count}.")
    for voice in (source, target):
        _grammar(voice)
    base = cache or os.environ.get("INNERTUNE_CACHE") or Path.home() / ".cache" / "innertune"
    folder = Path(base).expanduser().absolute()
    return Splits(
        train=_utterances(folder, target, "train", train, seed),
        validation=_utterances(folder, target, "validation", validation, seed),
        test=_utterances(folder, target, "test", test, seed),
        source_test=_utterances(folder, source, "source_test", source_test, seed),
        source_train=_utterances(folder, source, "train", source_train, seed),
    )


def _grammar(voice: str) -> sentences.Grammar:
    grammars = {"en": sentences.ENGLISH, "de": sentences.GERMAN}
    there = [name for name in espeak.voices() if name.split("-")[0] in grammars and name != "en-shaw"]
    if voice not in there:
        raise InputError(f"There are no synthetic sentences for the voice '{voice}'. Give one of: {', '.join(there)}.")
    return grammars[voice.split("-")[0]]


def _utterances(cache: Path, voice: str, part: str, count: int, seed: int) -> tuple[Utterance, ...]:
    """The first `count` utterances of a part: those of the cache, then new ones, which go into the cache."""
    if count == 0:
        return ()
    folder = cache / "accents" / f"{voice}-{_fingerprint(voice, seed)}"
    manifest = folder / f"{part}.jsonl"
    # The manifest is written after the audio it names, so what it has is whole, and whatever it lacks is made anew.
    done = read_manifest(manifest)[0] if manifest.is_file() else []
    if len(done) < count:
        done = _synthesise(list(islice(_plan(voice, part, seed), count)), folder, manifest, done)
    return tuple(done[:count])


def _synthesise(plan: list[Utterance], folder: Path, manifest: Path, done: list[Utterance]) -> list[Utterance]:
    """Make the utterances of `plan` after those `done`, and write the manifest of all, a block at a time; return all.

    Two processes that make the same one write the same bytes to the same names, each file whole, so they do no harm.
    """
    made = list(done)
    log.info("Speaking %d utterances of %s (%s).", len(plan) - len(done), plan[0].accent, manifest.stem)
    for utterance in track(plan[len(done) :], f"{plan[0].accent} {manifest.stem}"):
        voice, variant = utterance.speaker.split("+")
        speech = espeak.speak(utterance.text, voice, variant, utterance.extra["rate"], utterance.extra["pitch"])
        wave = _resample(speech.samples)
        path = folder / utterance.audio_filepath
        _write_flac(path, wave)
        made.append(
            replace(
                utterance,
                audio_filepath=path,
                duration=len(wave) / SAMPLE_RATE,
                phonemes=speech.phonemes,
                where=f"{manifest}:{len(made) + 1}",
            )
        )
        if len(made) % _BLOCK == 0 or len(made) == len(plan):
            os.sync()  # the audio is on the disk before the manifest says so
            write_manifest(manifest, made)
    return made


def _resample(samples: np.ndarray) -> np.ndarray:
    """22,050 Hz to 16,000 Hz, int16 to int16, through the spectrum (441 input samples are 320 of the output).

    The whole utterance is one transform in double precision, so the result does not depend on threads or a BLAS. The
    uppermost twentieth of the band fades out, for a sharp edge would ring.
    """
    blocks = -(-len(samples) // 441)
    spectrum = np.fft.rfft(samples, 441 * blocks)[: 160 * blocks + 1]
    edge = len(spectrum) // 20
    spectrum[-edge:] *= np.cos(np.linspace(0, np.pi / 2, edge)) ** 2
    wave = np.fft.irfft(spectrum, 320 * blocks)[: -(-len(samples) * 320 // 441)] * (320 / 441)
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


def _write_flac(path: Path, samples: np.ndarray) -> None:
    """Write a file, whole or not at all. It is not synced by itself, which would take longer than speaking it."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(encoded.getbuffer())
    part.replace(path)


def _fingerprint(voice: str, seed: int) -> str:
    """Stands for everything that the bytes depend on, besides the part and the number of the utterance."""
    parts = (RECIPE, SAMPLE_RATE, espeak.version(), voice, seed, TRAIN_VARIANTS, TEST_VARIANTS)
    text = json.dumps([*parts, _grammar(voice).fingerprint()])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _plan(voice: str, part: str, seed: int) -> Iterator[Utterance]:
    """What to say and how, as utterances that have no audio yet; utterance i is the same however many are taken."""
    grammar, lang = _grammar(voice), voice.split("-")[0]
    rng = random.Random(f"{seed}/{part}/{lang}")
    speakers = TEST_VARIANTS if part in ("test", "source_test") else TRAIN_VARIANTS
    said: set[str] = set()
    misses = 0
    while misses < 20_000:
        text = grammar.sentence(rng)
        if text in said or sentences.part(text) != part:
            misses += 1
            continue
        misses = 0
        variant = rng.choice(speakers)
        own = random.Random(f"speaker/{variant}")  # a speaker's habits, the same in every set
        rate = own.randint(150, 190) + rng.randint(-12, 12)
        pitch = own.randint(40, 60) + rng.randint(-6, 6)
        speaker, extra = f"{voice}+{variant}", {"rate": rate, "pitch": pitch}
        name = Path(part, f"{len(said):06d}.flac")
        said.add(text)
        yield Utterance(name, text, speaker=speaker, accent=voice, lang=lang, extra=extra)
    raise InputError(
        f"There are only about {len(said)} distinct '{lang}' sentences for '{part}'. Ask for fewer utterances."
    )
