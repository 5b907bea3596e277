"""How a speech encoder-decoder decodes: the options a user can set, and their form in file headers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapt.checks import check_count
from adapt.data.text import strip_punctuation
from adapt.errors import InputError


@dataclass(frozen=True)
class GenerationOptions:
    """How a speech encoder-decoder decodes.

    Args:
        language: The language of examples without the key "lang". None lets Whisper detect it; models of one language
            need none.
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

    def texts(self, tokenizer: Any, tokens: Tensor, languages: Sequence[str | None] | None = None) -> list[str]:
        """Return the texts of generated `tokens` `(batch, tokens)`, without special tokens.

        `languages` has the language of each text, which matters for its case; None if they are unknown.
        """
        texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        if not self.normalise:
            return texts
        known = languages or [self.language] * len(texts)
        return [strip_punctuation(text, language=language) for text, language in zip(texts, known, strict=True)]

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


class FirstTokens:
    """Makes `generate` start each example with its own token, such as that of its language.

    Args:
        tokens: The first token of each example of the batch.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens

    def __call__(self, written: Tensor, scores: Tensor) -> Tensor:
        """Return the scores `(rows, vocabulary)` of the token after `written` `(rows, tokens)`.

        A row is a beam of an example.
        """
        if written.shape[1] > 1:  # after the decoder's start token and the first token
            return scores
        first = torch.tensor(self.tokens, device=scores.device).repeat_interleave(len(scores) // len(self.tokens))
        return torch.full_like(scores, float("-inf")).scatter(1, first.unsqueeze(1), 0.0)
