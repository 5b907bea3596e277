"""The tokens that frame what a Whisper writes: languages, task, and the space before the first word."""

import re
import unicodedata
from typing import Any

from adapt.errors import InputError

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_TASKS = ("translate", "transcribe")
# Whisper writes these languages without spaces, also at the start (`split_to_word_tokens` of OpenAI's tokenizer).
_WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
_THEIR_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR")
_MULTILINGUAL = 51865  # OpenAI's multilingual models have at least this many tokens, the English ones fewer


def starts_with_space(text: str, language: str | None) -> bool:
    """Return whether a Whisper writes a space before a text. `language` is a code, None if it is unknown."""
    name = unicodedata.name(text[0], "") if text else ""
    return bool(text) and language not in _WITHOUT_SPACES and not name.startswith(_THEIR_SCRIPTS)


def complete_generation_config(net: Any, tokenizer: Any) -> None:
    """Add to a network's generation config what `generate` needs to start with the right tokens.

    Older folders have no generation_config.json, or one without languages and tasks. Then `config.json` or the size of
    the vocabulary tell whether the model is multilingual, and the tokenizer has the tokens.

    Raises:
        InputError: nothing tells whether the model is multilingual, or the tokenizer lacks the tokens.
    """
    known, vocabulary = net.generation_config, tokenizer.get_vocab()
    missing = getattr(known, "no_timestamps_token_id", None) is None
    if missing:
        if "<|notimestamps|>" not in vocabulary:
            raise InputError(
                "generation_config.json has no no_timestamps_token_id, and the tokenizer has no token "
                "<|notimestamps|>, so it is not known with which tokens this Whisper starts. Copy "
                "generation_config.json from the model that it was tuned from."
            )
        known.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    if known._from_model_config and known.max_length is None:  # the default would be 20 tokens
        known.max_length = net.config.max_target_positions
    languages = {token: unit for token, unit in vocabulary.items() if _LANGUAGE.fullmatch(token)}
    multilingual = getattr(known, "is_multilingual", None)
    if multilingual is None:
        multilingual = hasattr(known, "lang_to_id") or (missing and _is_multilingual(net.config, languages))
    if multilingual and not hasattr(known, "lang_to_id"):
        known.lang_to_id = languages
    if multilingual and not hasattr(known, "task_to_id"):
        known.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in _TASKS if f"<|{task}|>" in vocabulary}
    known.is_multilingual = multilingual
    known.forced_decoder_ids = None  # the older form of the same tokens; they are set anew at each call
    known._from_model_config = False  # otherwise it would not be saved


def _is_multilingual(config: Any, languages: dict[str, int]) -> bool:
    forced = dict(getattr(config, "forced_decoder_ids", None) or [])
    if forced:  # [[1, language or null], [2, task], [3, no timestamps]], or [[1, no timestamps]]
        return len(forced) > 1 or forced.get(1) in languages.values()
    return bool(languages) and config.vocab_size >= _MULTILINGUAL


def language_code(language: str, known: Any) -> str:
    """Return the code of a language in a Whisper.

    Args:
        language: A code, also one with a region ("de", "de-AT", "pt_BR"), or an English name.
        known: The generation config. One without languages is that of an English-only model.

    Raises:
        InputError: the model does not have the language.
    """
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    name = str(language).strip().lower()
    codes = [token.strip("<|>") for token in getattr(known, "lang_to_id", {"<|en|>": 0})]
    for code in (TO_LANGUAGE_CODE.get(name, name), re.split("[-_]", name)[0]):
        if code in codes:
            return code
    if codes == ["en"]:
        raise InputError(f"language={language} is not possible: this model reads and writes English only.")
    raise InputError(f"language={language} is not a language of this model. It has {', '.join(sorted(codes))}.")
