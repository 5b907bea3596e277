"""Write a model in a standard format: a transformers folder or a state dict."""

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.export import export
from adapt.models.loaded import Loaded
from adapt.terminal import say
from interventions.files import FileError
from interventions.intervention import Intervention
from interventions.store import load


def main(cfg: DictConfig) -> None:
    """Run `conf/export.yaml`: export the model, and print what was written."""
    loaded: Loaded = build(cfg.model)
    files = list(cfg.fold) if isinstance(cfg.fold, ListConfig) else [cfg.fold]
    interventions: list[Intervention] = []
    for path in files:
        if path is None:
            continue
        try:
            interventions += load(user_path(str(path)), loaded.fingerprint).values()
        except FileError as error:
            raise InputError(f"fold={path}: {error}") from None
    folder = user_path(str(cfg.output))
    names = export(loaded.model, folder, cfg.dtype, interventions)
    say(f"Exported '{loaded.reference}' to '{folder}': {', '.join(names)}.")
