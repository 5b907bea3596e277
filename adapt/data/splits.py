"""From manifests to splits that suit the model: what does not is named, and stops the run or is skipped."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from adapt.data.example import Example
from adapt.data.loader import Reader
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.data.pairs import Pair
from adapt.data.text import strip_punctuation
from adapt.errors import InputError
from adapt.progress import track

OnError = Literal["stop", "skip"]
log = logging.getLogger(__name__)


class Fits(Protocol):
    """What the check asks of a model."""

    @property
    def reader(self) -> Reader: ...

    def rejection_reason(self, example: Any, length: int, training: bool) -> str | None:
        """Why an example of that many samples or tokens cannot be read (or trained on); None where it can."""


def read_splits(
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    source_test: str | None = None,
    source_train: str | None = None,
    normalise: bool = False,
) -> Splits:
    """Read the manifests that are given. `normalise` drops punctuation from the texts.

    Raises:
        InputError: a file cannot be used, or train and test share a recording.
    """
    paths = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    paths |= {"source_train": source_train}
    parts, problems = {}, []
    for name, path in paths.items():
        utterances, found = read_manifest(path) if path is not None else ([], [])
        problems += found
        if normalise:
            utterances = [replace(u, text=strip_punctuation(u.text)) for u in utterances]
            problems += [f"{u.where}: without punctuation the text is empty." for u in utterances if not u.text]
        parts[name] = tuple(u for u in utterances if u.text)
    trained: dict[Path, list[Utterance]] = {}
    for utterance in (*parts["train"], *parts["source_train"]):
        trained.setdefault(utterance.audio_filepath.resolve(), []).append(utterance)
    for utterance in (*parts["test"], *parts["source_test"], *parts["validation"]):
        for other in trained.get(utterance.audio_filepath.resolve(), ()):
            if utterance.offset < _end(other) and other.offset < _end(utterance):
                raise InputError(
                    f"{utterance.where}: '{utterance.audio_filepath}' is also trained on ({other.where}). "
                    "Keep what is measured out of training."
                )
    return Splits(**parts, problems=tuple(problems))


def _end(utterance: Utterance) -> float:
    return float("inf") if utterance.duration is None else utterance.offset + utterance.duration


def check_splits(splits: Splits, model: Fits, on_error: OnError = "stop") -> tuple[Splits, list[str]]:
    """Check all splits; what is trained on must suit the loss as well. Returns what is left and what was skipped.

    Raises:
        InputError: something is unfit and `on_error` is "stop", nothing is left of a split, or the data are recordings
            and the model translates, or the other way round.
    """
    reads_text = model.reader.unit == "tokens"
    names = ("train", "validation", "test", "source_test", "source_train")
    for example in (example for name in names for example in getattr(splits, name)):
        if isinstance(example, Pair) != reads_text:
            given, reads = ("recordings", "text") if reads_text else ("sentence pairs", "audio")
            others = "pairs, hf_pairs or domains" if reads_text else "manifest, or a corpus of speech"
            raise InputError(f"The data are {given}, and the model reads {reads}. Give other data: data={others}.")
    report(splits.problems, on_error)
    parts, skipped = {}, list(splits.problems)
    for name in names:
        examples, problems = getattr(splits, name), []
        parts[name] = check(examples, model, name in ("train", "validation", "source_train"), problems, name)
        report(problems, on_error)
        skipped += problems
        if examples and not parts[name]:
            raise InputError(f"Nothing is left of the {name} data: every one of {len(examples)} examples was unfit.")
    if skipped:
        log.warning("Skipped %d examples, the first: %s", len(skipped), skipped[0])
    return Splits(**parts), skipped


def check(
    examples: Sequence[Example], model: Fits, training: bool, problems: list[str], name: str = "audio"
) -> tuple[Example, ...]:
    """Read every example once, and return those that can be used; a sentence on each other one goes to `problems`."""
    fit = []
    for example in track(examples, f"checking {name}"):
        try:
            length = len(model.reader.read(example))
            reason = model.rejection_reason(example, length, training)
        except InputError as error:
            problems.append(str(error))
            continue
        if reason is None:
            fit.append(example)
        else:
            problems.append(f"{example.where or example.name}: {reason}")
    return tuple(fit)


def report(problems: Sequence[str], on_error: OnError, option: str = "data.on_error") -> None:
    """Raise InputError for the problems found, unless they are to be skipped; `option` is how a user asks for that."""
    if on_error not in ("stop", "skip"):
        raise InputError(f"on_error must be 'stop' or 'skip', got {on_error!r}.")
    if problems and on_error == "stop":
        more = f"\n... and {len(problems) - 5} more." if len(problems) > 5 else ""
        raise InputError(
            "\n".join(problems[:5]) + f"{more}\nCorrect {'this' if len(problems) == 1 else 'these'}, "
            f"or go on without by {option}=skip."
        )
