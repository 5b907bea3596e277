"""The data recipe `accents`: synthetic speech in a source and a target accent, stored in a cache folder."""

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

from adapt.checks import check_counts
from adapt.data.manifest import Splits, Utterance, read_manifest, write_manifest
from adapt.data.synthetic import espeak, sentences
from adapt.errors import InputError
from adapt.files import is_file, user_path
from adapt.progress import track

log = logging.getLogger(__name__)
RECIPE = 1  # to be increased whenever the same arguments would give different bytes
MOST = 100_000  # utterances of a split; more synthetic speech teaches nothing new, and fills a disk
SAMPLE_RATE = 16_000  # Hz, of the audio files
_BLOCK = 500  # utterances between writes of the manifest, so an interruption loses at most these

# The espeak-ng speaker variants that sound natural: no whisper, echo, creak, clipping or robot.
TRAIN_VARIANTS = (
    "m1", "m3", "m4", "m5", "m7", "f1", "f2", "f4", "klatt", "klatt3", "Alex", "Andy", "Denis", "Gene", "Michael",
    "Mario", "adam", "belinda", "linda", "max", "rob", "robert", "shelby",
)  # fmt: skip
TEST_VARIANTS = ("m2", "m6", "m8", "f3", "f5", "klatt2", "Mike", "Andrea", "edward", "victor")


def accents(
    source: str = "en-us",
    target: str = "en-gb-scotland",
    train: int = 660,
    validation: int = 60,
    test: int = 200,
    source_train: int = 0,
    source_test: int = 200,
    source_validation: int | None = None,
    seed: int = 0,
    cache: Path | str | None = None,
) -> Splits:
    """Make synthetic speech to adapt from one accent to another.

    - Utterance i of a split is always the same, however many utterances are requested.
    - The text of a sentence alone decides which split may use it (`sentences.split_of`), so no seed trains on a
      sentence that another seed tests on. Test speakers (variants) are never training speakers.
    - Utterance i has the same sentence, variant, rate and pitch in all accents of a language, so the same split in two
      accents differs only in the accent.

    Args:
        source: the accent that the base knows: an English or German voice of espeak-ng, such as "en-us".
        target: the accent to adapt to, such as "en-gb-scotland", "en-029" or "de". If it equals `source`, the splits
            have one accent only, to train a base.
        train: the number of utterances of the target in `train`. They last 1.8 s on average.
        validation: the same for `validation`.
        test: the same for `test`.
        source_train: the number of utterances of the source in `source_train`, with the sentences of `train`.
        source_test: the same for `source_test`.
        source_validation: the same for `source_validation`, with the sentences of `validation`. None takes as many as
            `validation` has, if there is a `source_test`.
        seed: the seed for the choice of sentences and voices.
        cache: the folder for the audio, 16 kHz mono 16-bit FLAC; None for $INNERTUNE_CACHE if it is
            set, else ~/.cache/innertune.

    Returns:
        The splits. Each utterance has its phonemes with their times, `speaker` ("en-gb-scotland+m3"), `accent`,
        `lang`, and in `extra` the `rate` (words per minute) and `pitch` (0 to 99).

    Raises:
        InputError: the package `espeakng-loader` is not installed, a voice does not exist, there are no sentences in
            its language, more sentences are requested than there are, or the cache folder cannot be written.
    """
    kept = source_validation if source_validation is not None else validation if source_test else 0
    check_counts(0, train=train, validation=validation, test=test, source_train=source_train, source_test=source_test)
    check_counts(0, source_validation=kept)
    counts = {"train": train, "validation": validation, "test": test, "source_train": source_train}
    for name, count in (counts | {"source_test": source_test, "source_validation": kept}).items():
        if count > MOST:
            raise InputError(
                f"{name} must be at most {MOST:,} utterances, about {MOST * 1.8 / 3600:.0f} hours; got {count:,}."
            )
    for voice in (source, target):
        _grammar(voice)
    base = cache or os.environ.get("INNERTUNE_CACHE") or "~/.cache/innertune"
    try:
        folder = user_path(base).absolute()
        return Splits(
            train=_utterances(folder, target, "train", train, seed),
            validation=_utterances(folder, target, "validation", validation, seed),
            test=_utterances(folder, target, "test", test, seed),
            source_test=_utterances(folder, source, "source_test", source_test, seed),
            source_train=_utterances(folder, source, "train", source_train, seed),
            source_validation=_utterances(folder, source, "validation", kept, seed),
        )
    except OSError as error:
        reason = f"{error.strerror}: '{error.filename}'"
        raise InputError(
            f"The synthetic speech cannot be kept in '{base}' ({reason}). Name a folder that can be written, with "
            "enough space (about 30 kB for each utterance): INNERTUNE_CACHE=FOLDER."
        ) from None


