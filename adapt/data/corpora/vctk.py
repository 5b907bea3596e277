"""VCTK 0.92: newspaper sentences read in many accents of English, to adapt from one accent to another.

Source: CSTR, University of Edinburgh, doi.org/10.7488/ds/2645 (110 speakers, some 400 sentences each, 48 kHz FLAC).
Licence: CC BY 4.0.
"""

import logging
import random
from pathlib import Path

from adapt.checks import check_choice, check_count, check_counts
from adapt.data.corpora.download import download_archive
from adapt.data.manifest import Splits, Utterance
from adapt.data.text import lower_case, strip_punctuation
from adapt.errors import InputError
from adapt.files import exists, is_file, user_path

_NAME = "VCTK-Corpus-0.92"
_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip"
_SHA256 = "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c"

_log = logging.getLogger(__name__)


def download_vctk(folder: Path | str) -> Path:
    """Download the corpus (11 GB, and twice that while unpacking) into `folder`, and return its folder.

    Raises:
        InputError: the download failed, or the checksum differs.
    """
    return download_archive(_URL, Path(folder) / _NAME, checksum=f"sha256:{_SHA256}")


def prepare_vctk(
    folder: Path | str,
    target: str = "Scottish",
    source: str | None = "American",
    utterances: int | None = None,
    test_speakers: int = 4,
    validation_speakers: int = 2,
    source_speakers: int = 4,
    source_train: int = 0,
    mic: int = 1,
    seed: int = 0,
) -> Splits:
    """Make splits that adapt from one accent to another, with no speaker in two splits.

    All speakers first read the same 24 prompts, and some newspaper sentences are shared too. `train`, `validation` and
    `test` share no sentence: a sentence in several stays in `test`, or else in `validation`. `source_test` has no
    sentence of `train`, and `source_train` none of `validation`, `test` or `source_test`. Prompts without a recording
    (the corpus has many) and speakers without text are left out, and a warning says how many.

    Args:
        folder: VCTK-Corpus-0.92/ or the folder above it.
        target: the accent to adapt to, as in speaker-info.txt; case does not matter.
        source: the accent that the base knows; None for no source splits.
        utterances: the largest number of utterances in `train`; None for no limit.
        test_speakers: the number of target speakers in `test`, with all their sentences.
        validation_speakers: the number of target speakers in `validation`. The remaining ones are in `train`.
        source_speakers: the number of source speakers in `source_test`.
        source_train: the largest number of utterances in `source_train`, from further source speakers.
        mic: which of the two microphones to use, 1 or 2.
        seed: the seed for the random choice of speakers and utterances.

    Returns:
        The splits.

    Raises:
        InputError: the corpus or an accent is missing, or an accent has too few speakers.
    """
    check_counts(1, test_speakers=test_speakers, source_speakers=source_speakers)
    check_counts(0, validation_speakers=validation_speakers, source_train=source_train)
    if utterances is not None:
        check_count("utterances", utterances, 1)
    check_choice("mic", mic, (1, 2))
    if source_train and source is None:
        raise InputError(f"source_train={source_train} needs a source accent, but source is None.")
    if source is not None and lower_case(source) == lower_case(target):
        raise InputError(f"Source and target are both '{target}'. Choose two accents, or set source to None.")
    root = _find(user_path(folder))
    accents = _accents(root / "speaker-info.txt")
    rng = random.Random(seed)
    problems: list[str] = []

    held_out = test_speakers + validation_speakers
    drawn = _draw(root, accents, target, held_out + 1, mic, rng, problems)
    test = _merged(drawn[:test_speakers])
    validation = _without(_merged(drawn[test_speakers:held_out]), test)
    train = _without(_merged(drawn[held_out:]), test + validation)
    if utterances is not None:
        train = sorted(rng.sample(train, min(utterances, len(train))), key=lambda utterance: utterance.where)
    if not train or (validation_speakers and not validation):
        raise InputError(f"Every training or validation sentence of '{target}' is also in test. Try another seed.")
    source_test: list[Utterance] = []
    replay: list[Utterance] = []
    if source is not None:
        others = _draw(root, accents, source, source_speakers + bool(source_train), mic, rng, problems)
        source_test = _without(_merged(others[:source_speakers]), train)
        if not source_test:
            raise InputError(f"Every sentence of the speakers of '{source}' is also in train. Lower utterances.")
        if source_train:
            replay = _without(_merged(others[source_speakers:]), test + validation + source_test)
            replay = sorted(rng.sample(replay, min(source_train, len(replay))), key=lambda utterance: utterance.where)
            if not replay:
                raise InputError(f"No sentence of '{source}' is left for source_train. Lower source_speakers.")
    if problems:
        _log.warning("%d prompts of '%s' were left out. The first: %s", len(problems), root, problems[0])
    return Splits(tuple(train), tuple(validation), tuple(test), tuple(source_test), tuple(replay))


