"""Renamed options: if the command line has an old name, the error says the new one.

The same table translates old names in the `config.yaml` of a resumed run of an earlier version.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.files import is_file, is_folder


@dataclass(frozen=True)
class Renamed:
    """An option that was called `old` and is now called `new`. Both are full dotted names, in which "*" is any part.

    Attributes:
        commands: The commands that have the option; empty means all.
        choices: The choices of its group that have the option, such as `bias` in `measure=bias`; empty means all.
        values: The new name of each old value, if the values changed too.
    """

    old: str
    new: str
    commands: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def apply(self, key: str) -> str | None:
        """Return the new name of the option `key`, or None if `key` is neither this option nor nested in it."""
        pattern = re.escape(self.old).replace(r"\*", "([^.]+)")
        match = re.fullmatch(rf"{pattern}(\..+)?", key)
        if match is None:
            return None
        *parts, rest = match.groups()
        new = self.new
        for part in parts:
            new = new.replace("*", part, 1)
        return new + (rest or "")


_PER_SITE = {"site": "true", "null": "false"}
RENAMED = (
    Renamed("keep", "penalty", ("adapt",)),
    Renamed("inside", "compare_neurons", ("adapt", "compare")),
    Renamed("players", "audio_clips", ("adapt", "compare")),
    Renamed("half", "save_half", ("pretrain",)),
    *(
        renamed
        for tuning in ("tuning", "tuning.parts.*")
        for renamed in (
            Renamed(f"{tuning}.amount", f"{tuning}.top", ("adapt",)),
            Renamed(f"{tuning}.weights", f"{tuning}.weight_share", ("adapt",)),
            Renamed(f"{tuning}.per", f"{tuning}.per_site", ("adapt",), values=_PER_SITE),
        )
    ),
    Renamed("amount", "top", ("choose",)),
    Renamed("weights", "weight_share", ("choose",)),
    Renamed("per", "per_site", ("choose",), values=_PER_SITE),
    Renamed("intervention.amounts", "intervention.sizes", ("evaluate",)),
    Renamed("intervention.per", "intervention.per_site", ("evaluate",), values=_PER_SITE),
    Renamed("by", "group_by", ("steer",)),
    Renamed("unit", "unit_length", ("steer",)),
    Renamed("watch", "check_protected", ("correct",)),
    Renamed("of", "target", ("corrections",)),
    Renamed("measure.least", "measure.min_examples", ("introspect",), ("bias",)),
    Renamed("measure.least", "measure.min_steps", ("introspect",), ("profiles", "topography")),
    Renamed("measure.most", "measure.max_groups", ("introspect",), ("bias", "profiles", "topography")),
    Renamed("measure.most", "measure.max_per_class", ("introspect",), ("probes",)),
    Renamed("measure.most", "measure.max_per_group", ("introspect",), ("similarity",)),
    Renamed("measure.per", "measure.sample_by", ("introspect",), ("similarity",)),
    Renamed("measure.against", "measure.reference_model", ("introspect",), ("probes", "similarity", "topography")),
    Renamed("measure.by", "measure.group_by", ("introspect",), ("bias",)),
    Renamed("measure.false_discoveries", "measure.false_discovery_rate", ("introspect",), ("bias",)),
    Renamed("measure.count", "measure.max_examples", ("introspect",), ("attribution",)),
    Renamed("measure.words", "measure.max_words", ("introspect",), ("attribution",)),
)


def old_names(command: str, overrides: Sequence[str], conf: Path) -> str | None:
    """Return sentences with the new names of options that have old names in a command's overrides; None without any.

    Args:
        command: The command's name.
        overrides: Words of the command line: `key=value`, also with `+`, `++` or `~`; options such as `-m` are ignored.
        conf: The folder of the configuration. A name that is in use there (perhaps again) does not count as old.
    """
    pairs = [_parse(word) for word in overrides if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    choices = {key: value.split(",") for key, value in pairs if "." not in key and is_folder(conf / key)}
    answers = [_answer(command, key, value, choices, conf) for key, value in pairs]
    return " ".join(dict.fromkeys(answer for answer in answers if answer)) or None


def old_keys(command: str, options: Mapping[str, Any], conf: Path) -> str | None:
    """Like `old_names`, for composed options, which may have old names from a user's own file or a dict.

    Arguments of functions that are not innertune's may have any name.
    """
    words = [f"{key}=" for key in _our_keys(options) if key.rpartition(".")[2] != "_target_"]
    nodes = {key: node for key, node in options.items() if isinstance(node, Mapping) and "_target_" in node}
    choices = [f"{key}={str(node['_target_']).rpartition('.')[2]}" for key, node in nodes.items()]
    return old_names(command, [*choices, *words], conf)


# Old defaults that are null now. They mean the same, except that null is 8 windows for Whisper.
_NOW_NULL = {"loader.batch_seconds": 24, "title": "Before and after adapting", "replay": 0}


def translate(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a saved config under their present names.

    Args:
        before: Values by dotted name, as an earlier version may have saved them.
        now: The options of the present run, also by dotted name. Only these names are in use.
    """
    translated = {}
    for key, value in before.items():
        if key not in now:
            for renamed in RENAMED:
                new = renamed.apply(key)
                if new is not None and new in now and new not in before:
                    key = new
                    value = _new_value(renamed, value)
                    break
        if key in _NOW_NULL and value == _NOW_NULL[key] and now.get(key) is None:
            value = None
        # Since 0.2.0, no value stands for 24 seconds, except for Whisper, whose windows were not counted before.
        if key == "loader.batch_seconds" and value == 24 and key in now and now[key] is None:
            value = None
        if key == "trainer.accelerator" and value == "cpu" and now.get(key) == "auto":
            value = "auto"  # the default was the CPU before there was `device`
        translated[key] = value
    return translated


