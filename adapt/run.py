"""A run's folder: its options, its state, its results. A run is finished when there is a `metrics.json`."""

import logging
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adapt import run_files
from adapt.distributed import is_first
from adapt.errors import InputError, as_input_errors
from adapt.files import exists, folder_problem, is_file, make_folder, user_path, write_json, write_text
from adapt.renamed import translate
from adapt.run_files import FileRecorder
from adapt.run_lock import RunLock, check_unlocked

log = logging.getLogger(__name__)

# Options that may change when a killed run is resumed.
_FREE = ("resume", "overwrite", "output", "logger", "dry_run")
_MAY_DIFFER = (*_FREE, "title", "device", "keep_checkpoints")  # between the runs: nothing depends on them
# Where these options are null, the model's family fills them in once it is loaded; only then are they compared.
_FILLED_IN = ("optimizer.lr", "trainer.max_epochs", "schedule", "warmup", "loader.speeds", "loader.batch_tokens")
# Options that version 0.2.0 did not have. Its runs go on as they began (`adapt.training.prepare`).
_ADDED = (
    "blend", "forget", "timestamps", "normalise", "written_like", "labels", "non_speech", "unlabelled.",
    "data.source_validation", "data.check",
)  # fmt: skip
# Tells the other training processes the first one's folder, whose name may contain the time.
_FOLDER = "INNERTUNE_RUN"


@dataclass
class _OpenRun:
    """The run that this process works on. `card` is the card that `close_run` wrote; None before."""

    folder: Path
    recorder: FileRecorder
    lock: RunLock | None
    card: dict[str, Any] | None = None


_current: _OpenRun | None = None
_begun: set[Path] = set()  # the folders of which it was said that there is nothing to resume


def check_output(cfg: DictConfig) -> Path:
    """Return the output folder if a run may write there. It is cheap and writes nothing, so call it first.

    Raises:
        InputError: the folder holds a finished run, or an unfinished one without `resume` or `overwrite`; another
            process works in it; the run to resume had other options, or its options cannot be read; or a multirun would
            train in several processes.
    """
    folder = output_folder(cfg)
    check_flags(cfg)
    if not is_first():
        return folder
    problem = folder_problem(folder)
    if problem is not None:
        raise InputError(f"output={folder}: {problem}. Give a folder that can be written.")
    devices = cfg.get("trainer", {}).get("devices", 1)
    if _is_multirun() and devices not in (1, "1"):
        raise InputError(
            f"-m does not work with trainer.devices={devices}: helping processes are started with the same command "
            "line. Start one run after another, or give trainer.devices=1."
        )
    check_unlocked(folder)
    if cfg.overwrite:
        return folder
    if cfg.resume and not is_file(folder / "config.yaml"):
        _say_that_it_starts_anew(folder)
    if is_file(folder / "metrics.json"):
        raise InputError(
            f"'{folder}' already holds a finished run. Give another output=..., or overwrite=true to replace it."
        )
    saved = folder / "config.yaml"
    if is_file(saved):
        if not cfg.resume:
            raise InputError(f"'{folder}' holds an unfinished run. Give resume=true to continue it, or overwrite=true.")
        _check_same_options(folder, _flat(_saved(saved)), _flat(without_free(cfg)))
    elif run_files.read_list(folder) is None:
        theirs = [name for name in ("report.html", "card.json") if exists(folder / name)]
        if theirs:
            raise InputError(
                f"'{folder / theirs[0]}' is not from a run, and this run would replace it. Give another output=..., or "
                "overwrite=true to replace it."
            )
    return folder


def _say_that_it_starts_anew(folder: Path) -> None:
    """Warn once that there is nothing to resume, and name an unfinished run that may be meant.

    It is no error: a job that is put into the queue again has the command that it was first started with.
    """
    if folder in _begun:
        return
    _begun.add(folder)
    beside = folder.absolute().parent
    unfinished = [
        path.parent.name for path in beside.glob("*/config.yaml") if not is_file(path.parent / "metrics.json")
    ]
    near = get_close_matches(folder.name, [name for name in unfinished if name != folder.name], 1, 0.75)
    meant = f" '{folder.parent / near[0]}' holds an unfinished run." if near else ""
    log.warning("Nothing to resume in '%s': the run starts from the beginning.%s", folder, meant)


