"""Free Spoken Digit Dataset: English digits by six speakers, to adapt from some speakers to another.

Source: github.com/Jakobovski/free-spoken-digit-dataset (release 1.0.10: six speakers, ten digits, 50 takes, 8 kHz).
Licence: CC BY-SA 4.0.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapt.checks import check_count, check_counts
from adapt.data.corpora.download import download_archive
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.errors import InputError
from adapt.files import matching, user_path

_NAME = "free-spoken-digit-dataset"
_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = {  # from the corpus's metadata.py
    "jackson": "USA/neutral",
    "theo": "USA/neutral",
    "nicolas": "BEL/French",
    "yweweler": "DEU/German",
    "lucas": "DEU/German",
    "george": "GRC/Greek",
}
_TEST_TAKES = 10
_STEM = re.compile(r"([0-9])_(.+)_([0-9]+)")


def download_fsdd(folder: Path | str) -> Path:
    """Download the corpus (16 MB) into `folder`, and return its folder, for `prepare_fsdd`.

    Raises:
        InputError: the download failed, or the archive is damaged.
    """
    return download_archive(_URL, Path(folder) / _NAME, inside=f"{_NAME}-1.0.10")


def prepare_fsdd(
    folder: Path | str,
    source: Sequence[str] = ("jackson", "theo", "yweweler"),
    target: str | None = "nicolas",
    utterances: int = 50,
    validation: int = 20,
    source_train: int = 0,
) -> Splits:
    """Make splits that adapt from some speakers to another one, or to train a base.

    Takes 0 to 9 of each digit are for testing. (The corpus's own split, in later releases,
    tests on takes 0 to 4 only.) The other takes are for training, ordered by take, then by digit.

    Args:
        folder: the corpus (`recordings/DIGIT_SPEAKER_TAKE.wav`), or manifests `SPEAKER_train.jsonl` and
            `SPEAKER_test.jsonl` of audio files with such names.
        source: the speakers that the base knows. Their test takes form `source_test`.
        target: the speaker to adapt to. None makes splits of the source speakers only, to train a base. `validation` is
            then the end of each speaker's training takes, and `utterances` and `source_train` are not used.
        utterances: the number of utterances of the target in `train`.
        validation: the number of utterances of the target in `validation`; without a target, of each source speaker.
        source_train: the number of utterances in `source_train`, taken from the source speakers in turn.

    Returns:
        The splits.

    Raises:
        InputError: the folder has neither layout, a speaker is missing or has too few recordings, or a manifest has an
            unusable line.
    """
    source = [source] if isinstance(source, str) else list(dict.fromkeys(source))
    if target in source:
        raise InputError(f"The target '{target}' is also a source speaker. Remove it from source: {source}.")
    if target is None and not source:
        raise InputError("Without a target there must be source speakers, such as source: [jackson, theo].")
    check_count("utterances", utterances, 1)
    check_counts(0, validation=validation, source_train=source_train)
    takes = _takes(user_path(folder))
    for speaker in [*source, *([target] if target is not None else [])]:
        if speaker not in takes:
            raise InputError(f"'{folder}' has no recordings of '{speaker}'. Its speakers: {', '.join(sorted(takes))}.")

    source_test = tuple(utterance for speaker in source for utterance in _test(takes[speaker]))
    if target is None:
        pools = [_pool(takes[speaker], speaker, validation + 1) for speaker in source]
        return Splits(
            train=tuple(utterance for pool in pools for utterance in pool[: len(pool) - validation]),
            validation=tuple(utterance for pool in pools for utterance in pool[len(pool) - validation :]),
            test=source_test,
        )
    pool = _pool(takes[target], target, utterances + validation)
    each = -(-source_train // max(1, len(source)))
    pools = [_pool(takes[speaker], speaker, each) for speaker in source] if each else []
    if source_train and not pools:
        raise InputError("source_train needs source speakers, but there are none. Give source: [jackson, theo].")
    return Splits(
        train=pool[:utterances],
        validation=pool[utterances : utterances + validation],
        test=_test(takes[target]),
        source_test=source_test,
        source_train=tuple(utterance for turn in zip(*pools, strict=False) for utterance in turn)[:source_train],
    )


_Takes = dict[tuple[int, int], Utterance]  # (take, digit) -> the recording


def _test(takes: _Takes) -> tuple[Utterance, ...]:
    return tuple(takes[key] for key in sorted(takes) if key[0] < _TEST_TAKES)


def _pool(takes: _Takes, speaker: str, needed: int) -> tuple[Utterance, ...]:
    pool = tuple(takes[key] for key in sorted(takes) if key[0] >= _TEST_TAKES)
    if len(pool) < needed:
        raise InputError(
            f"'{speaker}' has {len(pool)} recordings outside the test takes (0 to {_TEST_TAKES - 1}), but {needed} are "
            "needed, validation included. Lower utterances, validation or source_train."
        )
    return pool


def _takes(folder: Path) -> dict[str, _Takes]:
    """Return all recordings, by speaker and then by (take, digit)."""
    takes: dict[str, _Takes] = {}
    for utterance in _recordings(folder):
        name = _STEM.fullmatch(utterance.audio_filepath.stem)
        if name is None:
            continue  # excluded by `_recordings`
        digit, speaker, take = name.groups()
        takes.setdefault(speaker, {})[int(take), int(digit)] = replace(
            utterance,
            speaker=utterance.speaker or speaker,
            accent=utterance.accent or _ACCENTS.get(speaker),
            lang=utterance.lang or "en",
        )
    return takes


def _recordings(folder: Path) -> list[Utterance]:
    for root in (folder, folder / _NAME):
        files = [path for path in matching(root / "recordings", "*.wav") if _STEM.fullmatch(path.stem)]
        if files:
            return [Utterance(path, text=_WORDS[int(path.stem[0])], where=str(path)) for path in files]
        manifests = [*matching(root, "*_train.jsonl"), *matching(root, "*_test.jsonl")]
        if manifests:
            return [utterance for path in manifests for utterance in _manifest(path)]
    raise InputError(
        f"'{folder}' is not the Free Spoken Digit Dataset. Expected recordings/DIGIT_SPEAKER_TAKE.wav (such as "
        "recordings/7_jackson_32.wav), or SPEAKER_train.jsonl and SPEAKER_test.jsonl. "
        f"`adapt.data.corpora.fsdd.download_fsdd('{folder}')` downloads it."
    )


def _manifest(path: Path) -> list[Utterance]:
    utterances, problems = read_manifest(path)
    problems += [
        f"{utterance.where}: expected a recording named DIGIT_SPEAKER_TAKE, got '{utterance.audio_filepath.name}'."
        for utterance in utterances
        if not _STEM.fullmatch(utterance.audio_filepath.stem)
    ]
    if problems:
        raise InputError(f"{len(problems)} lines of '{path}' cannot be used. The first: {problems[0]}")
    return utterances
