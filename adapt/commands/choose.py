"""Score neurons by one or more measures and select the best."""

import logging
import time

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits
from adapt.commands._device import loaded_model
from adapt.commands._options import model_card, plain
from adapt.data.splits import check_splits
from adapt.evaluation.selection import choose
from adapt.models.loaded import Loaded
from adapt.report.selection import write_selection
from adapt.run import check_output, close_run, command_line, open_run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Select neurons as `conf/choose.yaml` says.

    Writes `selection.safetensors` and `scores.safetensors` for the first measure, `scores-NAME.safetensors` for each
    other measure, `selection.json`, `selection.html`, `metrics.json` and `card.json`.
    """
    started = time.perf_counter()
    check_output(cfg)
    loaded: Loaded = loaded_model(cfg)
    splits, skipped = check_splits(build_splits(cfg.data), loaded.model, cfg.data.on_error)
    options = plain(cfg, "top", "weight_share", "per_site", "sites", "examples", "seed")
    measures = plain(cfg, "choose")["choose"]
    result = choose(loaded, splits, measures, **options, loader=build(cfg.loader))
    folder = open_run(cfg)
    result.save(folder, model=loaded.fingerprint, command=command_line())
    config = OmegaConf.to_yaml(cfg, resolve=True)
    write_selection(folder / "selection.html", result.measures, result.pairs, str(cfg.title), config)
    metrics = result.figures() | {"seconds": time.perf_counter() - started, "skipped": skipped}
    close_run(folder, metrics, model_card(cfg, loaded) | {"selection": result.summary})
    for pair in result.pairs:
        log.info(
            "  %s and %s: overlap %.2f (%.2f by chance), rank correlation %.2f",
            pair.one, pair.other, pair.overlap, pair.chance, pair.correlation,
        )  # fmt: skip
    log.info("Scores, selection and page: %s", folder.absolute())
    log.info("To train these neurons: tuning=neurons tuning.neurons=%s", folder / "selection.safetensors")
