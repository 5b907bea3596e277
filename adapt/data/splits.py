"""Read splits from manifests, and check that a model can use the examples."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from adapt.checks import check_choice
from adapt.data.example import Example
from adapt.data.loader import Reader
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.data.pairs import Pair
from adapt.data.text import strip_punctuation
from adapt.errors import InputError
from adapt.progress import track

OnError = Literal["stop", "skip"]
SPLITS = ("train", "validation", "test", "source_test", "source_train")
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
    normalise: bool = False,
) -> Splits:
    """Read splits from manifests (`adapt.data.manifest`).

    Args:
        train: a manifest, or None. The other arguments take the same.
        validation: recordings of the target on which the best epoch is selected.
        test: test recordings of the target.
        source_test: test recordings of the source, which the model should not forget.
        source_train: further recordings of the source, for replay and for comparing neurons.
        normalise: whether to remove punctuation from the transcripts and lower-case them.

    Returns:
        The splits, with one sentence in `problems` for each line that cannot be used.

    Raises:
        InputError: a file cannot be used, or a validation or test recording is also in the training data.
    """
    paths = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    paths |= {"source_train": source_train}
    parts: dict[str, Any] = {}
    problems: list[str] = []
    for name, path in paths.items():
        _check_path(name, path)
        utterances, bad_lines = read_manifest(path) if path is not None else ([], [])
        problems += bad_lines
        if normalise:
            utterances = [replace(u, text=strip_punctuation(u.text)) for u in utterances]
            problems += [f"{u.where}: without punctuation the text is empty." for u in utterances if not u.text]
        parts[name] = tuple(u for u in utterances if u.text)
    held_out = (*parts["test"], *parts["source_test"], *parts["validation"])
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
    by_file: dict[Path, list[Utterance]] = {}
    for utterance in training:
        by_file.setdefault(utterance.audio_filepath.resolve(), []).append(utterance)
    for utterance in held_out:
        for other in by_file.get(utterance.audio_filepath.resolve(), ()):
            if utterance.offset < _end(other) and other.offset < _end(utterance):
                raise InputError(
                    f"{utterance.where}: '{utterance.audio_filepath}' is also in the training data ({other.where}). "
                    "Remove it from one of them."
                )


def _end(utterance: Utterance) -> float:
    return float("inf") if utterance.duration is None else utterance.offset + utterance.duration


def check_splits(splits: Splits, model: ChecksExamples, on_error: OnError = "stop") -> tuple[Splits, list[str]]:
    """Check that a model can read all examples, and can train on those of the training and validation splits.

    Returns:
        The splits with the usable examples only, and one sentence for each example that was skipped.

    Raises:
        InputError: an example is unusable and `on_error` is "stop", a split has no usable example, or the data are
            recordings but the model reads text, or the other way round.
    """
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
        training = name in ("train", "validation", "source_train")
        parts[name], problems = check_examples(examples, model, training, name)
        stop_or_skip(problems, on_error)
        skipped += problems
        if examples and not parts[name]:
            raise InputError(f"The {name} data have no usable example: all {len(examples)} were rejected.")
    if skipped:
        log.warning("Skipped %d examples, the first: %s", len(skipped), skipped[0])
    return Splits(**parts), skipped


def check_examples(
    examples: Sequence[Example], model: ChecksExamples, training: bool, name: str = "audio"
) -> tuple[tuple[Example, ...], list[str]]:
    """Read every example once, and separate the usable ones from the others.

    Args:
        examples: the examples to check.
        model: the model that should read them.
        training: whether the model must be able to train on them, which also depends on the reference texts.
        name: the label of the progress bar.

    Returns:
        The usable examples, and one sentence for each of the others.
    """
    usable: list[Example] = []
    problems: list[str] = []
    for example in track(examples, f"checking {name}"):
        try:
            length = len(model.reader.read(example))
            reason = model.rejection_reason(example, length, training)
        except InputError as error:
            problems.append(str(error))
            continue
        if reason is None:
            usable.append(example)
        else:
            problems.append(f"{example.where or example.name}: {reason}")
    return tuple(usable), problems


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
