"""Cut the long recordings of a run's data into utterances, and keep how they were cut in the run's folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from adapt.data.manifest import Splits
from adapt.data.splits import SPLITS
from adapt.files import is_file, read_json, write_json
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.transcription.cut_long import TextPart, cut_examples

NAME = "cuts.json"
Cuts = Mapping[str, tuple[TextPart, ...]]  # the parts of each recording that was cut, by its key


def cut_splits(
    base: Loaded, model: Model, splits: Splits, resume_from: Path | str | None = None
) -> tuple[Splits, Cuts, list[str]]:
    """Cut the recordings that are longer than a model reads at once (`adapt.transcription.cut_long`).

    Test recordings are not cut: they are read as a whole (`adapt.transcription.any_length`), since what an alignment
    leaves out would make the scores look better.

    Args:
        base: The base of the run.
        model: The base with the alphabet of the run.
        splits: The examples.
        resume_from: The folder of an interrupted run, whose cuts are used again if it has the same base.

    Returns:
        The splits with the parts in place of the long recordings, how these were cut, and a sentence for each part that
        was left out.
    """
    known = {} if resume_from is None else _read(Path(resume_from) / NAME, base.fingerprint)
    parts: dict[str, Any] = {}
    found: dict[str, tuple[TextPart, ...]] = {}
    problems: list[str] = []
    for name in (name for name in SPLITS if name not in ("test", "source_test")):
        cut = cut_examples(model, getattr(splits, name), None, name, known)
        parts[name] = cut.examples
        found |= cut.found
        problems += cut.problems
    cuts = {f"{base.fingerprint} {key}": own for key, own in found.items()}
    return replace(splits, **parts), cuts, problems


def save_cuts(folder: Path, cuts: Cuts) -> None:
    """Write how recordings were cut into a run's folder, if any were."""
    if cuts:
        write_json(folder / NAME, {key: [asdict(part) for part in parts] for key, parts in cuts.items()})


def _read(path: Path, fingerprint: str) -> dict[str, list[TextPart]]:
    if not is_file(path):
        return {}
    try:
        stored = read_json(path)
        return {
            key.removeprefix(f"{fingerprint} "): [TextPart(**part) for part in parts]
            for key, parts in stored.items()
            if key.startswith(f"{fingerprint} ")
        }
    except (OSError, json.JSONDecodeError, TypeError, ValueError, AttributeError):  # cut them again
        return {}
