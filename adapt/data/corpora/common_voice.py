"""Common Voice: sentences read by volunteers, to adapt from one accent to another.

Source: Mozilla Common Voice, scripted speech (any language and release). Licence: CC0 1.0; to download it, you need an
account and must accept the platform's terms.
"""

import csv
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

from adapt.checks import check_count, check_share
from adapt.data.manifest import Splits, Utterance
from adapt.data.text import lower_case, strip_punctuation
from adapt.errors import InputError
from adapt.files import is_file, matching, user_path

_log = logging.getLogger(__name__)


def download_common_voice(folder: Path | str, lang: str = "en") -> Path:
    """Return the folder of the corpus for `lang` in `folder`. You must have downloaded it, because a script cannot.

    Raises:
        InputError: the corpus is not there. The message says where to download it, and where to unpack it.
    """
    return _find(user_path(folder), lang)


def prepare_common_voice(
    folder: Path | str,
    target: str = "Scottish",
    source: str | None = "United States",
    lang: str = "en",
    utterances: int | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    source_utterances: int = 500,
    source_train: int = 0,
    seed: int = 0,
) -> Splits:
    """Make splits that adapt from one accent to another. No speaker is in two splits. Rows come from validated.tsv.

    `train`, `validation` and `test` share no sentence: a sentence in several stays in `test`, or else in `validation`.
    `source_test` has no sentence of `train` and no speaker who is also labelled with the target accent. `source_train`
    has no sentence of `validation`, `test` or `source_test`. Rows without a clip or a word are left out, and a warning
    says how many. Memory use is about 1 kB for each row of the two accents.

    Args:
        folder: cv-corpus-RELEASE/LANG, or a folder above it.
        target: the accent to adapt to, given as a part of its label; case does not matter.
        source: the accent that the base knows, given in the same way; None for no source splits.
        lang: the language's code in the corpus.
        utterances: the largest number of utterances in `train`, taken from the speakers in turn; None for no limit.
        validation: the approximate share of the target's utterances in `validation`. It is not exact, because
            all utterances of a speaker stay together.
        test: the same for `test`.
        source_utterances: the largest number of utterances in `source_test`, taken from the speakers in turn.
        source_train: the same for `source_train`. The source speakers are divided between the two splits in the
            ratio of the two limits.
        seed: the seed for the random choice of speakers and utterances.

    Returns:
        The splits.

    Raises:
        InputError: the corpus or a column is missing, an accent has no rows, or it has too few speakers.
    """
    check_share("validation", validation, zero=True)
    check_share("test", test)
    if validation + test >= 1:
        raise InputError(f"validation + test must be below 1; got {validation} + {test}.")
    check_count("source_utterances", source_utterances, 1)
    if utterances is not None:
        check_count("utterances", utterances, 1)
    check_count("source_train", source_train)
    if source_train and source is None:
        raise InputError(f"source_train={source_train} needs a source accent, but source is None.")
    path = _find(user_path(folder), lang) / "validated.tsv"
    problems: list[str] = []
    labels: Counter[str] = Counter()
    targets, sources = [], []
    for utterance in _rows(path, lang, [target, source or target], labels, problems):
        (targets if lower_case(target) in lower_case(str(utterance.accent)) else sources).append(utterance)

    rng = random.Random(seed)
    before = len(problems)
    speakers = _by_speaker(_usable(targets, problems))
    _require(speakers, targets, target, labels, path, problems[before:])
    parts = _split_speakers(speakers, validation, test, target, rng)
    held_out = {utterance.text for utterance in parts["test"]}
    parts["validation"] = [utterance for utterance in parts["validation"] if utterance.text not in held_out]
    held_out |= {utterance.text for utterance in parts["validation"]}
    remaining = _by_speaker(utterance for utterance in parts["train"] if utterance.text not in held_out)
    train = tuple(islice(_in_turn(remaining, rng), utterances))
    if not train or (validation > 0 and not parts["validation"]):
        raise InputError(f"Every training or validation sentence of '{target}' is also in test. Try another seed.")

    source_test: tuple[Utterance, ...] = ()
    replay: tuple[Utterance, ...] = ()
    if source is not None:
        before = len(problems)
        trained, excluded = {utterance.text for utterance in train}, {utterance.speaker for utterance in targets}
        others = _by_speaker(utterance for utterance in sources if utterance.speaker not in excluded)
        trainers = _draw_speakers(others, source_train / (source_train + source_utterances), source, seed)
        testers = {speaker: clips for speaker, clips in others.items() if speaker not in trainers}
        ordered = _in_turn(testers, rng)
        usable = _usable((utterance for utterance in ordered if utterance.text not in trained), problems)
        source_test = tuple(islice(usable, source_utterances))
        _require(source_test, sources, source, labels, path, problems[before:])
        if source_train:
            held_out |= {utterance.text for utterance in source_test}
            usable = _usable((u for u in _in_turn(trainers, rng) if u.text not in held_out), problems)
            replay = tuple(islice(usable, source_train))
            if not replay:
                raise InputError(
                    f"No sentence of '{source}' is left for source_train: all are in the test data. Lower "
                    "source_utterances."
                )
    if problems:
        _log.warning("%d rows of '%s' were left out. The first: %s", len(problems), path, problems[0])
    return Splits(train, tuple(parts["validation"]), tuple(parts["test"]), source_test, replay)


