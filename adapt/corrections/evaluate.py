"""Check whether the stored corrections of a model still hold."""

from dataclasses import dataclass

from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.same_input import without_inputs
from adapt.corrections.stored import example_of
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.models.encoder_cache import cached_encoder
from adapt.models.inference import decode_examples


@dataclass(frozen=True)
class MemoryEvaluation:
    """Whether stored corrections still hold.

    Args:
        numbers: numbers of the corrections whose input still exists.
        held: for each of these, whether the model gives the corrected text if the input is decoded alone.
        held_in_batches: the same if the inputs are decoded in batches.
        protected: number of protected examples that were decoded, which are not corrected themselves.
        protected_unchanged: number of protected examples with the same answer as without corrections.
    """

    numbers: tuple[int, ...]
    held: tuple[bool, ...]
    held_in_batches: tuple[bool, ...]
    protected: int
    protected_unchanged: int


def evaluate_memory(memory: ModelMemory) -> MemoryEvaluation:
    """Decode the inputs of all corrections with the corrections, and the protected examples with and without them.

    Inputs whose audio no longer exists, or which a store without names and paths does not know, are skipped.

    Raises:
        InputError: If no correction has an input that still exists.
    """
    model = memory.model
    known = [(record, example_of(record.facts)) for record in memory.records()]
    records = [record for record, example in known if example is not None]
    if not records:
        raise InputError("There is no correction whose input still exists.")
    examples = [example for _, example in known if example is not None]
    texts = [record.facts["text"] for record in records]
    protected = without_inputs(model, memory.protected_examples(), examples)

    def held(loader: Loader) -> tuple[bool, ...]:
        answers = decode_examples(model, model.task, examples, loader)
        return tuple(model.task.normalise(one) == text for one, text in zip(answers, texts, strict=True))

    with memory.on():
        batched = held(Loader())  # without the cache, which would run the encoder on one input at a time
    with cached_encoder(model):
        with memory.on():
            alone = held(Loader(batch_seconds=0, batch_tokens=0))
            answers = decode_examples(model, model.task, protected, Loader())
        unmodified = decode_examples(model, model.task, protected, Loader())
    return MemoryEvaluation(
        numbers=tuple(record.number for record in records),
        held=alone,
        held_in_batches=batched,
        protected=len(protected),
        protected_unchanged=sum(one == other for one, other in zip(answers, unmodified, strict=True)),
    )


def format_evaluation(found: MemoryEvaluation) -> list[str]:
    """Describe an evaluation, a sentence per line."""
    lines: list[str] = []
    for held, how in ((found.held, "alone"), (found.held_in_batches, "in batches")):
        lost = [number for number, holds in zip(found.numbers, held, strict=True) if not holds]
        more = f"; lost: {', '.join(map(str, lost))}" if lost else ""
        lines.append(f"{sum(held)} of {len(held)} corrections hold, decoded {how}{more}.")
    if found.protected:
        lines.append(f"{found.protected_unchanged} of {found.protected} protected answers are unchanged.")
    return lines
