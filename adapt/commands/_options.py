"""Options of a command as plain Python values, and the card of a run."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.models.loaded import Loaded
from adapt.run import command_line


def plain(cfg: DictConfig, *names: str) -> dict[str, Any]:
    """Return the named options, with plain lists instead of OmegaConf's own type."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {name: values[name] for name in names}


def model_card(cfg: DictConfig, loaded: Loaded) -> dict[str, Any]:
    """Return the content of the card of a run on a single model: the model, the command and the data."""
    return {
        "model": {"reference": loaded.reference, "fingerprint": loaded.fingerprint},
        "command": command_line(),
        **plain(cfg, "data"),
    }
