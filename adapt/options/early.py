"""What can be checked of a command's options before torch is imported, which takes seconds.

The library checks the same options, for those who call it from Python.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from adapt.checks import check_count, check_counts, check_number
from adapt.errors import InputError
from adapt.files import file_problem, is_folder, user_path
from adapt.option_texts import config_folder
from adapt.options.values import check_choices
from adapt.run import check_flags, check_output

NOTHING_TO_TRANSLATE = "There is nothing to translate: give text='...' or file=lines.txt (file=- reads standard input)."
_SPLITS = ("train", "validation", "test", "source_train", "source_validation", "source_test")
_TRAINING = (
    "schedule", "warmup", "layer_decay", "unfreeze", "replay", "patience", "monitor", "blend", "forget", "timestamps",
    "checkpoint_every",
)  # fmt: skip


def check_early(command: str, cfg: DictConfig) -> None:
    """Check what can be judged from a command's options alone. Raises InputError."""
    options = OmegaConf.to_container(cfg)
    assert isinstance(options, dict)
    check_choices(command, {str(key): value for key, value in options.items()}, config_folder())
    _device(cfg)
    if "resume" in cfg:  # the options of all commands with a run's folder
        check_flags(cfg)
        if not cfg.get("dry_run", False):
            check_output(cfg)
    _loader(cfg)
    _data(cfg)
    if command in _CHECKS:
        _CHECKS[command](cfg)


def check_corrections(cfg: DictConfig) -> None:
    """Check which options of `innertune corrections` go together. Raises InputError."""
    if not isinstance(cfg.names, bool):
        raise InputError(f"names must be true or false, got {cfg.names!r}.")
    if cfg.names and cfg.action not in ("export", "fold"):
        raise InputError(f"names=true belongs to export and fold, not to {cfg.action}.")
    given = [key for key in ("speaker", "file") if cfg[key] is not None]
    if given and cfg.action != "forget":
        raise InputError(f"{given[0]}=... belongs to forget, not to {cfg.action}.")
    if cfg.action == "forget" and not given and cfg.target is None:
        raise InputError("Say what to forget: innertune corrections forget NUMBER, speaker=NAME or file=AUDIO.")


def check_correct(cfg: DictConfig) -> None:
    """Check which options of `innertune correct` go together. Raises InputError."""
    if cfg.strength is not None and not (_is_number(cfg.strength) and 0 < cfg.strength < inf):
        raise InputError(
            f"strength={cfg.strength}: expected a number above 0. The default is 300; with less, corrections "
            "generalise more and change more."
        )
    for name, what in (("text", "what was said"), ("target", "the translation")):
        if cfg[name] is not None and not str(cfg[name]).strip():
            raise InputError(f"{name} is empty. Give {what}: {name}='...'.")
    if cfg.speaker is not None and cfg.audio is None:
        raise InputError("speaker=... says who speaks in audio=... In a file, each line has its own speaker.")
    if (cfg.site == "sweep" or isinstance(cfg.site, ListConfig)) and cfg.file is None:
        raise InputError(f"site={cfg.site} compares layers on many corrections. Give file=FILE.jsonl, or one site.")
    if str(cfg.corrections) == "off":
        raise InputError("corrections=off leaves no place to store a correction. Leave it out, or give a file.")
    if cfg.file is None and None in (cfg.audio, cfg.text) and None in (cfg.source, cfg.target):
        raise InputError(
            "Nothing to correct: give audio=... and text=..., source=... and target=... for a translation, or "
            "file=FILE.jsonl with many corrections."
        )


def check_transcribe(cfg: DictConfig) -> None:
    """Check which options of `innertune transcribe` go together. Raises InputError."""
    from adapt.transcription.formats import check_formats

    if cfg.output is None:
        for name in ("format", "overwrite"):
            if cfg[name]:
                raise InputError(f"{name}={cfg[name]} is for files: give output=FOLDER.")
    if cfg.format:
        check_formats(list(cfg.format) if isinstance(cfg.format, ListConfig) else [str(cfg.format)])
    check_count("width", cfg.width, 1)
    check_count("lines", cfg.lines, 1)
    check_number("ngram_weight", cfg.ngram_weight, minimum=0.0)


