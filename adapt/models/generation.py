"""How a speech encoder-decoder writes, as a user may ask for it, and as files say it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from adapt.checks import check_count
from adapt.data.text import strip_punctuation
from adapt.errors import InputError


@dataclass(frozen=True)
class GenerationOptions:
    """How a model writes: in which language (None: detected by Whisper, and where there is one only), whether it
    transcribes or translates to English (Whisper alone is told), by how many beams, and whether punctuation is dropped
    from the answers.

    Raises:
        InputError: `beams` is no number of beams.
    """

    language: str | None = None
    task: str = "transcribe"
    beams: int = 1
    normalise: bool = False

    def __post_init__(self) -> None:
        check_count("beams", self.beams, 1)

    def texts(self, tokenizer: Any, tokens: Tensor) -> list[str]:
        """The answers that `tokens` `(batch, tokens)` spell, special ones left out."""
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [strip_punctuation(text) if self.normalise else text.strip() for text in texts]

    def header(self, net: nn.Module) -> dict[str, Any]:
        """By what the files of a network that writes so name it (`adapt.models.model.Model.header`)."""
        return {"family": "hf_speech_seq2seq", "architecture": type(net).__name__, "writing": asdict(self)}

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "GenerationOptions":
        """What `header` says. Raises InputError where it says nothing of it."""
        try:
            return cls(**header["writing"])
        except (KeyError, TypeError) as error:
            raise InputError(f"The adaptation's header does not say how the model writes: {error}.") from None
