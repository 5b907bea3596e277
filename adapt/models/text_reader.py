"""Sentence pairs as the tokens that a translation model reads and writes, each in its languages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from adapt.data.kinds import unexpected
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.target_text import framed_tokens

_CACHED_TEXTS = 200_000
_LANGUAGE_CODE = re.compile(r">>.*?<<")


class TextReader:
    """Read sentence pairs: convert sources into tokens `(time,)`, and targets into token lists.

    For a model of many languages, the keys "source_lang" and "target_lang" (or "lang") of a pair are its languages;
    pairs without them have those of the tokenizer.
    """

    unit: Literal["seconds", "tokens"] = "tokens"
    window: float | None = None

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self.tokenizer, self.prefix = tokenizer, prefix
        self.multilingual = hasattr(tokenizer, "src_lang")
        # Marian's tokenizer takes a millisecond per sentence, and each sentence is read in every epoch.
        self._cache: dict[tuple[str, str, str | None], list[int]] = {}

    def length(self, pair: Pair) -> float:
        """Return the number of tokens of the source or of the target, whichever is longer."""
        return max(len(self.source(pair)), len(self.target(pair.target, pair.target_lang)))

    def read(self, pair: Pair, speed: float = 1.0) -> Tensor:
        """Return the source's tokens; `speed`, which is for audio, is ignored."""
        return torch.tensor(self.source(pair))

    def source(self, pair: Pair) -> list[int]:
        """Return the tokens of a pair's source, after the prefix. Raises InputError if it is not a pair."""
        if not isinstance(pair, Pair):
            raise unexpected(pair, "text")
        return self._tokens("text", f"{self.prefix}{pair.source}", pair.source_lang)

    def language_code(self, pair: Pair) -> str | None:
        """Return the ">>deu<<" at the start of a source, which a Marian reads as a code; None if there is none."""
        code = _LANGUAGE_CODE.match(self.prefix + pair.source)
        marian = hasattr(self.tokenizer, "remove_language_code")
        return code[0] if marian and code is not None and not self.prefix.startswith(">>") else None

    def target(self, text: str, language: str | None = None) -> list[int]:
        """Return the tokens of a target text; `language` is None for that of the tokenizer."""
        return self._tokens("text_target", text, language)

    def _tokens(self, side: str, text: str, language: str | None) -> list[int]:
        key = (side, text, language if self.multilingual else None)
        if key not in self._cache:
            if len(self._cache) >= _CACHED_TEXTS:
                self._cache.clear()
            with self._speaking(side, key[2]):
                self._cache[key] = framed_tokens(self.tokenizer, text, side)
        return self._cache[key]

    @contextmanager
    def _speaking(self, side: str, language: str | None) -> Iterator[None]:
        """Within this context, the tokenizer reads sources, or targets, of a language."""
        if language is None:
            yield
            return
        own = self.tokenizer.src_lang, self.tokenizer.tgt_lang
        code = language_code(self.tokenizer, "lang", language)
        if side == "text":
            self.tokenizer.src_lang = code
        else:
            self.tokenizer.tgt_lang = code
        try:
            yield
        finally:
            self.tokenizer.src_lang, self.tokenizer.tgt_lang = own


def language_code(tokenizer: Any, name: str, language: str) -> str:
    """Return the code of a language in a tokenizer of many languages.

    Args:
        tokenizer: The tokenizer.
        name: What the language is given as, for messages.
        language: A code of the tokenizer (mBART: de_DE), or its part before the region if only one code starts with it
            (de).

    Raises:
        InputError: The tokenizer does not have the language.
    """
    known = getattr(tokenizer, "lang_code_to_id", {})
    fitting = [code for code in known if code.startswith(f"{language}_")]
    code = fitting[0] if language not in known and len(fitting) == 1 else language
    token = known.get(code) if known else tokenizer.convert_tokens_to_ids(code)
    if token is None or token == tokenizer.unk_token_id:
        hint = f"It has {', '.join(sorted(known))}." if known else "NLLB's codes look like eng_Latn."
        raise InputError(f"{name}={language} is not a language of the model's tokenizer. {hint}")
    return code