def _find(folder: Path) -> Path:
    for root in (folder, folder / _NAME):
        if all(exists(root / name) for name in ("speaker-info.txt", "txt", "wav48_silence_trimmed")):
            return root
    raise InputError(
        f"'{folder}' is not VCTK 0.92. Expected speaker-info.txt, txt/p225/p225_001.txt and "
        "wav48_silence_trimmed/p225/p225_001_mic1.flac. "
        f"`adapt.data.corpora.vctk.download_vctk('{folder}')` downloads it."
    )


def _accents(path: Path) -> dict[str, tuple[str, str]]:
    """Return (accent, gender) by speaker. The columns are ID AGE GENDER ACCENTS REGION COMMENTS."""
    speakers = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "ID":
            continue
        if len(fields) < 4:
            raise InputError(
                f"{path}:{number}: expected ID AGE GENDER ACCENTS and optionally a region, got '{line[:60]}'."
            )
        speakers[fields[0]] = (fields[3], fields[2])
    return speakers


def _draw(
    root: Path,
    accents: dict[str, tuple[str, str]],
    accent: str,
    needed: int,
    mic: int,
    rng: random.Random,
    problems: list[str],
) -> list[list[Utterance]]:
    """Return a list of utterances for each speaker of `accent` who has any, speakers in random order."""
    named = sorted(speaker for speaker, (label, _) in accents.items() if lower_case(label) == lower_case(accent))
    if not named:
        known = ", ".join(sorted({label for label, _ in accents.values()})) or "none"
        raise InputError(f"'{root / 'speaker-info.txt'}' has no accent '{accent}'. It has: {known}.")
    before = len(problems)
    by_speaker = [_read(root, speaker, *accents[speaker], mic, problems) for speaker in named]
    drawn = [utterances for utterances in by_speaker if utterances]
    if len(drawn) < needed:
        first = f" The first problem: {problems[before]}" if problems[before:] else ""
        raise InputError(
            f"'{root}' has {len(drawn)} speakers of '{accent}' with text and recordings, but {needed} are needed. "
            f"Lower test_speakers, validation_speakers or source_speakers.{first}"
        )
    rng.shuffle(drawn)
    return drawn


def _read(root: Path, speaker: str, accent: str, gender: str, mic: int, problems: list[str]) -> list[Utterance]:
    utterances = []
    texts = sorted((root / "txt" / speaker).glob("*.txt"))
    if not texts:
        problems.append(f"{root / 'txt' / speaker}: the speaker has no text.")
    for path in texts:
        audio = root / "wav48_silence_trimmed" / speaker / f"{path.stem}_mic{mic}.flac"
        text = strip_punctuation(path.read_text(encoding="utf-8"))
        if not text:
            problems.append(f"{path}: the text has no word.")
        elif not is_file(audio):
            problems.append(f"{path}: there is no recording '{audio}'.")
        else:
            extra = {"gender": gender}
            utterances.append(
                Utterance(audio, text, speaker=speaker, accent=accent, lang="en", extra=extra, where=str(path))
            )
    return utterances


def _merged(speakers: list[list[Utterance]]) -> list[Utterance]:
    return sorted(
        (utterance for utterances in speakers for utterance in utterances), key=lambda utterance: utterance.where
    )


def _without(utterances: list[Utterance], others: list[Utterance]) -> list[Utterance]:
    """Return the utterances whose sentence is not in `others`."""
    sentences = {utterance.text for utterance in others}
    return [utterance for utterance in utterances if utterance.text not in sentences]
