"""Verify corrections that come from a file, before they are stored: the model must give what they say."""

from collections.abc import Mapping
from pathlib import Path

import torch

from adapt.corrections.stored import check_records, example_of, protected_rows
from adapt.data.example import Example
from adapt.data.kinds import from_row, input_exists
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from interventions.corrections.checks import check_fit
from interventions.corrections.collection import Entry
from interventions.corrections.contents import Contents
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.packing import damage
from interventions.corrections.rows import Record
from interventions.intervene import intervene

_ALONE = Loader(batch_seconds=0, batch_tokens=0)
_FEWEST = 4  # protected examples, of which more than half may not change their answers


def check_layer(model: Model, layer: AffineLayer, place: Path | str) -> None:
    """Raise InputError if the model does not have the layer of these corrections."""
    sites = {site.name: site for site in model.sites}
    try:
        own = AffineLayer.at_site(model, sites[layer.site.name])
    except (KeyError, ValueError):
        own = None
    sizes = ("inputs", "kernel", "stride", "padding", "dilation", "convolution")
    same = own is not None and all(getattr(own, name) == getattr(layer, name) for name in sizes)
    if own is None or not same or (own.site.units, own.site.unit_axis) != (layer.site.units, layer.site.unit_axis):
        raise InputError(
            f"The corrections in '{place}' edit a layer '{layer.site.name[:200]}' of another shape than the model's. "
            "The file is damaged, or was made for another model."
        )


@torch.inference_mode(False)
def verify(loaded: Loaded, contents: Contents, place: Path | str) -> None:
    """Check corrections from a file against the model.

    Each correction whose input exists must give its text, with all others or alone. More than half of the protected
    examples must keep their answers. Inputs that do not exist, such as audio on another machine, cannot be checked.

    Raises:
        InputError: If a correction has no text, edits another layer, or does not do what it says.
    """
    records = [Record(one.number, one.made, one.author, one.facts, 0) for one in contents.corrections]
    check_records(records, place)
    checked, _ = protected_rows(contents.facts, place)
    check_layer(loaded.model, contents.memory.protected.layer, place)
    entries = {one.number: one.entry for one in contents.corrections if one.entry is not None}
    together = _memory(contents, entries)
    with damage(f"'{place}'", "Nothing was imported."):
        check_fit(together)
    model = loaded.model
    for one in contents.corrections:
        example = example_of(one.facts)
        if one.entry is None or example is None:
            continue
        text = one.facts["text"]
        answer = _answer(model, together, example)
        if answer != text:
            answer = _answer(model, _memory(contents, {one.number: one.entry}), example)
        if answer != text:
            raise InputError(
                f"Nothing was imported: correction {one.number} in '{place}' does not give its text '{text}', but "
                f"'{answer}'. The file is damaged, or was changed."
            )
    protected = [one for one in map(from_row, checked) if input_exists(one)]
    if entries and len(protected) >= _FEWEST:
        plain = decode_examples(model, model.task, protected, Loader())
        with intervene(model, together):
            now = decode_examples(model, model.task, protected, Loader())
        changed = sum(one != other for one, other in zip(plain, now, strict=True))
        if 2 * changed > len(protected):
            raise InputError(
                f"Nothing was imported: the corrections in '{place}' change {changed} of {len(protected)} protected "
                "answers. The file is damaged, or was changed."
            )


def _memory(contents: Contents, entries: Mapping[int, Entry]) -> Memory:
    empty = contents.memory
    memory = Memory.new(empty.protected, empty.ridge_strength, empty.folded)
    for number, entry in entries.items():
        memory.add(number, entry)
    return memory


def _answer(model: Model, memory: Memory, example: Example) -> str:
    with intervene(model, memory):
        return model.task.normalise(decode_examples(model, model.task, [example], _ALONE)[0])
