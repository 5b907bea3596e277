"""The examples with which an export proves itself: given ones, the run's test data, or made ones."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from adapt.data.example import Example
from adapt.data.inputs import find_audio, read_sources
from adapt.data.manifest import read_manifest
from adapt.data.pairs import read_pairs_file
from adapt.data.splits import check_examples
from adapt.errors import InputError
from adapt.export.run_card import RunCard
from adapt.models.model import Model

COUNT = 20


def given_examples(model: Model, place: str) -> list[Example]:
    """Return the first `COUNT` examples of a file or folder that the model can read.

    Args:
        model: The model.
        place: Audio files, a folder or a manifest; for a translation model, a file of sentences or pairs.

    Raises:
        InputError: there is no such file, or the model can read none of its examples.
    """
    found: Sequence[Any]
    if model.reads_audio:
        found = find_audio([place], "examples")[0]
    else:
        found = [pair for pair in read_sources(place, "examples")[0] if pair.source.strip()]
    usable = _usable(model, found)
    if not usable:
        raise InputError(f"examples={place}: the model can read none of its {len(found)} examples.")
    return usable


def own_examples(model: Model, run: RunCard) -> tuple[list[Example], str]:
    """Return `COUNT` examples of the run's test data; without a run, made ones.

    Returns:
        The examples, and a sentence that says why there are none, if there are none.
    """
    try:
        usable = _usable(model, _of_run(model, run) or _made(model))
    except (InputError, OSError) as error:
        return [], f"its examples cannot be read ({error})"
    if usable:
        return usable, ""
    if model.reads_audio:
        return [], "there are no recordings. Name some: examples=test.jsonl"
    return [], "there are no sentences. Name some: examples=test.jsonl"


def _usable(model: Model, examples: Sequence[Any]) -> list[Example]:
    return list(check_examples(examples[: 3 * COUNT], model, training=False, name="examples")[0][:COUNT])


def _of_run(model: Model, run: RunCard) -> Sequence[Any]:
    """Return the test data of a run whose data are files."""
    target = str(run.get("data", "_target_")).rpartition(".")[2]
    place = run.get("data", "test") or run.get("data", "validation")
    if target == "read_splits" and isinstance(place, str) and model.reads_audio:
        columns = [run.get("data", name) for name in ("audio_column", "text_column", "audio_folder")]
        return read_manifest(place, False, *columns)[0]
    if target == "read_pairs" and place and not model.reads_audio:
        names = ("source_column", "target_column", "source_lang", "target_lang")
        return read_pairs_file(place, True, *[run.get("data", name) for name in names])[0]
    return []


def _made(model: Model) -> Sequence[Any]:
    """Return synthetic English examples, where they can be made."""
    if not model.reads_audio:
        from adapt.data.synthetic.domains import domains

        return domains(train=0, validation=0, test=COUNT, source_test=0).test
    if find_spec("espeakng_loader") is None:
        return []
    from adapt.data.synthetic.accents import accents

    return accents(train=0, validation=0, test=COUNT, source_test=0).test
