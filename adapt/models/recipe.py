"""How to fine-tune each family of models where the user says nothing: rate, schedule, batches, number of epochs.

A recipe holds for whatever data come, so it is careful rather than best. Its rates belong to AdamW and fall with the
size of the network, as those of the models' own authors do: Whisper's peak rates fall from 1.5e-3 (tiny) to 1.75e-4
(large), about as the square root of the number of weights (Radford et al. 2022, table 17).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]  # how the learning rate falls after the warm-up
# What trains: whole weight matrices, some of their rows, added factors, only biases or norms, or an own output layer.
Kind = Literal["weights", "rows", "factors", "vectors", "head"]

_SCRATCH, _SCRATCH_WEIGHTS = 2e-3, 1_500_000  # the rate for random weights, and up to which number of weights


@dataclass(frozen=True)
class Recipe:
    """The options of training that a family of models brings.

    Attributes:
        family: What messages call the family.
        size: The number of weights up to which the rates hold. Larger networks get lower ones.
        weights: The highest learning rate if whole weight matrices train.
        rows: The same if only some rows of them train (`tuning=neurons`).
        factors: The same for added factors (`tuning=lora` and `peft`).
        vectors: The same if only biases or norms train.
        head: The same if only an output layer trains that is a small part of the network.
        epochs: The least number of epochs.
        most_epochs: The largest number of epochs.
        examples: The number of examples to read in all epochs together, for data that are few: 20 utterances need more
            epochs than 2,000.
        schedule: How the learning rate falls after the warm-up.
        warmup: The share of all steps in which the learning rate rises.
        scratch_warmup: The same for a network with random weights.
        speeds: The factors of speed perturbation.
        batch_tokens: The largest padded length of a batch of text, in tokens.
    """

    family: str
    size: int
    weights: float
    rows: float
    factors: float
    vectors: float
    head: float
    epochs: int
    most_epochs: int
    examples: int = 0
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    scratch_warmup: float = 0.1
    speeds: tuple[float, ...] = (1.0,)
    batch_tokens: int = 1000

    def learning_rate(self, kind: Kind, size: int) -> float:
        """Return the highest learning rate for a network of `size` weights, with two significant digits.

        It falls as the square root of the size for whole weights and rows. Few added or chosen numbers are less
        sensitive to the size; their rate falls as its fourth root.
        """
        power = 0.5 if kind in ("weights", "rows") else 0.25
        return _rounded(getattr(self, kind) * min(1.0, self.size / max(size, 1)) ** power)

    def number_of_epochs(self, examples: int) -> int:
        """Return the number of epochs for this many training examples."""
        return min(self.most_epochs, max(self.epochs, math.ceil(self.examples / max(examples, 1))))


def scratch_rate(size: int) -> float:
    """Return the highest learning rate of Adam for a network of `size` random weights, with two significant digits."""
    return _rounded(_SCRATCH * min(1.0, _SCRATCH_WEIGHTS / max(size, 1)) ** 0.5)


def _rounded(rate: float) -> float:
    return float(f"{rate:.1e}")


_PERTURBED = (0.88, 0.94, 1.0, 1.06, 1.12)

WAV2LETTER = Recipe(
    "Wav2Letter", 1_500_000, weights=1e-3, rows=3e-3, factors=3e-3, vectors=3e-3, head=3e-3, epochs=10, most_epochs=10,
    scratch_warmup=0.05, speeds=_PERTURBED,
)  # fmt: skip
# wav2vec2, HuBERT, WavLM and the like: sizes as of wav2vec2-base.
CTC_TRANSFORMER = Recipe(
    "CTC transformers", 95_000_000, weights=3e-5, rows=1e-4, factors=5e-4, vectors=5e-4, head=1e-3, epochs=5,
    most_epochs=20, examples=1500, speeds=_PERTURBED,
)  # fmt: skip
# Whisper and the like: sizes as of Whisper tiny.
SPEECH_DECODER = Recipe(
    "speech encoder-decoders", 38_000_000, weights=2e-5, rows=1e-4, factors=1e-3, vectors=1e-3, head=1e-3, epochs=3,
    most_epochs=10, examples=200,
)  # fmt: skip
# Marian, NLLB, M2M100, mBART: sizes as of opus-mt.
TRANSLATION = Recipe(
    "translation models", 75_000_000, weights=5e-5, rows=2e-4, factors=5e-4, vectors=5e-4, head=5e-4, epochs=3,
    most_epochs=10, examples=3000,
)  # fmt: skip
# T5 has larger activations and smaller gradients, so its authors and users train it at higher rates.
T5 = replace(TRANSLATION, family="T5", weights=1e-4, rows=3e-4)
# Models of a few million weights, which have seen one domain only.
SMALL_TRANSLATION = Recipe(
    "small translation models", 5_000_000, weights=2e-3, rows=3e-3, factors=5e-3, vectors=5e-3, head=3e-3, epochs=25,
    most_epochs=25, batch_tokens=250,
)  # fmt: skip
