"""The interface of a model, through which every command works with every family of models."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from adapt.data.example import Example, language_of
from adapt.data.loader import Reader
from adapt.data.text import lower_letters
from adapt.errors import InputError
from adapt.models.ctc import Emissions
from adapt.models.cut import Cut
from adapt.models.generation import GenerationOptions
from adapt.models.labels import Labels
from adapt.models.recipe import Recipe
from adapt.models.target_text import is_control
from adapt.models.task import Task
from interventions.sites import Layer, Site

InputKind = Literal["argument", "output", "embedding"]
Precision = Literal["32", "bf16", "16"]


class Model(nn.Module, ABC):
    """A speech recogniser or translation model that wraps a network from another library.

    `net` is the wrapped network; checkpoints hold its parameters and buffers. `reader` converts an example into the
    network's input. `task` has the loss, the decoding and the metrics. `recipe` says how to fine-tune the family.
    """

    net: nn.Module
    reader: Reader
    task: Task
    recipe: Recipe
    sample_rate: int = 0  # Hz; 0 for a model that reads text
    precision: Precision = "32"  # in which it answers (`adapt.models.devices`)

    @property
    def reads_audio(self) -> bool:
        """Whether the model reads waveforms; otherwise it reads text tokens."""
        return self.reader.unit == "seconds"

    @property
    def batched(self) -> bool:
        """Whether the network runs on a whole batch at once; otherwise it runs on one example at a time."""
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
        """The layers from input to output. Every parameter belongs to exactly one layer."""

    @property
    @abstractmethod
    def sites(self) -> list[Site]:
        """The default sites from input to output, each with its part of the model and the duration of its step.

        A forward pass calls the module of each site once, and its output is `(batch, units, time)` or
        `(batch, time, units)`.
        """

    @abstractmethod
    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return the number of valid steps of each example at a site; the steps after them are padding.

        `interventions.sites.length_mask` turns the result into a mask.

        Args:
            site: One of `sites`.
            lengths: `(batch,)`, the lengths of the inputs in samples or tokens, as in `Batch`.
            tokens: `(batch,)`, the number of tokens that a decoder reads; required for a decoder's sites.

        Returns:
            `(batch,)`, in steps of the site.
        """

    @abstractmethod
    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        """Return arguments of `forward` for one blank example of `length` samples or tokens.

        A decoder reads `tokens` tokens. Raises InputError if it cannot read that many.
        """

    @property
    @abstractmethod
    def cuts(self) -> list[Cut]:
        """The places, from input to output, at which the outputs of lower layers can be stored and replayed.

        During a replay (`adapt/training/prefix.py`), `forward` gets empty audio, `(batch, 0)`, with the true lengths.
        """

    @property
    @abstractmethod
    def head(self) -> str:
        """The name of the output layer."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The token or character of each output unit, in the order of the units."""

    @property
    @abstractmethod
    def never_trained(self) -> frozenset[str]:
        """The parameters that training cannot change, or that the model's authors keep fixed. Tunings skip them."""

    @abstractmethod
    def rejection_reason(self, example: Any, length: int, training: bool) -> str | None:
        """Return why an example of `length` samples or tokens cannot be read or trained on; None if it can."""

    @abstractmethod
    def target(self, example: Any) -> list[int]:
        """Return the output units of an example's text, in the language of the example, as training needs them.

        Raises InputError if the model has no output units for it.
        """

    @abstractmethod
    def unwritable(self, example: Any) -> list[str]:
        """Return the characters or tokens of an example's text that the model can never write."""

    @abstractmethod
    def set_augment(self, augment: nn.Module) -> None:
        """Augment features `(batch, features, time)` while training. Raises InputError if the model has none."""

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """Return how files describe the model, as JSON: its family (a module of `adapt.models`) and its options."""

    @abstractmethod
    def with_header(self, header: Mapping[str, Any]) -> "Model":
        """Return the model that a header of the same family describes, which may be this object itself.

        The caller then loads an adaptation's weights into it. Raises InputError if the header is invalid.
        """

    @abstractmethod
    def save_files(self, folder: Path) -> None:
        """Write the files that are needed besides the weights to load the model."""


def _lowered(example: Example) -> str:
    # An example's own language is only known here. What is in lower case stays so in any language.
    language = language_of(example)
    return example.text if language is None else lower_letters(example.text, language)


class CTCModel(Model):
    """A speech recogniser with a CTC output layer."""

    @property
    @abstractmethod
    def blank(self) -> int:
        """The index of the CTC blank among the output units."""

    @property
    def labels(self) -> Labels | None:
        """The alphabet, if the output layer can be rebuilt for another one; None if a tokenizer fixes it."""
        return None

    @abstractmethod
    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions:
        """Run the network.

        Args:
            audio: `(batch, samples)` in -1..1 at `sample_rate`, zero after each utterance's end.
            lengths: `(batch,)`, the number of samples of each utterance.

        Returns:
            The log-probabilities of the output units.
        """

    def target(self, example: Any) -> list[int]:
        return self.encode(_lowered(example))

    def unwritable(self, example: Any) -> list[str]:
        return self.missing(_lowered(example))

    @abstractmethod
    def missing(self, text: str) -> list[str]:
        """Return the characters of `text` that the model cannot write, sorted."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the output unit of each character. Raises InputError for a character outside the alphabet."""

    @abstractmethod
    def decode(self, path: Sequence[int]) -> str:
        """Return the text of a CTC path, one output unit per time step."""

    def with_labels(self, labels: Labels) -> "CTCModel":
        """Return this model with an output layer for another alphabet. Raises InputError if its alphabet is fixed."""
        raise InputError("The alphabet of this model is fixed by its tokenizer and cannot be changed.")


