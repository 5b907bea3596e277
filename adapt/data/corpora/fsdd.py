"""Free Spoken Digit Dataset: people saying the English digits; from some of them one adapts to another.

Source: github.com/Jakobovski/free-spoken-digit-dataset (release 1.0.10: six speakers, ten digits, 50 takes, 8 kHz).
Licence: CC BY-SA 4.0.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapt.data.corpora.download import download_archive
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.errors import InputError

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
    """Download the corpus (some 16 MB) into `folder`, and return the folder to give to `prepare_fsdd`.

    Raises:
        InputError: the address cannot be read, or the archive is damaged.
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
    """Splits that adapt from the `source` speakers to the `target` speaker, or, without a target, train a base.

    `folder` holds either the corpus (`recordings/DIGIT_SPEAKER_TAKE.wav`) or manifests `SPEAKER_train.jsonl` and
    `SPEAKER_test.jsonl` whose audio files are named so. Takes 0 to 9 of each digit are for testing (the corpus's own
    split with some more of them: later releases reserve 0 to 4), the others for training, in order of take, then digit.

    With a target: `train` is its first `utterances`, `validation` its next `validation`, `test` its test takes,
    `source_test` those of the source speakers, and `source_train` the first so many of their others, the speakers in
    turn. With `target=None`: `validation` is the last `validation` of each source speaker, `train` all before, `test`
    their test takes, and `utterances` and `source_train` are not used.

    Raises:
        InputError: the folder has neither layout, a speaker is not in it or has too few recordings, or a manifest
            has a line that cannot be used.
    """
    source = [source] if isinstance(source, str) else list(dict.fromkeys(source))
    if target in source:
        raise InputError(f"The target '{target}' is also a source speaker. Take it out of source: {source}.")
    if target is None and not source:
        raise InputError("Without a target there must be source speakers, such as source: [jackson, theo].")
    if utterances < 1 or validation < 0:
        raise InputError(f"Needs utterances of 1 or more and validation of 0 or more, got {utterances}, {validation}.")
    if source_train < 0:
        raise InputError(f"source_train is a number of utterances, 0 or more; got {source_train}.")
    takes = _takes(Path(folder).expanduser())
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
        raise InputError("source_train is of the source speakers, and there are none: source=[jackson, theo].")
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
            "asked for, validation included. Lower utterances, validation or source_train."
        )
    return pool


def _takes(folder: Path) -> dict[str, _Takes]:
    """All recordings: speaker -> (take, digit) -> utterance."""
    takes: dict[str, _Takes] = {}
    for utterance in _recordings(folder):
        digit, speaker, take = _STEM.fullmatch(utterance.audio_filepath.stem).groups()
        takes.setdefault(speaker, {})[int(take), int(digit)] = replace(
            utterance,
            speaker=utterance.speaker or speaker,
            accent=utterance.accent or _ACCENTS.get(speaker),
            lang=utterance.lang or "en",
        )
    return takes


def _recordings(folder: Path) -> list[Utterance]:
    for root in (folder, folder / _NAME):
        files = [path for path in (root / "recordings").glob("*.wav") if _STEM.fullmatch(path.stem)]
        if files:
            return [Utterance(path, text=_WORDS[int(path.stem[0])], where=str(path)) for path in files]
        manifests = [*root.glob("*_train.jsonl"), *root.glob("*_test.jsonl")]
        if manifests:
            return [utterance for path in manifests for utterance in _manifest(path)]
    raise InputError(
        f"'{folder}' is not the Free Spoken Digit Dataset. Expected recordings/DIGIT_SPEAKER_TAKE.wav (such as "
        "recordings/7_jackson_32.wav), or SPEAKER_train.jsonl and SPEAKER_test.jsonl. "
        f"`adapt.data.corpora.fsdd.download_fsdd('{folder}')` gets it."
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
