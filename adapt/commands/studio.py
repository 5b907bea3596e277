"""Open a page on this machine to hear recordings, ask why a word was written, and correct it."""

import getpass
import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.commands._device import loaded_model
from adapt.corrections.paths import data_folder
from adapt.corrections.reading import read_protected
from adapt.data.example import Example
from adapt.data.inputs import find_audio, read_sources
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.checkpoint import load_model
from adapt.models.devices import place
from adapt.models.loaded import Loaded
from adapt.studio.examples import embedded_examples
from adapt.studio.serve import Address, serve
from adapt.terminal import log_to_stderr, say


def main(cfg: DictConfig) -> None:
    """Serve the studio until Ctrl-C."""
    log_to_stderr()
    address = Address(str(cfg.host), cfg.port, [str(name) for name in cfg.names], os.environ.get("INNERTUNE_PASSWORD"))
    loaded: Loaded = loaded_model(cfg)
    against = None
    if cfg.against is not None:
        against = place(load_model(str(cfg.against)), next(loaded.model.parameters()).device)
        if against.model.reads_audio != loaded.model.reads_audio:
            raise InputError(f"against={cfg.against} reads other inputs than '{loaded.reference}'.")
    protected = None if cfg.protected is None else read_protected(loaded.model, cfg.protected)
    serve(
        loaded, _examples(cfg, loaded, against), _folder(cfg), against=against, corrections=str(cfg.corrections),
        protected=protected, address=address, author=_user(), open_page=bool(cfg.open_page),
    )  # fmt: skip


def _examples(cfg: DictConfig, loaded: Loaded, against: Loaded | None) -> dict[str, Sequence[Example]]:
    given, other = ("audio", "file") if loaded.model.reads_audio else ("file", "audio")
    if cfg[other] is not None:
        raise InputError(f"'{loaded.reference}' does not read {other}={cfg[other]}. Give {given}=...")
    if cfg[given] is None:
        return embedded_examples(loaded, *([] if against is None else [against]))
    if given == "file":
        examples, problems = read_sources(str(cfg.file))
        found: list[Example] = [one for one in examples if one.source.strip()]
    else:
        places = list(cfg.audio) if isinstance(cfg.audio, ListConfig) else [cfg.audio]
        utterances, problems = find_audio(places)
        found = list(utterances)
    for problem in problems:
        say(f"Skipped: {problem}", error=True)
    return {"data": found}


def _folder(cfg: DictConfig) -> Path:
    return data_folder() / "recordings" if cfg.recordings is None else user_path(str(cfg.recordings))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, the user may have no name
        return ""
