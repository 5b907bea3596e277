"""The outcome of a correction, as plain data and as text."""

from collections.abc import Sequence
from dataclasses import dataclass

from adapt.data.example import Example
from adapt.data.pairs import Pair


@dataclass(frozen=True)
class Outcome:
    """The outcome of one correction.

    Args:
        number: the number under which the correction is stored; None if it was refused or not needed.
        text: the corrected text, normalised.
        before: the model's answer before the correction.
        after: the model's answer now.
        refused: why the correction was refused, or "".
        override: whether it is stored as an output override, which edits no activations and only replaces this exact
            answer.
        touched: number of frames (or decoder positions) whose activations the correction changes.
        steps: number of frames (or decoder positions) of the input.
        size: root mean square of the change over the touched steps, relative to the scale of the layer's outputs.
        unit: "s" if the steps are frames of audio, "token" if they are positions of the source or of the answer.
        changed: number of the checked protected examples whose answer changed.
        checked: number of protected examples that were checked.
        itself: whether the corrected input is itself among the protected ones; it is not checked then.
        seconds: time taken to find and store the correction.
        bytes: size of the correction in the store.
        style: whether the text and the answer differ in style only, which is not corrected unless asked.
    """

    number: int | None
    text: str
    before: str
    after: str
    refused: str = ""
    override: bool = False
    touched: int = 0
    steps: int = 0
    size: float = 0.0
    unit: str = "s"
    changed: int = 0
    checked: int = 0
    itself: bool = False
    seconds: float = 0.0
    bytes: int = 0
    style: bool = False

    @property
    def fixed(self) -> bool:
        """Whether the model gives the corrected text with free decoding."""
        return self.after == self.text


def format_outcome(outcome: Outcome, example: Example, example_name: str) -> str:
    """Describe an outcome in a few lines of text.

    Args:
        outcome: the outcome.
        example: the corrected example.
        example_name: the task's word for an example, such as "utterance".
    """
    given = " ".join(example.text.split()) or outcome.text
    if outcome.refused and outcome.number is None:
        return f"Refused '{given}': {outcome.refused}"
    if outcome.style:
        return (
            f"'{given}' differs from the model's answer '{outcome.before}' in style only (punctuation, numbers, "
            "contractions or spelling), so there is nothing to fix. normalise=none corrects style too."
        )
    if outcome.number is None:
        case = " Upper and lower case are not compared." if example.text.lower() != example.text else ""
        return f"'{given}' is already the model's answer.{case if outcome.text.islower() else ''}"
    kind = "fixed" if outcome.fixed else "stored, but not fixed"
    if outcome.override:
        kind = "stored as an output override"
    lines = [f"Correction {outcome.number}: {kind}.", f"  before   {outcome.before}", f"  now      {outcome.after}"]
    if not outcome.override:
        steps = "positions" if isinstance(example, Pair) or outcome.unit == "token" else "frames"
        size = f"{outcome.size:.2f} of the layer's output scale"
        lines.append(f"  changed  {outcome.touched} of {outcome.steps} {steps}, by {size}")
    if outcome.checked:
        lines.append(
            f"  others   {outcome.changed} of {outcome.checked} protected {example_name}s have another answer now"
        )
    if outcome.itself:
        lines.append(f"  itself   this {example_name} is among the protected ones, and was left out of these")
    return "\n".join([*lines, f"  took     {outcome.seconds:.2f} s, {outcome.bytes / 1000:.1f} kB"])


def format_summary(outcomes: Sequence[Outcome]) -> str:
    """Summarise several outcomes in a sentence."""
    stored = [outcome for outcome in outcomes if outcome.number is not None]
    refused = sum(outcome.number is None and bool(outcome.refused) for outcome in outcomes)
    return (
        f"{len(outcomes)} corrections: {sum(outcome.fixed for outcome in stored)} fixed, {refused} refused, "
        f"{len(outcomes) - len(stored) - refused} already correct."
    )
