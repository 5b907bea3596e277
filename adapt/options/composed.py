"""A command's configuration, composed from its groups only, as plain data: which options there are."""

import copy
import difflib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.errors import InputError


def compose(command: str, words: Sequence[str], conf: Path, folder: str | None = None) -> dict[str, Any]:
    """Compose a command's configuration without resolving interpolations.

    Args:
        command: The command.
        words: Overrides for Hydra.
        conf: The folder of our configurations.
        folder: The user's own folder (`--config-dir`).

    Raises:
        InputError: a choice of a group does not exist, or a file of the user's cannot be composed.
    """
    if folder is None and not any("searchpath" in word for word in words):
        return copy.deepcopy(_ours(command, tuple(words), conf))
    return _compose(command, words, conf, folder)


@functools.lru_cache(maxsize=256)
def _ours(command: str, words: tuple[str, ...], conf: Path) -> dict[str, Any]:
    """Compose from our own files, which do not change while we run: a command asks for the same again and again."""
    return _compose(command, words, conf, None)


def _compose(command: str, words: Sequence[str], conf: Path, folder: str | None) -> dict[str, Any]:
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = create_config_search_path(str(conf))
    if folder is not None:
        if not os.path.isdir(folder):
            raise InputError(f"--config-dir={folder}: there is no such folder.")
        path.prepend("command-line", f"file://{os.path.abspath(folder)}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        loader = Hydra.create_main_hydra2("innertune", path).config_loader
        cfg = loader.load_configuration(command, list(words), RunMode.RUN)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_problem(command, words, error, conf, folder)) from None
    finally:
        GlobalHydra.instance().clear()
    values = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}


def choices(group: str, conf: Path, folder: str | None) -> list[str]:
    """Return the names of the choices of a group; empty if there is no such group."""
    places = [place / group for place in (conf, *([Path(folder)] if folder else []))]
    return sorted({path.stem for place in places if group for path in place.glob("*.yaml")})


def names(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full names of all options, of nodes too."""
    for key, value in options.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from names(value, f"{prefix}{key}.")


def near(name: str, known: Sequence[str]) -> list[str]:
    """Return the options whose name is nearly this one, the nearest first; at most three."""
    node, _, leaf = name.rpartition(".")
    by_leaf: dict[str, list[str]] = {}
    for key in known:
        if not key.rpartition(".")[2].startswith("_"):
            by_leaf.setdefault(key.rpartition(".")[2], []).append(key)
    same_node = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == node]
    found = [f"{node}.{close}".lstrip(".") for close in difflib.get_close_matches(leaf, same_node, 3, 0.6)]
    found += [key for close in difflib.get_close_matches(leaf, list(by_leaf), 3, 0.75) for key in by_leaf[close]]
    found += difflib.get_close_matches(name, list(known), 2, 0.85)
    return [key for key in dict.fromkeys(found) if not key.rpartition(".")[2].startswith("_")][:3]


def _problem(command: str, words: Sequence[str], error: Exception, conf: Path, folder: str | None) -> str:
    text = " ".join(str(error).split())
    if "No match in the defaults list" in text:
        group = next((word.partition("=")[0] for word in words if f"'{word.partition('=')[0]}'" in text), "")
        return f"There is no option {group}: innertune {command} has no choice of {group}."
    for word in words:
        group, _, choice = word.lstrip("+").partition("=")
        group = group.partition("@")[0]
        offered = choices(group, conf, folder)
        if not offered or choice in (*offered, "null"):
            continue
        close = difflib.get_close_matches(choice, offered, 1, 0.5)
        meant = f" Did you mean {group}={close[0]}?" if close else ""
        return f"There is no {group}={choice}.{meant} Choices: {', '.join(offered)}."
    return text
