"""What `adapt` and `pretrain` share."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.distributed import is_first
from adapt.files import is_file
from adapt.models.model import Model
from adapt.models.writing import CLEAR, writing
from adapt.report import wording
from adapt.report.result_notes import style_before_training
from adapt.run import output_folder
from adapt.transcription.any_length import decode_any_length

log = logging.getLogger(__name__)


def interrupted(cfg: DictConfig) -> Path | None:
    """Return the folder of the run to continue, in every training process; None for a new run."""
    folder = output_folder(cfg)
    resumes = cfg.resume and not cfg.overwrite and is_file(folder / "config.yaml")
    return folder if not cfg.get("dry_run", False) and (resumes or not is_first()) else None


def decode_sets(
    title: str, model: Model, sets: Mapping[str, Sequence[Example]], loader: Loader, warn_of: str | None = None
) -> dict[str, list[str]]:
    """Decode each set, and log the title and the metrics.

    If `warn_of` names the model, warn if the model gets next to nothing right.
    """
    log.info("%s", title)
    hypotheses = {}
    for name, examples in sets.items():
        hypotheses[name] = decode_any_length(model, model.task, examples, loader, name)
        scores = model.task.score(examples, hypotheses[name])
        log.info("  %s: %s (%d %ss)", name, scores, len(scores), model.task.example_name)
        metric, values = model.task.metrics[0], scores.values()
        if warn_of is not None and wording.reads_nothing(values[metric.key], metric):
            log.warning("%s", wording.nothing_read(warn_of, values[metric.key], metric))
        style = writing(model.task, examples, hypotheses[name]) if warn_of is not None else None
        if style is not None and style.share >= CLEAR:
            log.warning("%s", style_before_training(name, style))
    return hypotheses