def _parse(word: str) -> tuple[str, str]:
    key, _, value = word.lstrip("+~").partition("=")
    return key.partition("@")[0].strip(), value.strip().strip("'\"")


def _answer(command: str, key: str, value: str, choices: Mapping[str, Sequence[str]], conf: Path) -> str | None:
    found = [
        (renamed, new)
        for renamed in RENAMED
        if (not renamed.commands or command in renamed.commands) and (new := renamed.apply(key)) is not None
    ]
    group = key.partition(".")[0]
    chosen = choices.get(group, [])
    fitting = [(renamed, new) for renamed, new in found if not renamed.choices or {*chosen} & {*renamed.choices}]
    found = fitting if chosen else found
    if not found or _in_use(command, key, chosen, conf):
        return None
    values = found[0][0].values
    given = [part.strip() for part in value.split(",")]
    if values and all(part in values for part in given):
        return f"{key}={value} is now {found[0][1]}={','.join(values[part] for part in given)}."
    if values:
        return f"{key} is now called {found[0][1]}, and is {' or '.join(values.values())}."
    if len(found) == 1:
        return f"{key} is now called {found[0][1]}."
    return f"{key} is now called " + " or ".join(f"{new} ({', '.join(old.choices)})" for old, new in found) + "."


def _in_use(command: str, key: str, chosen: Sequence[str], conf: Path) -> bool:
    group, _, rest = key.partition(".")
    if not is_folder(conf / group):
        return any(_has_key(conf / f"{name}.yaml", group) for name in (command, "base"))
    if not rest:
        return True
    nested = "." in rest  # `tuning.parts.rows.top` is an option of the tuning in `rows`, not of `mix`
    files = [conf / group / f"{name}.yaml" for name in chosen if not nested] or sorted((conf / group).glob("*.yaml"))
    # A choice that has no file in `conf` is the user's own and may have any options.
    return any(not is_file(path) or _has_key(path, rest.rpartition(".")[2]) for path in files)


def _has_key(path: Path, key: str) -> bool:
    return is_file(path) and re.search(rf"^{re.escape(key)}:", path.read_text(encoding="utf-8"), re.M) is not None


def _our_keys(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in options.items():
        if not isinstance(value, Mapping):
            yield f"{prefix}{key}"
        elif str(value.get("_target_", "adapt.")).startswith("adapt."):
            yield from _our_keys(value, f"{prefix}{key}.")


def _new_value(renamed: Renamed, value: Any) -> Any:
    if not renamed.values:
        return value
    text = renamed.values.get("null" if value is None else str(value))
    return value if text is None else text == "true"
