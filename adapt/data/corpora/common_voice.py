"""Common Voice: sentences read by volunteers; from one accent one adapts to another, speakers and sentences apart.

Source: Mozilla Common Voice, scripted speech (any language and release). Licence: CC0 1.0; downloading needs an account
and the acceptance of the platform's terms.
"""

import csv
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

from adapt.data.manifest import Splits, Utterance
from adapt.data.text import strip_punctuation
from adapt.errors import InputError

_log = logging.getLogger(__name__)


def download_common_voice(folder: Path | str, lang: str = "en") -> Path:
    """Return the corpus's folder for `lang` where it lies in `folder` already; no script may download it.

    Raises:
        InputError: it is not there; the message says what to get, from where, and how to lay it.
    """
    return _find(Path(folder).expanduser(), lang)


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
    """Splits of validated.tsv that adapt to the accents whose label contains `target`; case does not matter.

    `folder` is cv-corpus-*/LANG, or a folder above it. `validation` and `test` are the shares of the target's
    utterances wanted there; speakers are kept whole, so that they come out near that. No speaker is in two splits, and
    sentences that occur in a later one are left out of the earlier one: train < validation < test. `utterances` caps
    `train` (None: all), taken from the speakers in turn. `source_test` is up to `source_utterances` of the accents
    whose label contains `source`, from the speakers in turn, without the sentences of `train` and without anyone who is
    also labelled with the target's accent; None leaves it empty. `source_train` is up to so many of other speakers of
    that accent (shared out as the two numbers are), without the sentences of validation, test and `source_test`.

    Rows whose clip is missing or whose sentence has no word are left out, and a warning is logged with their number.
    Needs about 1 kB of memory for each row that matches one of the two accents.

    Raises:
        InputError: the corpus is not there, a column is missing, or an accent has no rows or fewer than three speakers.
    """
    if validation < 0 or test <= 0 or validation + test >= 1:
        raise InputError(f"Needs shares with 0 < test and validation + test < 1, got {validation=}, {test=}.")
    if source_utterances < 1 or (utterances is not None and utterances < 1):
        raise InputError(f"Needs utterances of 1 or more, got {utterances=}, {source_utterances=}.")
    if source_train < 0 or (source_train and source is None):
        raise InputError(
            f"source_train is a number of utterances of the accent `source`, 0 or more; got {source_train=}, {source=}."
        )
    path = _find(Path(folder).expanduser(), lang) / "validated.tsv"
    problems: list[str] = []
    labels: Counter[str] = Counter()
    targets, sources = [], []
    for utterance in _rows(path, lang, [target, source or target], labels, problems):
        (targets if target.casefold() in utterance.accent.casefold() else sources).append(utterance)

    rng = random.Random(seed)
    known = len(problems)
    speakers = _by_speaker(_usable(targets, problems))
    _require(speakers, targets, target, labels, path, problems[known:])
    parts = _share_out(speakers, validation, test, target, rng)
    tested = {utterance.text for utterance in parts["test"]}
    parts["validation"] = [utterance for utterance in parts["validation"] if utterance.text not in tested]
    tested |= {utterance.text for utterance in parts["validation"]}
    kept = _by_speaker(utterance for utterance in parts["train"] if utterance.text not in tested)
    train = tuple(islice(_in_turn(kept, rng), utterances))
    if not train or (validation > 0 and not parts["validation"]):
        raise InputError(f"Every training or validation sentence of '{target}' is also in test. Try another seed.")

    source_test: tuple[Utterance, ...] = ()
    rehearsal: tuple[Utterance, ...] = ()
    if source is not None:
        known = len(problems)
        trained, owned = {utterance.text for utterance in train}, {utterance.speaker for utterance in targets}
        others = _by_speaker(utterance for utterance in sources if utterance.speaker not in owned)
        trains = _part(others, source_train / (source_train + source_utterances), source, seed)
        tests = {speaker: read for speaker, read in others.items() if speaker not in trains}
        ordered = _in_turn(tests, rng)
        usable = _usable((utterance for utterance in ordered if utterance.text not in trained), problems)
        source_test = tuple(islice(usable, source_utterances))
        _require(source_test, sources, source, labels, path, problems[known:])
        if source_train:
            tested |= {utterance.text for utterance in source_test}
            usable = _usable((one for one in _in_turn(trains, rng) if one.text not in tested), problems)
            rehearsal = tuple(islice(usable, source_train))
            if not rehearsal:
                raise InputError(f"Nothing of '{source}' is left for source_train: all is read in test. Lower that.")
    if problems:
        _log.warning("%d rows of '%s' were left out. The first: %s", len(problems), path, problems[0])
    return Splits(train, tuple(parts["validation"]), tuple(parts["test"]), source_test, rehearsal)


