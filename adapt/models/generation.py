"""How a speech encoder-decoder decodes: the options a user can set, and their form in file headers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from adapt.checks import check_count
from adapt.data.text import strip_punctuation
from adapt.errors import InputError


@dataclass(frozen=True)
class GenerationOptions:
    """How a speech encoder-decoder decodes.

    Args:
        language: The language of the output. None lets Whisper detect it; models of one language need none.
        task: "transcribe", or for Whisper "translate" (to English).
        beams: The number of beams; 1 is greedy decoding.
        normalise: Whether to remove punctuation from the output.

    Raises:
        InputError: `beams` is not a whole number of at least 1.
    """

    language: str | None = None
    task: str = "transcribe"
    beams: int = 1
    normalise: bool = False

    def __post_init__(self) -> None:
        check_count("beams", self.beams, 1)

    def texts(self, tokenizer: Any, tokens: Tensor) -> list[str]:
        """Return the texts of generated `tokens` `(batch, tokens)`, without special tokens."""
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [strip_punctuation(text) if self.normalise else text.strip() for text in texts]

    def header(self, net: nn.Module) -> dict[str, Any]:
        """Return the header of a network that decodes with these options (`adapt.models.model.Model.header`)."""
        return {"family": "hf_speech_seq2seq", "architecture": type(net).__name__, "generation": asdict(self)}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "GenerationOptions":
        """Return the options of a header. Raises InputError if they are missing or invalid."""
        try:
            # Version 1 stored them as "writing".
            return cls(**(header["generation"] if "generation" in header else header["writing"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"The header has no valid generation options ({type(error).__name__}: {error}).") from None
