"""Read the options of a command: understand guessed names, refuse unknown ones, and write the rest for Hydra."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.options.automatic import data_choice, is_file, is_model, model_choice
from adapt.options.composed import choices, compose, names
from adapt.options.guesses import all_guesses, understood
from adapt.options.kinds import kind_of, may_be_null
from adapt.options.known import accepted, check_nodes, check_top, find, of_all_families, unknown
from adapt.options.quoting import for_hydra, quoted, split_list
from adapt.options.words import Option, Words, split_words
from adapt.renamed import old_keys

_MOST_COMBINATIONS = 32  # of swept choices that are composed to look for unknown options


@dataclass(frozen=True)
class _Reading:
    """What an option is checked against. `composed` has the configuration of each combination of swept choices."""

    command: str
    words: Words
    conf: Path
    composed: tuple[dict[str, Any], ...]


def read_options(command: str, given: Sequence[str], conf: Path) -> tuple[list[str], list[str]]:
    """Return the words of a command line for Hydra, and sentences that say what was understood in another way.

    Args:
        command: The command.
        given: The words after it.
        conf: The folder of the configurations.

    Raises:
        InputError: nothing reads an option, a choice does not exist, or a value cannot be read.
    """
    words = split_words(command, given)
    if words.help:
        return [*words.flags, *(option.word for option in words.options)], []
    notes: list[str] = []
    words = replace(words, options=tuple(_place(command, option, words, conf, notes) for option in words.options))
    reading = _Reading(command, words, conf, _composed(command, words, conf))
    options = tuple(_understood(reading, option, notes) for option in words.options)
    words, added = replace(words, options=options), _automatic(reading, options, notes)
    if added:
        words = replace(words, options=(*added, *words.options))
        reading = replace(reading, composed=_composed(command, words, conf))
        words = replace(words, options=tuple(_understood(reading, option, notes) for option in words.options))
    reading = replace(reading, words=words)
    _check_configuration(reading)
    hydra_words = [_written(reading, option) for option in words.options]
    return [*words.flags, *hydra_words, *_sweep_folder(reading)], notes


def _place(command: str, option: Option, words: Words, conf: Path, notes: list[str]) -> Option:
    """Turn `model=FOLDER` into `model.pretrained=FOLDER`, and `data=FILE` into the option that takes a file."""
    key, value = option.key, option.value or ""
    if key not in ("model", "data") or option.package or not _has_group(command, key, conf):
        return option
    if {*split_list(value)} & {*choices(key, conf, words.folder)} or not (is_model if key == "model" else is_file)(
        value
    ):
        return option
    meant = "model.pretrained" if key == "model" else "data.test"
    if key == "data" and command not in ("evaluate", "compare", "introspect"):
        raise InputError(f"data={value}: give files by data.train={value}, data.validation=... and data.test=...")
    notes.append(f"{key}={value} stands for {meant}={value}.")
    return Option(meant, value)


def _has_group(command: str, group: str, conf: Path) -> bool:
    import yaml

    defaults = yaml.safe_load((conf / f"{command}.yaml").read_text(encoding="utf-8"))["defaults"]
    return any(group in default for default in defaults if isinstance(default, dict))


def _composed(command: str, words: Words, conf: Path) -> tuple[dict[str, Any], ...]:
    fixed: list[str] = []
    swept: list[list[str]] = []
    for option in words.options:
        if not _chooses(option, words, conf):
            continue
        parts = split_list(option.value or "")
        if len(parts) > 1 and not words.multirun:
            raise InputError(f"{option.word} gives several values. For one run with each, add -m.")
        if words.multirun and (option.value or "").startswith(("choice(", "glob(")):
            parts = split_list(option.value[7:-1]) if option.value and option.value.startswith("choice(") else []
            parts = parts or choices(option.key, conf, words.folder)
        if len(parts) > 1:
            swept.append([replace(option, value=part).word for part in parts])
        else:
            fixed.append(option.word)
    combinations = list(product(*swept))[:_MOST_COMBINATIONS]
    return tuple(compose(command, [*fixed, *combination], conf, words.folder) for combination in combinations)


def _chooses(option: Option, words: Words, conf: Path) -> bool:
    """Whether an option selects a part of the configuration: a choice of a group, or what a node builds."""
    if option.key.endswith("._target_") or option.key == "hydra.searchpath":
        return True
    if option.key.startswith("hydra/") or (option.value or "").startswith("{"):
        return False
    return bool(choices(option.key, conf, words.folder))


def _understood(reading: _Reading, option: Option, notes: list[str]) -> Option:
    key = option.key
    if _is_hydras(key) or _chooses(option, reading.words, reading.conf) or _known(reading, key) is not None:
        return option
    plain = key.lower().replace("-", "_")
    if plain != key and _known(reading, plain) is not None:
        return option.named(plain)
    known = {name for one in reading.composed for name in (*names(one), *of_all_families(one, reading.conf))}
    possible = {name for ours in all_guesses().get(plain, ()) for name in ours.split() if _known(reading, name)}
    meant = understood(plain, known, tuple(possible))
    if meant is None:
        return option
    value = "" if option.value is None else f"={option.value}"
    notes.append(f"{key}{value} stands for {meant}{value}.")
    return option.named(meant)


def _known(reading: _Reading, key: str) -> str | None:
    """Return how an option is given ("" or "++", which adds it), or None if nothing reads it."""
    found = [find(composed, key)[0] for composed in reading.composed]
    if all(found):
        return ""
    rest = [one for one, has in zip(reading.composed, found, strict=True) if not has]
    return "++" if all(accepted(one, key, reading.conf) for one in rest) else None


def _automatic(reading: _Reading, options: Sequence[Option], notes: list[str]) -> list[Option]:
    chosen = {option.key for option in options}
    added = []
    if "model" not in chosen and (model := model_choice(options, reading.composed[0])) is not None:
        added.append(Option("model", model))
    if "data" not in chosen and (found := data_choice(options, reading.composed[0])) is not None:
        added.append(Option("data", found[0]))
        notes.append(f"data={found[0]}, because of {found[1]}.")
    return added


def _check_configuration(reading: _Reading) -> None:
    """Check options that come from the user's own files, or were added with a `+`."""
    command, words, conf = reading.command, reading.words, reading.conf
    if words.folder is None and not any(option.prefix for option in words.options):
        return
    ours = compose(command, [], conf).keys()
    for composed in reading.composed:
        if (renamed := old_keys(command, composed, conf)) is not None:
            raise InputError(renamed)
        check_top(command, composed, ours, conf, words.folder)
        if words.folder is not None:
            check_nodes(command, composed, conf, words.folder)