def open_run(cfg: DictConfig) -> Path:
    """Lock the output folder, save the options in it, and start the list of the files that are written there.

    Call it after all other checks. Only the first process of a distributed run locks the folder.

    Raises:
        InputError: as `check_output`; or with `overwrite`, a file of the old run cannot be deleted.
    """
    global _current

    end_run()
    folder = check_output(cfg)
    if not is_first():
        _current = _OpenRun(folder, FileRecorder(folder, None), None)
        return folder
    make_folder(folder)
    with as_input_errors():  # of places like /proc, in which no file can be created
        lock = RunLock(folder, command_line())
    try:
        check_output(cfg)  # another process may have finished in the meantime
        resumes = cfg.resume and not cfg.overwrite and is_file(folder / "config.yaml")
        listed = _listed(folder) if cfg.overwrite or resumes else run_files.read_list(folder)
        if cfg.overwrite:
            run_files.delete(folder, listed or ())
            listed = []
        last = folder / "checkpoints" / "last.ckpt"
        if not resumes and exists(last):
            raise InputError(
                f"'{last}' is a checkpoint of another run, which this one would continue. Delete it, or give another "
                "output=..."
            )
        _current = _OpenRun(folder, FileRecorder(folder, listed or ()), lock)
    except BaseException:
        lock.release()
        raise
    os.environ[_FOLDER] = str(folder.absolute())
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    return folder


def close_run(folder: Path, metrics: dict[str, Any], card: dict[str, Any]) -> None:
    """Write the card with the list of the run's files, and the metrics last: then the run counts as finished."""
    run = _current if _current is not None and _current.folder == folder else None
    if run is not None:
        run.card = card
        card = card | {"files": sorted({*run.recorder.existing(), "card.json", "metrics.json"})}
    write_json(folder / "card.json", card)
    write_json(folder / "metrics.json", metrics)


def discard_checkpoints(folder: Path, keep: bool = False) -> None:
    """Delete the checkpoints of a finished run, those of its trials and rounds included, unless `keep` is true."""
    for name in () if keep else run_files.read_list(folder) or ():
        if Path(name).parent.name == "checkpoints" and ".ckpt" in Path(name).name:
            with suppress(OSError):  # they are in nobody's way
                (folder / name).unlink()


def end_run() -> None:
    """Complete the list of files and unlock the folder of this process's run, finished or not, if it has one."""
    global _current

    run, _current = _current, None
    if run is None:
        return
    try:
        run.recorder.stop(tidy=run.lock is not None)
        if run.card is not None:  # loggers may have written after the card
            write_json(run.folder / "card.json", run.card | {"files": run_files.read_list(run.folder)})
    finally:
        if run.lock is not None:
            run.lock.release()


def how_to_continue() -> str:
    """Return a sentence that says how to continue the unfinished run of this process; "" if there is none."""
    from hydra.core.hydra_config import HydraConfig

    run = _current
    if run is None or is_file(run.folder / "metrics.json"):
        return ""
    again = f"{command_line()} {shlex.quote(f'output={run.folder}')}"
    if HydraConfig.initialized() and HydraConfig.get().job.config_name == "plan":
        return f"What is finished is kept. To continue with resume=true: {again} resume=true"
    if not HydraConfig.initialized() or HydraConfig.get().job.config_name not in ("adapt", "pretrain"):
        return f"To start this run again: {again} overwrite=true"
    if is_file(run.folder / "checkpoints" / "last.ckpt"):
        return f"All complete epochs are kept. To continue with resume=true: {again} resume=true"
    return f"No epoch was complete. To start again with resume=true: {again} resume=true"


def output_folder(cfg: DictConfig) -> Path:
    """Return where a command writes: `cfg.output`, or in a multirun the job's own folder below it."""
    from hydra.core.hydra_config import HydraConfig

    if not is_first() and _FOLDER in os.environ:
        return Path(os.environ[_FOLDER])
    if _is_multirun():
        return Path(HydraConfig.get().runtime.output_dir)
    return user_path(cfg.output)


