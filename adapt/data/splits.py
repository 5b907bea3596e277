"""Read splits from manifests, and check that a model can use the examples."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from adapt.checks import check_choice
from adapt.data.audio import AudioReader
from adapt.data.example import Example
from adapt.data.inputs import find_audio, is_bare_audio
from adapt.data.lengths import Check, lengths
from adapt.data.loader import Reader
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.data.notes import summarised
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.data.text import strip_punctuation
from adapt.errors import InputError
from adapt.files import resolved
from adapt.progress import track

OnError = Literal["stop", "skip"]
SPLITS = ("train", "validation", "test", "source_test", "source_train", "source_validation")
log = logging.getLogger(__name__)


class ChecksExamples(Protocol):
    """What the check of examples needs from a model."""

    @property
    def reader(self) -> Reader: ...

    @property
    def reads_audio(self) -> bool: ...

    def rejection_reason(self, example: Any, length: int, training: bool) -> str | None:
        """Return why the model cannot read (or train on) an example of `length` samples or tokens; None if it can."""
        ...


def read_splits(
    train: Path | str | None = None,
    validation: Path | str | None = None,
    test: Path | str | None = None,
    source_test: Path | str | None = None,
    source_train: Path | str | None = None,
    source_validation: Path | str | None = None,
    normalise: bool = False,
    audio_column: str | None = None,
    text_column: str | None = None,
    audio_folder: Path | str | None = None,
    labelled: bool = True,
) -> Splits:
    """Read splits of speech data in any format that `adapt.data.manifest.read_manifest` reads.

    Args:
        train: a file or folder, or None. The other arguments take the same.
        validation: recordings of the target on which the best epoch is selected.
        test: test recordings of the target.
        source_test: test recordings of the source, which the model should not forget.
        source_train: further recordings of the source, for replay and for comparing neurons.
        source_validation: further recordings of the source, on which a blend is chosen.
        normalise: whether to remove punctuation from the transcripts and lower-case them.
        audio_column: the column or key of the audio file, if it has none of the usual names or several could be it.
        text_column: the same for the text.
        audio_folder: the folder at which relative audio paths start; None for that of each file.
        labelled: whether the target's recordings need transcripts. If not, `train`, `validation` and `test` may also be
            folders of audio.

    Returns:
        The splits, with one sentence in `problems` for each line that cannot be used.

    Raises:
        InputError: a file cannot be used, or a validation or test recording is also in the training data.
    """
    paths = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    paths |= {"source_train": source_train, "source_validation": source_validation}
    parts: dict[str, Any] = {}
    problems: list[str] = []
    for name, path in paths.items():
        _check_path(name, path)
        chosen = audio_column, text_column, audio_folder
        needs_text = labelled or name.startswith("source")
        if path is None:
            utterances, bad_lines = [], []
        elif not needs_text and is_bare_audio(path, texts_wanted=name == "test"):
            utterances, bad_lines = find_audio([path], name)
        else:
            utterances, bad_lines = read_manifest(path, needs_text, *chosen)
        problems += bad_lines
        if normalise:
            utterances = [replace(u, text=strip_punctuation(u.text, language=u.lang)) for u in utterances]
            if needs_text:
                problems += [f"{u.where}: without punctuation the text is empty." for u in utterances if not u.text]
        parts[name] = tuple(u for u in utterances if u.text or not needs_text)
    held_out = (*parts["test"], *parts["source_test"], *parts["validation"], *parts["source_validation"])
    _check_overlap((*parts["train"], *parts["source_train"]), held_out)
    return Splits(**parts, problems=tuple(problems))


def _check_path(name: str, path: Any) -> None:
    if not isinstance(path, (str, Path, type(None))):
        given = f"a list of {len(path)}" if isinstance(path, Sequence) else repr(path)
        raise InputError(
            f"{name} must be one manifest, a .jsonl file; got {given}. Join several into one file. (Two text files of "
            "sentence pairs are for data=pairs.)"
        )


def _check_overlap(training: Sequence[Utterance], held_out: Sequence[Utterance]) -> None:
    if not held_out:
        return
    folder: Callable[[str], str] = cache(lambda path: os.path.realpath(path))  # there are few folders
    by_file: dict[str, list[Utterance]] = {}
    for utterance in training:
        by_file.setdefault(_real(utterance.audio_filepath, folder), []).append(utterance)
    for utterance in held_out:
        for other in by_file.get(_real(utterance.audio_filepath, folder), ()):
            if utterance.offset < _end(other) and other.offset < _end(utterance):
                raise InputError(
                    f"{utterance.where}: '{utterance.audio_filepath}' is also in the training data ({other.where}). "
                    "Remove it from one of them."
                )


def _real(path: Path, folder: Callable[[str], str]) -> str:
    # As `resolved`, but folders that many files share are resolved once.
    above, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):
        return str(resolved(path))
    try:
        return os.path.join(folder(above), name)
    except (OSError, ValueError):
        return str(resolved(path))


def _end(utterance: Utterance) -> float:
    return float("inf") if utterance.duration is None else utterance.offset + utterance.duration


def check_splits(
    splits: Splits,
    model: ChecksExamples,
    on_error: OnError = "stop",
    speeds: Sequence[float] = (1.0,),
    labelled: bool = True,
    check: Check = "full",
    long_tests: bool = False,
) -> tuple[Splits, list[str]]:
    """Check that a model can read all examples, and can train on those of the training and validation splits.

    Args:
        splits: the examples.
        model: the model that should read them.
        on_error: what to do about unusable examples: "stop" or "skip".
        speeds: the speeds of perturbation at which the training examples will be read (`check_examples`).
        labelled: whether `train` and `validation` must have texts that the model can learn.
        check: "full" decodes every recording. "headers" reads only the headers of `train` and `source_train`, and what
            is damaged inside of a file is found in training. The others are decoded, unless an earlier run did so and
            the file has not changed.
        long_tests: whether test recordings may be longer than the model reads at once (`check_examples`).

    Returns:
        The splits with the usable examples only, and one sentence for each example that was skipped.

    Raises:
        InputError: an example is unusable and `on_error` is "stop", a split has no usable example, or the data are
            recordings but the model reads text, or the other way round.
    """
    check_choice("check", check, ("headers", "full"))
    for example in (example for name in SPLITS for example in getattr(splits, name)):
        if isinstance(example, Pair) == model.reads_audio:
            if model.reads_audio:
                given, reads, others = "sentence pairs", "audio", "manifest, or a corpus of speech"
            else:
                given, reads, others = "recordings", "text", "pairs, hf_pairs or domains"
            raise InputError(f"The data are {given}, but the model reads {reads}. Give other data: data={others}.")
    stop_or_skip(splits.problems, on_error)
    parts: dict[str, Any] = {}
    skipped = list(splits.problems)
    for name in SPLITS:
        examples = getattr(splits, name)
        training = name.startswith("source_") or labelled
        training = training and name not in ("test", "source_test")
        drawn = speeds if training and name in ("train", "source_train") else (1.0,)
        own = check if name in ("train", "source_train") else "full"
        long = long_tests and name in ("test", "source_test")
        parts[name], problems = check_examples(examples, model, training, name, drawn, own, check == "headers", long)
        stop_or_skip(problems, on_error)
        skipped += problems
        if examples and not parts[name]:
            raise InputError(f"The {name} data have no usable example: all {len(examples)} were rejected.")
    if skipped:
        log.warning("Skipped %d examples, the first: %s", len(skipped), skipped[0])
    return Splits(**parts), skipped


def check_examples(
    examples: Sequence[Example],
    model: ChecksExamples,
    training: bool,
    name: str = "audio",
    speeds: Sequence[float] = (1.0,),
    check: Check = "full",
    recall: bool = False,
    any_length: bool = False,
) -> tuple[tuple[Example, ...], list[str]]:
    """Measure every example, and separate the usable ones from the others.

    Faster speech has fewer steps for its text, and slower speech can be too long for the model. An utterance that does
    not fit at some of `speeds` keeps those at which it does in `speeds`, and the loader draws from these only. It must
    fit at speed 1 and at one of `speeds`.

    Args:
        examples: the examples to check.
        model: the model that should read them.
        training: whether the model must be able to train on them, which also depends on the reference texts.
        name: the label of the progress bar.
        speeds: the speeds of perturbation at which they will be read.
        check: "full" decodes the recordings, and "headers" reads their headers only (`adapt.data.lengths`).
        recall: whether "full" may recall what an earlier run decoded.
        any_length: whether recordings may be longer than the model's window. They are read in pieces
            (`adapt.transcription.any_length`).

    Returns:
        The usable examples, and one sentence for each of the others.
    """
    usable: list[Example] = []
    problems: list[str] = []
    limited: list[str] = []
    measured = lengths(examples, model.reader, check, recall)
    with summarised(), closing(measured):
        for example in track(examples, f"checking {name}"):
            length = next(measured)
            try:
                if isinstance(length, InputError):
                    raise length
                own = _within_window(example, length, model.reader) if any_length else length
                reason = model.rejection_reason(example, own, training)
            except InputError as error:
                problems.append(str(error))
                continue
            place = example.where or example.name
            if reason is not None:
                problems.append(f"{place}: {reason}")
                continue
            fitting, reason = _fit_speeds(example, length, model, training, speeds)
            if not fitting:
                problems.append(f"{place}: {reason} It fits at speed 1: add 1.0 to the speeds.")
                continue
            if reason is not None and isinstance(example, (Utterance, Recording)):
                limited.append(f"{place}: {reason}")
                example = replace(example, speeds=fitting)
            usable.append(example)
    if limited:
        log.warning(
            "%d of %d examples of %s do not fit the model at all speeds, and are not drawn at the others. The first: "
            "%s", len(limited), len(examples), name, limited[0],
        )  # fmt: skip
    return tuple(usable), problems


def _within_window(example: Example, length: int, reader: Reader) -> int:
    """Return a length, or that of the model's window for a recording that lasts longer and is read in pieces."""
    if not isinstance(reader, AudioReader) or reader.window is None:
        return length
    if not isinstance(example, (Utterance, Recording)):
        return length
    return int(reader.window * reader.sample_rate) if reader.length(example) > reader.window else length


