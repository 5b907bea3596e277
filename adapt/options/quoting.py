"""Write values so that Hydra reads texts and paths exactly as the user gave them."""

import os
import re
from collections.abc import Callable

from adapt.errors import InputError
from adapt.files import exists, has_surrogate, user_path
from adapt.options.kinds import Kind

_SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.S)
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")


def quoted(text: str, interpolate: bool = False) -> str:
    """Return a text as a quoted value of Hydra's grammar, which means exactly this text.

    Args:
        text: The text.
        interpolate: Whether `${...}` in it is replaced by OmegaConf; if not, it stays as it is.
    """
    if not interpolate:  # a backslash before `${` means itself only if it is doubled, other backslashes do anyway
        text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    return '"' + re.sub(r'(\\*)("|\Z)', lambda match: match[1] * 2 + match[2].replace('"', '\\"'), text) + '"'


def for_hydra(key: str, value: str, kind: Kind, null: bool, multirun: bool) -> str:
    """Return an option's value as Hydra should read it.

    Args:
        key: The option's full name.
        value: The value as the user gave it.
        kind: Whether it is a text, a path, a list of these, or left to Hydra.
        null: Whether `null` means no value.
        multirun: Whether commas separate the values of several runs. Those of a text never do.

    Raises:
        InputError: a path is empty, a value is not UTF-8, or several values are given for one run.
    """
    if has_surrogate(value):  # neither tokenizers nor the files of a run can hold it
        what = "Rename the file or folder" if kind in ("path", "paths") else "Check the encoding of your terminal"
        raise InputError(f"{key}={value!r} is not UTF-8. {what}.")
    if kind == "hydra":
        return _hydra(key, value, multirun)
    if null and value == "null":
        return value
    if kind == "text" or key == "text":
        return _list(value, quoted) if kind == "texts" and _is_list(value) else quoted(value)
    if multirun and key != "output" and not _exists(value):
        if _SWEEPS.fullmatch(value):
            return value
        values = split_list(value)
        if len(values) > 1:
            return ",".join(for_hydra(key, one, kind, null, False) for one in values)
    if kind == "texts":
        return _list(value, _unquoted) if _is_list(value) else _unquoted(value)
    if kind == "paths" and _is_list(value) and not _exists(value):
        return _list(value, _path)
    if not value.strip():
        raise InputError(f"{key} is empty. Give a path or a name.")
    if key == "output" and "${" in value and not _exists(value):
        return quoted(os.path.expanduser(value), interpolate=True)
    return _path(value)


def split_list(text: str) -> list[str]:
    """Split at commas that are not within quotes or brackets, and strip spaces from the parts."""
    parts, part, quote, depth = [], "", "", 0
    for before, character in zip(" " + text, text, strict=False):
        if quote:
            quote = "" if character == quote and before != "\\" else quote
        elif character in "'\"" and not part.strip():  # quotes begin a part: the apostrophe of "it's" does not
            quote = character
        elif character in "[({":
            depth += 1
        elif character in "])}":
            depth = max(0, depth - 1)
        if character == "," and not quote and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    return [*parts, part.strip()]


def _list(value: str, one: Callable[[str], str]) -> str:
    inside = value[1:-1].strip()
    return "[" + ",".join(one(_bare(part)) for part in split_list(inside)) + "]" if inside else "[]"


def _path(value: str) -> str:
    if _exists(value):
        return quoted(os.path.expanduser(value))
    if _INTERPOLATION.fullmatch(value):
        return quoted(value, interpolate=True)
    return quoted(os.path.expanduser(_bare(value)))


def _unquoted(value: str) -> str:
    return quoted(value, interpolate=True) if _INTERPOLATION.fullmatch(value) else quoted(_bare(value))


def _bare(value: str) -> str:
    """Return a value without the quotes around it, if there are any."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    parsed = _parsed(f"a={value}")
    return parsed if isinstance(parsed, str) else value


def _is_list(value: str) -> bool:
    return len(value) > 1 and value[0] + value[-1] == "[]"


def _exists(value: str) -> bool:
    try:
        return bool(value) and exists(user_path(value))
    except (OSError, RuntimeError, ValueError):
        return False


def _hydra(key: str, value: str, multirun: bool) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:  # Hydra's grammar has no other letters than a to z, for example
        if multirun and len(values := split_list(value)) > 1:
            return ",".join(_hydra(key, one, False) for one in values)
        return _list(value, _element) if _is_list(value) else quoted(value)
    if parsed.is_sweep_override() and not multirun:
        raise InputError(
            f"{key}={value} gives several values. For one run with each, add -m; for a list, write {key}=[{value}]."
        )
    return value


def _element(part: str) -> str:
    return quoted(part) if _parsed(f"a={part}") is None else part


def _parsed(word: str) -> object:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word).value()
    except HydraException:
        return None
