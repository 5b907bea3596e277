"""VCTK 0.92: newspaper sentences read in the accents of English; from one accent one adapts to another.

Source: CSTR, University of Edinburgh, doi.org/10.7488/ds/2645 (110 speakers, some 400 sentences each, 48 kHz FLAC).
Licence: CC BY 4.0.
"""

import logging
import random
from pathlib import Path

from adapt.data.corpora.download import download_archive
from adapt.data.manifest import Splits, Utterance
from adapt.data.text import strip_punctuation
from adapt.errors import InputError

_NAME = "VCTK-Corpus-0.92"
_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip"
_SHA256 = "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c"

_log = logging.getLogger(__name__)


def download_vctk(folder: Path | str) -> Path:
    """Download the corpus (11 GB, and as much again while it is unpacked) into `folder`, and return its folder.

    Raises:
        InputError: the address cannot be read, or the checksum differs.
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
    """Splits that adapt to the accent `target`, whole speakers each; accents as in speaker-info.txt, in any case.

    `folder` is the corpus or holds it as VCTK-Corpus-0.92/. `test` and `validation` are all sentences of
    `test_speakers` and `validation_speakers` speakers drawn with `seed`; `train` is of the others, at most
    `utterances` of them (None: all). All speakers read the same 24 prompts first, and share newspaper sentences: what
    is read in test is left out of validation and train, what is read in validation is left out of train, and what is
    read in train is left out of `source_test`, which is of `source_speakers` speakers of the accent `source` (None
    leaves it empty). `source_train` is at most so many sentences of further speakers of that accent, and has none that
    is read in test, validation or `source_test`. `mic` is the microphone, 1 or 2.

    Prompts without a recording (the corpus has many) and speakers without text are left out; a warning says how many.

    Raises:
        InputError: the corpus is not there, or an accent is not or has too few speakers.
    """
    counts = {"test_speakers": test_speakers, "source_speakers": source_speakers}
    if min(*counts.values(), validation_speakers + 1, 1 if utterances is None else utterances) < 1 or mic not in (1, 2):
        raise InputError(
            f"Needs 1 or more of utterances, test_speakers and source_speakers, validation_speakers of 0 or more and "
            f"mic 1 or 2; got {utterances=}, {test_speakers=}, {source_speakers=}, {validation_speakers=}, {mic=}."
        )
    if source_train < 0 or (source_train and source is None):
        raise InputError(
            f"source_train is a number of sentences of the accent `source`, 0 or more; got {source_train=}, {source=}."
        )
    if source is not None and source.casefold() == target.casefold():
        raise InputError(f"Source and target are both '{target}'. Choose two accents, or source: null.")
    root = _find(Path(folder).expanduser())
    accents = _accents(root / "speaker-info.txt")
    rng = random.Random(seed)
    problems: list[str] = []

    held = test_speakers + validation_speakers
    drawn = _draw(root, accents, target, held + 1, mic, rng, problems)
    test = _together(drawn[:test_speakers])
    validation = _without(_together(drawn[test_speakers:held]), test)
    train = _without(_together(drawn[held:]), test + validation)
    if utterances is not None:
        train = sorted(rng.sample(train, min(utterances, len(train))), key=lambda utterance: utterance.where)
    if not train or (validation_speakers and not validation):
        raise InputError(f"Every training or validation sentence of '{target}' is also in test. Try another seed.")
    source_test: list[Utterance] = []
    rehearsal: list[Utterance] = []
    if source is not None:
        others = _draw(root, accents, source, source_speakers + bool(source_train), mic, rng, problems)
        source_test = _without(_together(others[:source_speakers]), train)
        if not source_test:
            raise InputError(f"Every sentence of the speakers of '{source}' is also in train. Lower utterances.")
        if source_train:
            rehearsal = _without(_together(others[source_speakers:]), test + validation + source_test)
            rehearsal = sorted(rng.sample(rehearsal, min(source_train, len(rehearsal))), key=lambda one: one.where)
            if not rehearsal:
                raise InputError(f"Nothing of '{source}' is left for source_train. Lower source_speakers.")
    if problems:
        _log.warning("%d prompts of '%s' were left out. The first: %s", len(problems), root, problems[0])
    return Splits(tuple(train), tuple(validation), tuple(test), tuple(source_test), tuple(rehearsal))


def _find(folder: Path) -> Path:
    for root in (folder, folder / _NAME):
        if all((root / name).exists() for name in ("speaker-info.txt", "txt", "wav48_silence_trimmed")):
            return root
    raise InputError(
        f"'{folder}' is not VCTK 0.92. Expected speaker-info.txt, txt/p225/p225_001.txt and "
        f"wav48_silence_trimmed/p225/p225_001_mic1.flac. `adapt.data.corpora.vctk.download_vctk('{folder}')` gets it."
    )


def _accents(path: Path) -> dict[str, tuple[str, str]]:
    """Speaker -> (accent, gender). The columns: ID AGE GENDER ACCENTS REGION COMMENTS; a region may have spaces."""
    speakers = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "ID":
            continue
        if len(fields) < 4:
            raise InputError(f"{path}:{number}: expected ID AGE GENDER ACCENTS and maybe a region, got '{line[:60]}'.")
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
    """The utterances of each speaker of `accent` that has any, speakers in an order drawn with `rng`."""
    named = sorted(speaker for speaker, (label, _) in accents.items() if label.casefold() == accent.casefold())
    if not named:
        there = ", ".join(sorted({label for label, _ in accents.values()})) or "none"
        raise InputError(f"'{root / 'speaker-info.txt'}' has no accent '{accent}'. Accents there: {there}.")
    known = len(problems)
    drawn = [read for speaker in named if (read := _read(root, speaker, *accents[speaker], mic, problems))]
    if len(drawn) < needed:
        first = f" The first problem: {problems[known]}" if problems[known:] else ""
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
        elif not audio.is_file():
            problems.append(f"{path}: there is no recording '{audio}'.")
        else:
            extra = {"gender": gender}
            utterances.append(
                Utterance(audio, text, speaker=speaker, accent=accent, lang="en", extra=extra, where=str(path))
            )
    return utterances


def _together(speakers: list[list[Utterance]]) -> list[Utterance]:
    return sorted((utterance for read in speakers for utterance in read), key=lambda utterance: utterance.where)


def _without(utterances: list[Utterance], others: list[Utterance]) -> list[Utterance]:
    """Those whose sentence is not read in `others`."""
    sentences = {utterance.text for utterance in others}
    return [utterance for utterance in utterances if utterance.text not in sentences]