def _find(folder: Path, lang: str) -> Path:
    roots = [folder, folder / lang, *sorted(folder.glob(f"cv-corpus-*/{lang}"))]
    found = [root for root in roots if (root / "validated.tsv").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"'{folder}' holds {len(found)} releases; name one: {', '.join(map(str, found))}.")
    raise InputError(
        f"There is no Common Voice for '{lang}' in '{folder}'. It cannot be downloaded by a script: make an account at "
        "mozilladatacollective.com, accept the terms of 'Common Voice Scripted Speech' in your language, download the "
        f"archive and unpack it so that '{folder}/cv-corpus-RELEASE/{lang}/validated.tsv' is there, with the folder "
        "'clips' beside it."
    )


def _rows(path: Path, lang: str, accents: list[str], labels: Counter[str], problems: list[str]) -> Iterator[Utterance]:
    """The rows whose label contains one of `accents`; counts every label on the way."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            # Sentences hold quotation marks of their own: the release writes this file without quoting.
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns = list(reader.fieldnames or ())
            column = "accents" if "accents" in columns else "accent"  # its name in older releases
            for needed in ("client_id", "path", "sentence", column):
                if needed not in columns:
                    has = ", ".join(columns) or "none"
                    raise InputError(f"{path}:1: needs the column '{needed}', tab-separated. Its columns: {has}.")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    problems.append(f"{where}: expected {len(columns)} tab-separated columns.")
                elif label := row[column].strip():
                    labels[label] += 1
                    if any(accent.casefold() in label.casefold() for accent in accents):
                        yield _utterance(row, label, path.parent / "clips", lang, where)
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text ({error.reason}). Unpack the release again.") from None


def _utterance(row: dict[str, str], accent: str, clips: Path, lang: str, where: str) -> Utterance:
    extra = {"gender": row["gender"]} if row.get("gender") else {}
    text = strip_punctuation(row["sentence"])
    return Utterance(
        clips / row["path"], text, speaker=row["client_id"], accent=accent, lang=lang, extra=extra, where=where
    )


def _usable(utterances: Iterable[Utterance], problems: list[str]) -> Iterator[Utterance]:
    for utterance in utterances:
        if not utterance.text:
            problems.append(f"{utterance.where}: the sentence has no word.")
        elif not utterance.audio_filepath.is_file():
            problems.append(f"{utterance.where}: there is no clip '{utterance.audio_filepath}'.")
        else:
            yield utterance


def _require(
    found: object, rows: list[Utterance], accent: str, labels: Counter[str], path: Path, problems: list[str]
) -> None:
    if found:
        return
    if rows:
        why = problems[0] if problems else "all are of the target's speakers, or of sentences in train."
        raise InputError(f"'{path}' has {len(rows)} rows for '{accent}', but none of them can be used: {why}")
    there = ", ".join(f"{label} ({count})" for label, count in labels.most_common(20)) or "none"
    raise InputError(f"'{path}' has no accent that contains '{accent}'. The most frequent there, with rows: {there}.")


def _by_speaker(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    return speakers


def _share_out(
    speakers: dict[str, list[Utterance]], validation: float, test: float, accent: str, rng: random.Random
) -> dict[str, list[Utterance]]:
    """Whole speakers to each split: the most prolific trains, the others go where most is missing, if they fit."""
    shares = {"train": 1 - validation - test, "test": test, "validation": validation}
    wanted = [name for name, share in shares.items() if share > 0]
    if len(speakers) < len(wanted):
        raise InputError(
            f"'{accent}' has {len(speakers)} speakers with clips; {' and '.join(wanted)} need one each. "
            "Choose a more frequent accent, or set validation to 0."
        )
    order = sorted(speakers, key=lambda speaker: (-len(speakers[speaker]), speaker))
    parts: dict[str, list[Utterance]] = {name: [] for name in shares}
    for name in wanted:  # the largest to train; the smallest make sure that the others have someone
        parts[name] += speakers[order.pop(0 if name == "train" else -1)]
    rng.shuffle(order)
    total = sum(map(len, speakers.values()))
    for speaker in order:
        room = {name: shares[name] * total - len(parts[name]) for name in wanted}
        name = max(room, key=room.get)
        # A prolific speaker would swell a small split far over its share: who does not bring it nearer to that trains.
        parts[name if len(speakers[speaker]) <= 2 * room[name] else "train"] += speakers[speaker]
    return parts


def _part(speakers: dict[str, list[Utterance]], share: float, accent: str, seed: int) -> dict[str, list[Utterance]]:
    """A share of the speakers, drawn; at least one, and not all, where there is a share."""
    if share and len(speakers) == 1:
        raise InputError(
            f"'{accent}' has {len(speakers)} speaker with clips; source_test and source_train need one each."
        )
    count = min(max(round(share * len(speakers)), 1), len(speakers) - 1) if share and speakers else 0
    return {speaker: speakers[speaker] for speaker in random.Random(seed).sample(sorted(speakers), count)}


def _in_turn(speakers: dict[str, list[Utterance]], rng: random.Random) -> Iterator[Utterance]:
    """One utterance of each speaker, then a second of each, ...: the first few are of many people."""
    order = sorted(speakers)
    rng.shuffle(order)
    for turn in zip_longest(*(rng.sample(speakers[speaker], len(speakers[speaker])) for speaker in order)):
        yield from (utterance for utterance in turn if utterance is not None)
