"""What `adapt` and `pretrain` share."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.distributed import is_first
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.run import output_folder

log = logging.getLogger(__name__)


def interrupted(cfg: DictConfig) -> Path | None:
    """Return the folder of the run to continue, in every training process; None for a new run."""
    folder = output_folder(cfg)
    resumes = cfg.resume and not cfg.overwrite and (folder / "config.yaml").is_file()
    return folder if not cfg.get("dry_run", False) and (resumes or not is_first()) else None


def decode_sets(model: Model, sets: Mapping[str, Sequence[Example]], loader: Loader) -> dict[str, list[str]]:
    """Decode each set, and log its metrics."""
    hypotheses = {}
    for name, examples in sets.items():
        hypotheses[name] = decode_examples(model, model.task, examples, loader, name)
        scores = model.task.score(examples, hypotheses[name])
        log.info("  %s: %s (%d %ss)", name, scores, len(scores), model.task.example_name)
    return hypotheses