def _written(reading: _Reading, option: Option) -> str:
    command, words, conf = reading.command, reading.words, reading.conf
    if _is_hydras(option.key):
        return option.word
    if _chooses(option, words, conf) and not option.key.endswith("_target_"):
        if option.prefix == "~":
            raise _left_out(command, option.key, "one of " + ", ".join(choices(option.key, conf, words.folder)))
        return option.word
    how = _known(reading, option.key)
    if how is None:
        lacking = next(
            one for one in reading.composed if not find(one, option.key)[0] and not accepted(one, option.key, conf)
        )
        raise unknown(command, lacking, option.key, conf, words.folder)
    if option.prefix == "~":
        if "." not in option.key and find(reading.composed[0], option.key)[1] is not None:
            raise _left_out(command, option.key, "a value")
        return option.word
    value = option.value or ""
    default = find(reading.composed[0], option.key)[1]
    kind = kind_of(command, option.key, default)
    if kind == "hydra" and value.startswith("{"):
        _check_mapping(reading, option.key, value)
        return option.word
    if isinstance(default, dict) and value != "null" and not value.startswith("${"):
        own = ", ".join(f"{option.key}.{name}" for name in default if not str(name).startswith("_"))
        raise InputError(f"{option.key} has options of its own: {own or 'none yet'}. Give one of these.")
    written = for_hydra(option.key, value, kind, may_be_null(option.key, default), words.multirun)
    return replace(option, value=written, prefix=how).word


def _left_out(command: str, key: str, instead: str) -> InputError:
    return InputError(f"innertune {command} reads {key}, so it cannot be left out. Give {instead}.")


def _check_mapping(reading: _Reading, key: str, value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        mapping = OverridesParser.create().parse_override(f"a={value}").value()
    except HydraException:
        return  # Hydra says what is wrong with it
    if (
        not isinstance(mapping, dict)
        or "_target_" in mapping
        or not isinstance(find(reading.composed[0], key)[1], dict)
    ):
        return
    for name in names({str(name): inner for name, inner in mapping.items()}):
        if _known(reading, f"{key}.{name}") is None:
            raise unknown(reading.command, reading.composed[0], f"{key}.{name}", reading.conf, reading.words.folder)


def _is_hydras(key: str) -> bool:
    return key == "hydra" or key.startswith(("hydra.", "hydra/"))


def _sweep_folder(reading: _Reading) -> list[str]:
    """Return where a multirun writes if `output` is given: each run in a subfolder."""
    words = reading.words
    given = [option.value for option in words.options if option.key == "output" and option.value]
    if not words.multirun or any(option.key == "hydra.sweep.dir" for option in words.options):
        return []
    if given:
        return [f"hydra.sweep.dir={for_hydra('output', given[-1], 'path', False, False)}"]
    own = str(reading.composed[0].get("output", ""))
    return [f"hydra.sweep.dir={quoted(own, interpolate=True)}"] if own and "${hydra:" not in own else []
