"""Convert speech data of any format to a manifest, describe them, and split them by speaker."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from adapt.checks import check_choice, check_count, check_flag
from adapt.data.describe import manifest
from adapt.data.manifest import Utterance, manifest_line, write_manifest
from adapt.data.parts import check_shares, sizes, split_data
from adapt.data.splits import stop_or_skip
from adapt.errors import InputError, as_input_errors
from adapt.files import exists, folder_problem, user_path
from adapt.terminal import log_to_stderr

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Read `cfg.input`, and write one manifest, or with `cfg.split` one for each part. Messages go to stderr."""
    log_to_stderr()
    check_count("seed", cfg.seed)
    check_flag("overwrite", cfg.overwrite)
    split = list(cfg.split) if OmegaConf.is_list(cfg.split) else cfg.split
    if split is not None:
        check_shares(split)
        check_choice("split_by", cfg.split_by, ("speaker", "utterance"))
    output = None if cfg.output is None else user_path(str(cfg.output))
    _check_output(output, split is not None, cfg.overwrite)
    options = {str(key): value for key, value in cfg.data.items() if key != "on_error"}
    data = manifest(str(cfg.input), **options)
    stop_or_skip(data.problems, cfg.data.on_error)
    for problem in data.problems:
        log.info("Skipped: %s", problem)
    for line in data.facts.lines():
        log.info("%s", line)
    if split is None:
        _write(output, data.utterances)
        return
    assert output is not None
    parts = split_data(data, split, cfg.split_by, cfg.seed)
    for name, utterances in parts.items():
        _write(output / f"{name}.jsonl", utterances)
    log.info("%s", sizes(parts))


def _check_output(output: Path | None, is_folder: bool, overwrite: bool) -> None:
    if output is None:
        if is_folder:
            raise InputError("split writes several files: give a folder for them, output=FOLDER.")
        return
    problem = folder_problem(output if is_folder else output.absolute().parent)
    if problem is not None:
        raise InputError(f"output={output}: {problem}. Give another one.")
    files = [output / f"{name}.jsonl" for name in ("train", "validation", "test")] if is_folder else [output]
    there = [path for path in files if exists(path)]
    if there and not overwrite:
        raise InputError(f"'{there[0]}' exists already. Give another output=..., or overwrite=true to replace it.")


def _write(path: Path | None, utterances: Sequence[Utterance]) -> None:
    if path is None:
        for utterance in utterances:
            sys.stdout.buffer.write(manifest_line(utterance).encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
        return
    with as_input_errors():
        write_manifest(path, utterances)
    log.info("Wrote %s", path)
