"""The proof that an export answers as the model does: the target engine decodes the same examples, greedily."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import Answer, answer_text, greedy_answer
from adapt.formatting import counted
from adapt.models.model import Model
from adapt.progress import track

SHOWN = 3  # differences that a card shows


@dataclass(frozen=True)
class Engine:
    """A program that runs an export.

    Attributes:
        name: Its name and version, such as "CTranslate2 4.8.5".
        packages: The modules that it needs.
        start: Loads the export, and returns the function that answers an example.
        limit: The most tokens that the engine writes for one example; None for as many as the model.
        about: A sentence on how it reads the examples, if that is not as the model does.
    """

    name: str
    packages: tuple[str, ...]
    start: Callable[[], Callable[[Example], Answer]]
    limit: int | None = None
    about: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed."""
        return tuple(name for name in self.packages if find_spec(name) is None)


@dataclass(frozen=True)
class Proof:
    """What an engine answered.

    Attributes:
        engine: The name of the engine.
        examples: The number of examples.
        differences: For each answer that differs: the example, the model's answer, and the engine's.
        example_name: The task's word for an example.
        unproven: Why the engine was not run, and what to do about it; empty if it was.
        about: A sentence about the engine.
    """

    engine: str
    examples: int
    differences: Sequence[tuple[str, str, str]] = ()
    example_name: str = "utterance"
    unproven: str = ""
    about: str = ""

    @property
    def sentence(self) -> str:
        """What the proof says, for a card and a terminal."""
        if self.unproven:
            return f"Not proven with {self.engine}: {self.unproven}"
        same, what = self.examples - len(self.differences), counted(self.examples, self.example_name)
        said = f"{self.engine} gives the same tokens as the model for {same} of {what} (greedy decoding)."
        return f"{said} {self.about}" if self.about and self.differences else said


@dataclass(frozen=True)
class Written:
    """What the writer of a format says about its files.

    Attributes:
        library: The hub's name of the library that reads them.
        usage: A snippet that uses them, as Markdown.
        engines: The engines that are to prove them.
        notes: Sentences for the card: what was converted, and what a user must set.
        relation: How the hub calls the relation to the base: finetune, adapter or quantized.
    """

    library: str
    usage: str
    engines: Sequence[Engine]
    notes: Sequence[str] = field(default_factory=tuple)
    relation: str = "finetune"


def prove(model: Model, engines: Sequence[Engine], examples: Sequence[Example], why_none: str = "") -> list[Proof]:
    """Let each engine answer the examples, and compare its answers with the model's.

    Args:
        model: The model that was exported.
        engines: The engines. One whose packages are missing is not run; the proof says how to install them.
        examples: The examples that both answer.
        why_none: Why there are no examples, if there are none.

    Raises:
        InputError: an engine cannot run what was written.
    """
    runs = [engine for engine in engines if examples and not engine.missing]
    expected = [greedy_answer(model, one) for one in track(examples, "answering")] if runs else []
    proofs = []
    for engine in engines:
        if not examples:
            proofs.append(Proof(engine.name, 0, unproven=why_none or "there were no examples."))
        elif engine.missing:
            reason = f"{' and '.join(engine.missing)} is not installed. {_install(engine.missing)}"
            proofs.append(Proof(engine.name, 0, unproven=reason))
        else:
            proofs.append(_compared(model, engine, examples, expected))
    return proofs


def _install(missing: Sequence[str]) -> str:
    if "whisper" in missing:
        return "Install it with: pip install openai-whisper"
    return "Install it with: pip install 'innertune[export]'"


def _compared(model: Model, engine: Engine, examples: Sequence[Example], expected: Sequence[Answer]) -> Proof:
    try:
        answer = engine.start()
        answers = [answer(example) for example in track(examples, engine.name)]
    except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise InputError(f"{engine.name} cannot run what was written ({message}). Nothing was exported.") from error
    differences = []
    for example, ours, theirs in zip(examples, expected, answers, strict=True):
        cut = slice(engine.limit)
        if ours[cut] != theirs[cut]:
            differences.append((example.name, answer_text(model, ours), answer_text(model, theirs)))
    return Proof(engine.name, len(examples), tuple(differences), model.task.example_name, about=engine.about)
