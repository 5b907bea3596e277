"""Find protected examples that are corrected themselves: a correction must not be judged against its own input."""

from collections.abc import Sequence

import torch

from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.model import Model

_CLOSE = 0.05  # seconds by which the durations of the same audio may differ, as manifests round them


def without_inputs(model: Model, protected: Sequence[Example], corrected: Sequence[Example]) -> list[Example]:
    """Return the protected examples whose input is not that of a corrected example.

    Args:
        model: The model, whose reader reads the inputs.
        protected: Protected examples.
        corrected: Examples that are corrected.
    """
    return [one for one in protected if not any(same_input(model, one, other) for other in corrected)]


def same_input(model: Model, one: Example, other: Example) -> bool:
    """Return whether two examples have the same sentence, parts of the same file that overlap, or the same audio."""
    if isinstance(one, Pair) or isinstance(other, Pair):
        return isinstance(one, Pair) and isinstance(other, Pair) and one.source.split() == other.source.split()
    if isinstance(one, Utterance) and isinstance(other, Utterance) and _is_one_file(one, other):
        return _end(one) > other.offset and _end(other) > one.offset
    try:
        if abs(model.reader.length(one) - model.reader.length(other)) > _CLOSE:
            return False
        return torch.equal(model.reader.read(one), model.reader.read(other))
    except InputError:  # one cannot be read, which is reported where it is used
        return False


def _is_one_file(one: Utterance, other: Utterance) -> bool:
    return one.audio_filepath.absolute() == other.audio_filepath.absolute()


def _end(utterance: Utterance) -> float:
    return float("inf") if utterance.duration is None else utterance.offset + utterance.duration