def _translate(cfg: DictConfig) -> None:
    if cfg.file is None and (cfg.text is None or (isinstance(cfg.text, ListConfig) and not cfg.text)):
        raise InputError(NOTHING_TO_TRANSLATE)


def _export(cfg: DictConfig) -> None:
    from adapt.export.types import check_export
    from adapt.models.new_folder import check_new

    check_new(user_path(str(cfg.output)))
    check_export(cfg.format, cfg.dtype)
    if cfg.private and cfg.push is None:
        raise InputError("private=true is for a repository on the hub. Give push=OWNER/NAME too.")


def _training(cfg: DictConfig) -> None:
    from adapt.training.option_checks import check_length, check_options, check_precision

    check_length(cfg.trainer.get("max_epochs"), cfg.trainer.get("max_steps"))
    check_precision(cfg.trainer.get("precision"))
    devices = cfg.trainer.get("devices", 1)
    if devices != "auto" and not isinstance(devices, ListConfig) and not re.fullmatch(r"-1|[1-9]\d*", str(devices)):
        raise InputError(f"trainer.devices must be a number of processes or GPUs of at least 1; got {devices!r}.")
    if (accelerator := str(cfg.trainer.get("accelerator", "auto"))) not in ("auto", "cpu"):
        from adapt.models.devices import check_accelerator  # imports torch, but not yet Lightning

        check_accelerator(accelerator, OmegaConf.to_object(devices) if isinstance(devices, ListConfig) else devices)
    for name, least in (("gradient_clip_val", 0.0), ("accumulate_grad_batches", 1.0)):
        if cfg.trainer.get(name) is not None:
            check_number(f"trainer.{name}", cfg.trainer[name], minimum=least)
    for name in ("lr", "weight_decay"):
        if cfg.optimizer.get(name) is not None:
            check_number(f"optimizer.{name}", cfg.optimizer[name], minimum=0.0)
    check_options(**{name: cfg[name] for name in _TRAINING if name in cfg})
    if "causes" in cfg:
        check_counts(0, **{name: cfg[name] for name in ("causes", "compare_neurons", "audio_clips", "non_speech")})
    if "gigabytes" in cfg.get("cache", {}):
        check_number("cache.gigabytes", cfg.cache.gigabytes, minimum=0.0)


def _device(cfg: DictConfig) -> None:
    name = str(cfg.get("device", "auto"))
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"device={name}: expected cpu, cuda, cuda:1 or another number, mps, or auto.")
    if name not in ("auto", "cpu"):
        from adapt.models.devices import device_named  # imports torch, but not yet Lightning

        device_named(name)


def _loader(cfg: DictConfig) -> None:
    from adapt.data.loader_options import check_loader

    names = ("batch_seconds", "batch_tokens", "batch_size", "speeds", "workers", "memory")
    node = cfg.get("loader", {})
    given = {name: node[name] for name in names if node.get(name) is not None}
    with _below("loader"):
        check_loader(**given)


def _data(cfg: DictConfig) -> None:
    """Check that the files exist that are read as training or test data."""
    data = cfg.get("data", {})
    if not str(data.get("_target_")).endswith((".read_splits", ".read_pairs")) or cfg.get("labels") == "none":
        return
    for name in _SPLITS:
        given = data.get(name)
        for path in given if isinstance(given, ListConfig) else [given]:
            if not isinstance(path, str) or is_folder(user_path(path)):
                continue
            if (problem := file_problem(user_path(path))) is not None:
                raise InputError(f"data.{name}: {problem}.")


@contextmanager
def _below(node: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{node}.{error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[DictConfig], None]] = {
    "adapt": _training,
    "pretrain": _training,
    "correct": check_correct,
    "corrections": check_corrections,
    "export": _export,
    "transcribe": check_transcribe,
    "translate": _translate,
}
