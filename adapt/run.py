"""A run's folder: what it was asked, where it stands, what it leaves. Finished is what has a `metrics.json`."""

import logging
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adapt.checks import check_count, check_flag
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.files import write_json, write_text

log = logging.getLogger(__name__)

# What may differ between a killed run and the one that goes on with it.
_FREE = ("resume", "overwrite", "output", "logger", "dry_run")
# By which the first process tells the others its folder: the time in a folder's name would be another one for them.
_FOLDER = "INNERTUNE_RUN"


def check_output(cfg: DictConfig) -> Path:
    """The output folder, if a run may write there; nothing is written yet. Called first, for it costs nothing.

    Raises:
        InputError: the folder holds a finished run; it holds an unfinished one and neither `resume` nor `overwrite` was
            given; the run to resume was started with another config, or its config cannot be read; or a multirun is to
            train in several processes.
    """
    folder = output_folder(cfg)
    check_flags(cfg)
    if not is_first():
        return folder
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"output={folder}: '{place}' is a file. Give a folder.")
    if _is_multirun() and cfg.get("trainer", {}).get("devices", 1) not in (1, "1"):
        raise InputError(
            f"-m and trainer.devices={cfg.trainer.devices} do not go together: the processes that help to train are "
            "started by the same command line. Start one run after another, or give trainer.devices=1."
        )
    saved = folder / "config.yaml"
    if cfg.overwrite:
        return folder
    if (folder / "metrics.json").is_file():
        raise InputError(
            f"'{folder}' already holds a finished run. Give another output=..., or overwrite=true to replace it."
        )
    if saved.is_file():
        if not cfg.resume:
            raise InputError(
                f"'{folder}' holds an unfinished run. resume=true goes on with it, overwrite=true starts anew."
            )
        before, now = _flat(_saved(saved)), _flat(without_free(cfg))
        different = sorted(key for key in before | now if before.get(key) != now.get(key))
        if different:
            key = different[0]
            raise InputError(
                f"The run in '{folder}' was started with {key}={before.get(key)}, not {now.get(key)}. "
                "Resume with the same options, or give another output=..."
            )
    return folder


def _saved(path: Path) -> dict[str, Any]:
    # Runs write it whole or not at all; who edits it, or a disk that fails, may leave anything.
    try:
        saved = OmegaConf.load(path)
        if isinstance(saved, DictConfig) and saved:
            return without_free(saved)
        said = "it is empty" if not saved else "it holds no options"
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
    raise InputError(
        f"'{path}' cannot be read ({said}). It says with which options the run was started: put it back as it was, or "
        "give overwrite=true to start anew, or another output=..."
    )


def check_flags(cfg: DictConfig) -> None:
    """Raise InputError for a seed that is no number, or a switch that is neither true nor false."""
    check_count("seed", cfg.seed, 0, 2**32 - 1)
    for name in ("resume", "overwrite", "dry_run"):
        if name in cfg:
            check_flag(name, cfg[name])


def open_run(cfg: DictConfig) -> Path:
    """Claim the output folder and save the config in it. Called when all that can be known is known to be right.

    A process that only helps to train claims nothing.

    Raises:
        InputError: as `check_output`.
    """
    folder = check_output(cfg)
    if not is_first():
        return folder
    os.environ[_FOLDER] = str(folder.absolute())
    if cfg.resume and not (folder / "config.yaml").is_file():
        log.info("There is no run to resume in '%s'; this one starts there.", folder)
    if cfg.overwrite:
        # Only what runs leave is taken away: the folder may hold files of the user's.
        for name in ("checkpoints", "adaptation", "log", "scores", "maps", "probes", "neurons"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (
            "metrics.json",
            "card.json",
            "report.html",
            "comparison.json",
            "comparison.safetensors",
            "transcripts.jsonl",
            "sweep.html",
            "steering.html",
            "steering.safetensors",
            "vectors.safetensors",
            "scores.safetensors",
            "choice.html",
            "choice.json",
            "profiles.safetensors",
            "profiles.json",
            "profiles.html",
            "similarity.safetensors",
            "similarity.html",
            "probes.html",
            "topography.html",
            "weights.html",
            "weights.json",
            "attribution.html",
            "attribution.json",
            "bias.html",
            "bias.json",
            "model.safetensors",
            "config.json",
            "config.yaml",
        ):
            (folder / name).unlink(missing_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    return folder


def output_folder(cfg: DictConfig) -> Path:
    """Where a command writes: `cfg.output`, and in a multirun the job's own folder below it."""
    from hydra.core.hydra_config import HydraConfig

    if not is_first() and _FOLDER in os.environ:
        return Path(os.environ[_FOLDER])
    if _is_multirun():
        return Path(HydraConfig.get().runtime.output_dir)
    return Path(cfg.output).expanduser()


def _is_multirun() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def close_run(folder: Path, metrics: dict[str, Any], card: dict[str, Any]) -> None:
    """Write the card, and last the metrics, by which the run counts as finished."""
    write_json(folder / "card.json", card)
    write_json(folder / "metrics.json", metrics)


def command_line() -> str:
    """The command that makes the same again, wherever it writes."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    job = HydraConfig.get()
    made_by = [text for text in job.overrides.task if text.split("=")[0] not in _FREE]
    return " ".join(["innertune", job.job.config_name, *(shlex.quote(text) for text in made_by)])


def without_free(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config without what does not bear on the result."""
    values = OmegaConf.to_container(cfg, resolve=True)
    return {key: value for key, value in values.items() if key not in _FREE}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