def _find(folder: Path, lang: str) -> Path:
    roots = [folder, folder / lang, *matching(folder, f"cv-corpus-*/{lang}")]
    existing = [root for root in roots if is_file(root / "validated.tsv")]
    if len(existing) == 1:
        return existing[0]
    if existing:
        raise InputError(f"'{folder}' has {len(existing)} releases. Choose one: {', '.join(map(str, existing))}.")
    raise InputError(
        f"There is no Common Voice for '{lang}' in '{folder}'. A script cannot download it: create an account at "
        "mozilladatacollective.com, accept the terms of 'Common Voice Scripted Speech' in your language, download the "
        f"archive, and unpack it to '{folder}/cv-corpus-RELEASE/{lang}/', with validated.tsv and the folder clips."
    )


def _rows(path: Path, lang: str, accents: list[str], labels: Counter[str], problems: list[str]) -> Iterator[Utterance]:
    """Yield the rows whose label contains one of `accents`, and count all labels in `labels`."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            # The file is written without quoting, and sentences contain quotation marks.
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns = list(reader.fieldnames or ())
            column = "accents" if "accents" in columns else "accent"  # its name in older releases
            for needed in ("client_id", "path", "sentence", column):
                if needed not in columns:
                    has = ", ".join(columns) or "none"
                    raise InputError(f"{path}:1: needs the tab-separated column '{needed}'. Its columns: {has}.")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    problems.append(f"{where}: expected {len(columns)} tab-separated columns.")
                elif label := row[column].strip():
                    labels[label] += 1
                    if any(lower_case(accent) in lower_case(label) for accent in accents):
                        yield _utterance(row, label, path.parent / "clips", lang, where)
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text ({error.reason}). Unpack the release again.") from None


def _utterance(row: dict[str, str], accent: str, clips: Path, lang: str, where: str) -> Utterance:
    extra = {"gender": row["gender"]} if row.get("gender") else {}
    text = strip_punctuation(row["sentence"], language=lang)
    return Utterance(
        clips / row["path"], text, speaker=row["client_id"], accent=accent, lang=lang, extra=extra, where=where
    )


def _usable(utterances: Iterable[Utterance], problems: list[str]) -> Iterator[Utterance]:
    for utterance in utterances:
        if not utterance.text:
            problems.append(f"{utterance.where}: the sentence has no word.")
        elif not is_file(utterance.audio_filepath):
            problems.append(f"{utterance.where}: there is no clip '{utterance.audio_filepath}'.")
        else:
            yield utterance


def _require(
    usable: object, rows: list[Utterance], accent: str, labels: Counter[str], path: Path, problems: list[str]
) -> None:
    """Raise InputError if `usable` is empty, so an accent has no usable data."""
    if usable:
        return
    if rows:
        reason = problems[0] if problems else "all are by the target's speakers, or their sentences are in train."
        raise InputError(f"'{path}' has {len(rows)} rows for '{accent}', but none is usable: {reason}")
    frequent = ", ".join(f"{label} ({count})" for label, count in labels.most_common(20)) or "none"
    raise InputError(
        f"'{path}' has no accent that contains '{accent}'. Its most frequent accents, with their rows: {frequent}."
    )


def _by_speaker(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        speakers.setdefault(str(utterance.speaker), []).append(utterance)
    return speakers


def _split_speakers(
    speakers: dict[str, list[Utterance]], validation: float, test: float, accent: str, rng: random.Random
) -> dict[str, list[Utterance]]:
    """Assign whole speakers to splits: the largest to train, each further one to the split most short of data."""
    shares = {"train": 1 - validation - test, "test": test, "validation": validation}
    wanted = [name for name, share in shares.items() if share > 0]
    if len(speakers) < len(wanted):
        raise InputError(
            f"'{accent}' has {len(speakers)} speakers with clips, but {' and '.join(wanted)} need one each. "
            "Choose a more frequent accent, or set validation to 0."
        )
    order = sorted(speakers, key=lambda speaker: (-len(speakers[speaker]), speaker))
    parts: dict[str, list[Utterance]] = {name: [] for name in shares}
    for name in wanted:  # each split first gets one speaker: train the largest, the others the smallest
        parts[name] += speakers[order.pop(0 if name == "train" else -1)]
    rng.shuffle(order)
    total = sum(map(len, speakers.values()))
    for speaker in order:
        room = {name: shares[name] * total - len(parts[name]) for name in wanted}
        name = max(room, key=lambda split: room[split])
        # A speaker with too many utterances for a small split goes to train instead.
        parts[name if len(speakers[speaker]) <= 2 * room[name] else "train"] += speakers[speaker]
    return parts


def _draw_speakers(
    speakers: dict[str, list[Utterance]], share: float, accent: str, seed: int
) -> dict[str, list[Utterance]]:
    """Draw a share of the speakers. Unless the share is 0, draw at least one speaker, but never all of them."""
    if share and len(speakers) == 1:
        raise InputError(f"'{accent}' has 1 speaker with clips, but source_test and source_train need one each.")
    count = min(max(round(share * len(speakers)), 1), len(speakers) - 1) if share and speakers else 0
    return {speaker: speakers[speaker] for speaker in random.Random(seed).sample(sorted(speakers), count)}


def _in_turn(speakers: dict[str, list[Utterance]], rng: random.Random) -> Iterator[Utterance]:
    """Yield one utterance of each speaker, then a second one of each, and so on."""
    order = sorted(speakers)
    rng.shuffle(order)
    for turn in zip_longest(*(rng.sample(speakers[speaker], len(speakers[speaker])) for speaker in order)):
        yield from (utterance for utterance in turn if utterance is not None)