def check_flags(cfg: DictConfig) -> None:
    """Raise InputError if the seed is not a whole number, the title not a text, or a switch neither true nor false."""
    if not isinstance(cfg.seed, int) or isinstance(cfg.seed, bool) or not 0 <= cfg.seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to {2**32 - 1}, got {cfg.seed!r}.")
    if isinstance(cfg.get("title"), (DictConfig, ListConfig)):
        raise InputError(f"title must be a text, got {cfg.title}. Put it in quotes: \"title='[draft] Scottish'\".")
    for name in ("resume", "overwrite", "dry_run", "keep_checkpoints"):
        if name in cfg and not isinstance(cfg[name], bool):
            raise InputError(f"{name} must be true or false, got {cfg[name]!r}.")


def command_line() -> str:
    """Return the command that reproduces the run, without its output folder."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    overrides = [_as_given(text) for text in hydra.overrides.task if text.lstrip("+").split("=")[0] not in _FREE]
    return " ".join(["innertune", str(hydra.job.config_name), *(shlex.quote(text) for text in overrides)])


def _as_given(override: str) -> str:
    """Return an override without the double quotes in which the command line puts texts and paths for Hydra."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, _, value = override.partition("=")
    if not (len(value) > 1 and value[0] + value[-1] == '""'):
        return override
    # A `${` is not escaped any more: OmegaConf took its backslash when it read the override.
    return f"{key}={OverridesParser.create().parse_override(override).value()}"


def which_run() -> str:
    """Return, for messages of a multirun, its number and what is its own; "" for a single run."""
    from hydra.core.hydra_config import HydraConfig

    if not _is_multirun():
        return ""
    hydra = HydraConfig.get()
    return f"run {hydra.job.num} ({' '.join(map(_as_given, hydra.overrides.task))}): "


def without_free(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved options that affect the result."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key not in _MAY_DIFFER}


def _listed(folder: Path) -> list[str]:
    listed = run_files.read_list(folder)
    if listed is None and is_file(folder / "config.yaml"):
        _check_is_run(folder / "config.yaml")
        return run_files.old_files(folder)
    return listed or []


def _check_is_run(config: Path) -> None:
    try:
        saved = OmegaConf.load(config)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError):
        return  # damaged, as a failing disk may leave it
    if saved and "seed" not in saved:
        raise InputError(
            f"'{config}' is not the file of a run: it has no seed. overwrite=true deletes runs only. Give another "
            "output=..., or move the file."
        )


def _saved(path: Path) -> dict[str, Any]:
    # The file was written whole, but a user's edit or a failing disk may have damaged it.
    try:
        saved = OmegaConf.load(path)
        if isinstance(saved, DictConfig) and saved:
            # Its interpolations were resolved before it was written: a `${` in it is part of a text.
            values = OmegaConf.to_container(saved, resolve=False)
            assert isinstance(values, dict)
            return {str(key): value for key, value in values.items() if key not in _MAY_DIFFER}
        problem = "it is empty" if not saved else "it holds no options"
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
    raise InputError(
        f"'{path}' cannot be read ({problem}). It holds the options that the run was started with. Restore it, or give "
        "overwrite=true to start again, or another output=..."
    )


def _check_same_options(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    before, now = translate(before, now), _comparable(now)
    before = _comparable(before)
    open_ones = {key for key in _FILLED_IN if now.get(key) is None or before.get(key, now) is None}
    open_ones |= {key for key in now if key not in before and key.startswith(_ADDED)}
    different = sorted(key for key in (before | now).keys() - open_ones if before.get(key) != now.get(key))
    if different:
        key = different[0]
        raise InputError(
            f"The run in '{folder}' was started with {key}={before.get(key)}, not {now.get(key)}. "
            "Resume with the same options, or give another output=..."
        )


def _comparable(flat: dict[str, Any]) -> dict[str, Any]:
    # Our own functions may have moved to another module since the run was started.
    return {
        key: value.rpartition(".")[2] if key.endswith("_target_") and str(value).startswith("adapt.") else value
        for key, value in flat.items()
    }


def _is_multirun() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
