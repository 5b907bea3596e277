"""Make the groupings of given keys for a model and its data."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.introspect.profiles.groups import (
    NONE,
    TOKEN_CLASSES,
    ByCorrectness,
    ByExample,
    ByPhoneme,
    ByUnit,
    Everything,
    Grouping,
    token_class,
)
from adapt.models.model import CTCModel, DecoderModel, Model


def groupings(
    model: Model, examples: Sequence[Example], keys: Iterable[str], sets: Sequence[str] = (), max_groups: int = 60
) -> list[Grouping]:
    """Return the grouping of all steps, and one for each key.

    Args:
        model: The model whose steps are grouped.
        examples: The examples that it reads.
        keys: `phoneme`, `letter`, `aligned_letter`, `token`, `predicted_token`, `token_class`, `correct` (see the
            classes in `adapt.introspect.profiles.groups`), `set`, or any key of the data (accent, speaker, ...).
        sets: The set of each example ("target", "source"), for the key `set`.
        max_groups: Only the most frequent groups of a key are used, at most this many.

    Raises:
        InputError: The model or the data do not have a key.
    """
    made: list[Grouping] = [Everything()]
    for key in dict.fromkeys(keys):
        if key == "phoneme":
            made.append(_by_phoneme(examples, max_groups))
        elif key in ("letter", "aligned_letter"):
            if not isinstance(model, CTCModel):
                raise InputError(f"This model has no '{key}'; it has token, predicted_token and token_class.")
            made.append(_by_letter(model, key))
        elif key in ("token", "predicted_token", "token_class"):
            if not isinstance(model, DecoderModel):
                raise InputError(f"This model has no '{key}'; it has letter and aligned_letter.")
            made.append(_by_token_class(model) if key == "token_class" else _by_token(model, examples, key, max_groups))
        elif key == "correct":
            made.append(ByCorrectness())
        elif key == "set":
            made.append(_by_set(sets))
        else:
            made.append(_by_key_of_data(examples, key, max_groups))
    return made


def fitting_keys(model: Model, examples: Sequence[Example], sets: Sequence[str]) -> list[str]:
    """Return the keys that suit the model and the data: its output units, and properties of its examples."""
    keys = ["phoneme"] if any(example.phonemes for example in examples) else []
    keys += ["token_class", "token"] if isinstance(model, DecoderModel) else ["letter"]
    for key in ("accent", "speaker", "domain"):
        values = {example.group(key) for example in examples}
        if 2 <= len(values) <= 12:
            keys.append(key)
    # Accents and domains usually coincide with the sets.
    if len(set(sets)) > 1 and not {"accent", "domain"} & set(keys):
        keys.append("set")
    return keys


def _by_phoneme(examples: Sequence[Example], max_groups: int) -> ByPhoneme:
    count = Counter(phoneme.symbol for example in examples for phoneme in example.phonemes)
    if not count:
        raise InputError("No example has phonemes. Give their times in the manifest, or leave out the key 'phoneme'.")
    return ByPhoneme(_most_frequent(count, max_groups))


def _by_set(sets: Sequence[str]) -> ByExample:
    if len(set(sets)) < 2:
        raise InputError("The key 'set' compares data.test with data.source_test. Give both, or leave out the key.")
    names = tuple(dict.fromkeys(sets))
    return ByExample("set", names, [names.index(name) for name in sets])


def _by_key_of_data(examples: Sequence[Example], key: str, max_groups: int) -> ByExample:
    count = Counter(example.group(key) for example in examples)
    if list(count) == ["unknown"]:
        raise InputError(f"No example has '{key}'. Name a key of the data, or leave out '{key}'.")
    names = _most_frequent(count, max_groups)
    numbers = {name: number for number, name in enumerate(names)}
    return ByExample(key, names, [numbers.get(example.group(key), NONE) for example in examples])


def _by_letter(model: CTCModel, key: str) -> ByUnit:
    vocabulary = model.vocabulary
    names = tuple(name for unit, name in enumerate(vocabulary) if unit != model.blank and name)
    return ByUnit(key, tuple(map(_letter_name, names)), _table(vocabulary, lambda unit: _number(names, unit)))


def _by_token_class(model: DecoderModel) -> ByUnit:
    special = {model.vocabulary[unit] for unit in model.special_units if unit < len(model.vocabulary)}
    special |= {*model.tokenizer.all_special_tokens}

    def number(token: str) -> int:
        return TOKEN_CLASSES.index(token_class(token, token in special))

    source = _source_tokens(model)
    source_table = None if source is None else _table(source, number)
    return ByUnit("token_class", TOKEN_CLASSES, _table(model.vocabulary, number), source_table)


def _by_token(model: DecoderModel, examples: Sequence[Example], key: str, max_groups: int) -> ByUnit:
    target, source = model.vocabulary, _source_tokens(model) if key == "token" else None
    count: Counter[str] = Counter()
    for example in examples:
        count.update(target[unit] for unit in model.target(example))
        if source is not None:
            count.update(source[unit] for unit in model.reader.read(example).tolist())
    names = _most_frequent(count, max_groups)

    def number(token: str) -> int:
        return _number(names, token)

    source_table = None if source is None else _table(source, number)
    return ByUnit(key, names, _table(target, number), source_table)


def _source_tokens(model: DecoderModel) -> tuple[str, ...] | None:
    # None for a model that reads audio.
    if model.reads_audio:
        return None
    tokenizer = model.tokenizer
    tokens = {unit: token for token, unit in tokenizer.get_vocab().items()}
    return tuple(tokens.get(unit, "") for unit in range(max(tokens) + 1))


def _most_frequent(count: Counter[str], max_groups: int) -> tuple[str, ...]:
    return tuple(sorted(sorted(count, key=lambda name: (-count[name], name))[:max_groups]))


def _table(tokens: Sequence[str], number: Callable[[str], int]) -> Tensor:
    return torch.tensor([number(token) for token in tokens], dtype=torch.long)


def _number(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else NONE


def _letter_name(letter: str) -> str:
    return "space" if letter in (" ", "|") else letter
