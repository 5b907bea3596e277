"""What a model must say of itself, so that every command works on every family."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from adapt.data.loader import Reader
from adapt.errors import InputError
from adapt.models.ctc import Emissions
from adapt.models.cut import Cut
from adapt.models.generation import GenerationOptions
from adapt.models.labels import Labels
from adapt.models.task import Task
from interventions.sites import Layer, Site

InputKind = Literal["argument", "output", "embedding"]


class Model(nn.Module, ABC):
    """A recogniser or translation model around a network that someone else wrote: from waveforms or text to text.

    `net` is the network itself; its parameters and buffers are what checkpoints hold. `reader` makes of an example what
    the network reads. `task` is how it learns, answers and is judged; what the task's functions ask of a model stands
    with them (`adapt/models/ctc.py`, `adapt/models/seq2seq.py`).
    """

    net: nn.Module
    reader: Reader
    task: Task
    sample_rate: int = 0  # Hz; 0 for a model that reads text

    @property
    def reads_audio(self) -> bool:
        """Whether the model reads waveforms; otherwise it reads tokens of text."""
        return self.reader.unit == "seconds"

    @property
    def batched(self) -> bool:
        """Whether the network runs on a whole batch at once; otherwise on one example after another."""
        return True

    @property
    def input_module(self) -> tuple[nn.Module, InputKind]:
        """The module whose argument or output is the input that attributions refer to."""
        return self.net, "argument"

    def band_frequencies(self, bands: int) -> tuple[float, ...] | None:
        """Return the centre frequency in Hz of each of `bands` input features; None if they are not mel bands."""
        return None

    @property
    @abstractmethod
    def layers(self) -> list[Layer]:
        """The layers in order from input to output; every parameter is in exactly one."""

    @property
    @abstractmethod
    def sites(self) -> list[Site]:
        """The sites that one looks at by default, from input to output, each with its part and its step.

        Each is called once in a forward pass, and puts out `(batch, units, time)` or `(batch, time, units)`.
        """

    @abstractmethod
    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        """How many steps of one of `sites` are each example's own, `(batch,)`; what lies behind them is padding.

        `lengths` `(batch,)` are the examples' in samples or tokens, as in `Batch`; `tokens` `(batch,)` how many a
        decoder reads of each, needed where the site is a decoder's. `interventions.sites.length_mask` makes a mask of it.
        """

    @abstractmethod
    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        """Arguments of `forward` that say nothing: one example of that many samples or tokens, and so many tokens for
        a decoder to read. Raises InputError where a decoder cannot read that many.
        """

    @property
    @abstractmethod
    def cuts(self) -> list[Cut]:
        """Where what the lower layers put out can be stored and replayed, from input to output; see `adapt/training/prefix.py`.

        Where that is done `forward` is given audio of no samples, `(batch, 0)`, and the lengths as ever.
        """

    @property
    @abstractmethod
    def head(self) -> str:
        """The name of the layer that makes the output units."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """What each output unit stands for, in the units' order."""

    @property
    @abstractmethod
    def never_trained(self) -> frozenset[str]:
        """Parameters that no step would change, or that their authors keep fixed; a tuning does not count them."""

    @abstractmethod
    def rejection_reason(self, example: Any, length: int, training: bool) -> str | None:
        """Why an example of that many samples or tokens cannot be read, or trained on; None where it can."""

    @abstractmethod
    def set_augment(self, augment: nn.Module) -> None:
        """Augment features `(batch, features, time)` while training. Raises InputError where there are none."""

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """What files say of the model, as JSON: its family (the module in `adapt.models`) and what tells it apart."""

    @abstractmethod
    def with_header(self, header: Mapping[str, Any]) -> "Model":
        """The model of the same family that a header describes, to be filled with an adaptation's weights.

        It may be this very object. Raises InputError where the header does not describe one.
        """

    @abstractmethod
    def save_files(self, folder: Path) -> None:
        """Write what must lie beside the weights to load them, if the header does not say it all."""


class CTCModel(Model):
    """A speech recogniser whose `forward(audio, lengths)` returns `Emissions` (`adapt/models/ctc.py`).

    `blank` is the output unit that writes nothing. `labels` is the alphabet of a model whose output layer can be rebuilt
    for another one, and None if a tokenizer fixes it.
    """

    blank: int
    labels: Labels | None = None

    @abstractmethod
    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions: ...

    @abstractmethod
    def missing(self, text: str) -> list[str]:
        """Return the characters of `text` that the model cannot write."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the output unit of each character. Raises InputError for a character outside the alphabet."""

    @abstractmethod
    def decode(self, path: Sequence[int]) -> str:
        """Return the text of a path of one output unit per time step."""

    def with_labels(self, labels: Labels) -> "CTCModel":
        """Return this model with an output layer for another alphabet. Raises InputError if its alphabet is fixed."""
        raise InputError("This model writes what its tokenizer does: its alphabet cannot be changed.")


class DecoderModel(Model):
    """A model with a decoder: `forward(inputs, lengths, targets)` returns logits `(batch, tokens, vocabulary)`."""

    tokenizer: Any

    @abstractmethod
    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the target tokens of a text, from the language token (if any) to the end token."""

    @abstractmethod
    def generate(self, inputs: Tensor, lengths: Tensor) -> list[str]:
        """Decode freely. Returns one text per example."""


class SpeechDecoderModel(DecoderModel):
    """A speech recogniser with a decoder. `multilingual` tells whether it can be told which language to write."""

    generation_options: GenerationOptions
    multilingual: bool = False

    @abstractmethod
    def set_generation(self, options: GenerationOptions) -> None:
        """Set how the model decodes from now on. Raises InputError if it cannot."""