class DecoderModel(Model):
    """A model with an encoder, and a decoder that writes one token after another."""

    tokenizer: Any
    # Each maps what is written `(rows, tokens)` and the scores of the next token `(rows, vocabulary)` to new scores.
    logits_processors: Sequence[Any] = ()

    @property
    def _processing(self) -> dict[str, Any]:
        """The argument of the network's `generate` for `logits_processors`; nothing if there are none."""
        return {"logits_processor": [*self.logits_processors]} if self.logits_processors else {}

    def training_target(self, example: Any, length: int) -> list[int]:
        """Return the target tokens that an example is trained on, which may have timestamps.

        Args:
            example: The example.
            length: Its length as it is read, in samples or tokens. It does not change the number of tokens.
        """
        return self.target(example)

    @property
    def special_units(self) -> frozenset[int]:
        """The output units that are no text: the start and end, languages, tasks and times."""
        control = (unit for unit, token in enumerate(self.vocabulary) if is_control(token))
        return frozenset((*self.tokenizer.all_special_ids, *self.encode(""), *control))

    @abstractmethod
    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Run the network with teacher forcing: each target token is predicted from the reference tokens before it.

        Args:
            inputs: `(batch, samples)` in -1..1 at `sample_rate`, or `(batch, tokens)`.
            lengths: `(batch,)`, the number of samples or tokens of each example.
            targets: `(batch, tokens)`, the tokens of `encode`, and `adapt.models.seq2seq.IGNORED` after the last one.

        Returns:
            Logits `(batch, tokens, vocabulary)`.
        """

    @abstractmethod
    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Return the target tokens of a text, from the language token (if any) to the end token.

        The tokens are those that `generate` writes for this text. `language` is that of the text, if the model has
        several; None for the model's own.
        """

    @abstractmethod
    def generate(self, inputs: Tensor, lengths: Tensor, languages: Sequence[str | None] | None = None) -> list[str]:
        """Decode without a reference, greedily or with beams. Return one text per example.

        `languages` has the language of each example; None, also for a single example, for the model's own.
        """

    def confirmed_text(self, inputs: Tensor, lengths: Tensor, example: Any) -> str | None:
        """Return what `generate` writes for an example, if that is its text and one pass over the text proves it.

        Args:
            inputs: `(1, samples)` or `(1, tokens)`, as in `forward`.
            lengths: `(1,)`.
            example: The example, with the text that `generate` may write.

        Returns:
            None if `generate` writes another text, or if this pass cannot tell.
        """
        return None

    @property
    @abstractmethod
    def generation_arguments(self) -> dict[str, Any]:
        """The arguments of the network's own `generate` that differ from its generation config."""


class SpeechDecoderModel(DecoderModel):
    """A speech recogniser with a decoder.

    `multilingual` tells whether its language can be set. `timestamps` is the share of examples that are trained on
    targets with timestamps (`training_target`); it is 0 for models that have none.
    """

    generation_options: GenerationOptions
    multilingual: bool = False
    timestamps: float = 0.0

    @property
    def writes_timestamps(self) -> bool:
        """Whether the model can write timestamps, as Whisper does."""
        return False

    def language_for(self, language: str | None) -> str | None:
        """Return the code of an example's language, given its key "lang"; None if neither it nor the options have one.

        Raises InputError if the model does not have the language.
        """
        return self.generation_options.language if language is None else language

    @property
    def alignment_heads(self) -> list[tuple[int, int]] | None:
        """The heads `(layer, head)` of the decoder's cross-attention that follow the audio; None if unknown."""
        return None

    @property
    def own_language(self) -> str | None:
        """The language of what the model writes for examples without a language of their own; None if unknown."""
        return self.generation_options.language

    @property
    def spellings(self) -> tuple[tuple[str, str], ...] | None:
        """Pairs of a British and an American spelling in the model's files (normalizer.json); None without them."""
        known = getattr(self.tokenizer, "english_spelling_normalizer", None)
        return tuple(sorted(known.items())) if known else None

    def detect_languages(self, inputs: Tensor, lengths: Tensor) -> list[str]:
        """Return the code of the language that the model detects in each example, if it is `multilingual`."""
        raise InputError("This model does not detect languages.")

    @abstractmethod
    def set_generation(self, options: GenerationOptions) -> None:
        """Set how the model decodes from now on. Raises InputError if it does not support these options."""