def _fit_speeds(
    example: Example, length: int, model: ChecksExamples, training: bool, speeds: Sequence[float]
) -> tuple[tuple[float, ...], str | None]:
    # Returns the speeds at which an example of `length` samples fits, and why it does not fit at one of the others.
    reader = model.reader
    if not isinstance(reader, AudioReader) or all(speed == 1 for speed in speeds):
        return tuple(speeds), None

    def reason_at(speed: float) -> str | None:
        return model.rejection_reason(example, reader.length_at(length, speed), training)

    ends = min(speeds), max(speeds)
    unfit = {speed: reason for speed in ends if (reason := reason_at(speed)) is not None}
    if not unfit:  # what fits at the fastest and at the slowest speed also fits between them
        return tuple(speeds), None
    fitting = tuple(speed for speed in speeds if speed not in unfit and reason_at(speed) is None)
    speed = max(unfit, key=lambda one: abs(one - 1))
    return fitting, f"at speed {speed:g}, {unfit[speed]}"


def stop_or_skip(problems: Sequence[str], on_error: OnError, option: str | None = "data.on_error") -> None:
    """Raise InputError with the first few problems, if there are any and `on_error` is "stop".

    The message names `option`, with which the user can skip unusable examples; None if there is no such option.
    """
    check_choice("on_error", on_error, ("stop", "skip"))
    if problems and on_error == "stop":
        more = f"\n... and {len(problems) - 5} more." if len(problems) > 5 else ""
        advice = f"\nCorrect {'this' if len(problems) == 1 else 'these'}"
        advice += "." if option is None else f", or skip what cannot be used with {option}=skip."
        raise InputError("\n".join(problems[:5]) + more + advice)