def _grammar(voice: str) -> sentences.Grammar:
    grammars = {"en": sentences.ENGLISH, "de": sentences.GERMAN}
    known = [name for name in espeak.voices() if name.split("-")[0] in grammars and name != "en-shaw"]
    if voice not in known:
        raise InputError(f"There are no synthetic sentences for the voice '{voice}'. Give one of: {', '.join(known)}.")
    return grammars[voice.split("-")[0]]


def _utterances(cache: Path, voice: str, part: str, count: int, seed: int) -> tuple[Utterance, ...]:
    """Return the first `count` utterances of a split. Those that are not in the cache are made and added to it."""
    if count == 0:
        return ()
    folder = cache / "accents" / f"{voice}-{_fingerprint(voice, seed)}"
    manifest = folder / f"{part}.jsonl"
    # The manifest is written after its audio, so the audio of all its utterances is complete. The rest is made again.
    done = read_manifest(manifest)[0] if is_file(manifest) else []
    if len(done) < count:
        done = _synthesise(list(islice(_plan(voice, part, seed), count)), folder, manifest, done)
    return tuple(done[:count])


def _synthesise(plan: list[Utterance], folder: Path, manifest: Path, done: list[Utterance]) -> list[Utterance]:
    """Synthesise the utterances of `plan` that are not `done`, and return all. The manifest is written in blocks.

    Two processes may do this at once: they write the same bytes to the same files, atomically.
    """
    made = list(done)
    log.info("Synthesising %d utterances of %s (%s).", len(plan) - len(done), plan[0].accent, manifest.stem)
    for utterance in track(plan[len(done) :], f"{plan[0].accent} {manifest.stem}"):
        voice, variant = str(utterance.speaker).split("+")
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
            os.sync()  # the audio must be on the disk before the manifest names it
            write_manifest(manifest, made)
    return made


def _resample(samples: np.ndarray) -> np.ndarray:
    """Resample int16 samples from 22,050 Hz to 16,000 Hz through the spectrum (441 samples become 320).

    The whole utterance is one transform in double precision, so the result does not depend on threads or BLAS. The
    top 5 % of the band is faded out, because a sharp cutoff would ring.
    """
    blocks = -(-len(samples) // 441)
    spectrum = np.fft.rfft(samples, 441 * blocks)[: 160 * blocks + 1]
    edge = len(spectrum) // 20
    spectrum[-edge:] *= np.cos(np.linspace(0, np.pi / 2, edge)) ** 2
    wave = np.fft.irfft(spectrum, 320 * blocks)[: -(-len(samples) * 320 // 441)] * (320 / 441)
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


def _write_flac(path: Path, samples: np.ndarray) -> None:
    """Write a FLAC file atomically. It is not synced to disk on its own, which would take longer than the synthesis."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(encoded.getbuffer())
    part.replace(path)


def _fingerprint(voice: str, seed: int) -> str:
    """Return a hash of everything that the audio depends on, except for the split and the utterance's number."""
    parts = (RECIPE, SAMPLE_RATE, espeak.version(), voice, seed, TRAIN_VARIANTS, TEST_VARIANTS)
    text = json.dumps([*parts, _grammar(voice).fingerprint()])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _plan(voice: str, part: str, seed: int) -> Iterator[Utterance]:
    """Yield the utterances to synthesise. Utterance i is the same however many are taken."""
    grammar, lang = _grammar(voice), voice.split("-")[0]
    rng = random.Random(f"{seed}/{part}/{lang}")
    speakers = TEST_VARIANTS if part in ("test", "source_test") else TRAIN_VARIANTS
    used: set[str] = set()
    misses = 0
    while misses < 20_000:
        text = grammar.sentence(rng)
        if text in used or sentences.split_of(text) != part:
            misses += 1
            continue
        misses = 0
        variant = rng.choice(speakers)
        habits = random.Random(f"speaker/{variant}")  # a speaker has the same mean rate and pitch in every split
        rate = habits.randint(150, 190) + rng.randint(-12, 12)
        pitch = habits.randint(40, 60) + rng.randint(-6, 6)
        speaker, extra = f"{voice}+{variant}", {"rate": rate, "pitch": pitch}
        name = Path(part, f"{len(used):06d}.flac")
        used.add(text)
        yield Utterance(name, text, speaker=speaker, accent=voice, lang=lang, extra=extra)
    raise InputError(
        f"There are only about {len(used)} distinct '{lang}' sentences for '{part}'. Request fewer utterances."
    )
