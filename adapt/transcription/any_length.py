"""Decode examples of any length: recordings that a model does not read at once are read in pieces.

Test sets are read so. Nothing is cut by an alignment with the reference, which would leave out what the model reads
badly: the whole answer is compared with the whole text.
"""

import logging
from collections.abc import Mapping, Sequence

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.models.task import Task
from adapt.progress import seconds_bar
from adapt.transcription.transcribe import is_long, transcribe_recordings

log = logging.getLogger(__name__)


def decode_any_length(
    model: Model, task: Task, examples: Sequence[Example], loader: Loader, what: str = "decoding"
) -> list[str]:
    """Return the model's text for each example, in their order.

    Short examples are read as a whole (`adapt.models.inference.decode_examples`), and recordings that the model does
    not read at once (`is_long`) in pieces (`transcribe_recordings`).

    Args:
        model: The model.
        task: The task that decodes what is short; usually `model.task`, which decodes the pieces.
        examples: Utterances or sentence pairs to decode.
        loader: Batches the examples.
        what: The label of the progress bar.

    Raises:
        InputError: a long recording cannot be read.
    """
    long = _long(model, examples)
    if not long:
        return decode_examples(model, task, examples, loader, what)
    texts: dict[int, str] = {}
    short = [number for number in range(len(examples)) if number not in long]
    if short:
        decoded = decode_examples(model, task, [examples[number] for number in short], loader, what)
        texts |= dict(zip(short, decoded, strict=True))
    places, recordings = list(long), list(long.values())
    seconds = sum(map(model.reader.length, recordings))
    log.info("%s: %d recordings (%.1f min) are longer than the model reads at once: they are read in pieces.",
             what, len(recordings), seconds / 60)  # fmt: skip
    with seconds_bar(f"{what}, long recordings", seconds) as advance:
        for number, result in transcribe_recordings(model, recordings, loader=loader, progress=advance):
            if isinstance(result, InputError):
                raise result
            texts[places[number]] = result.text
    return [texts[number] for number in range(len(examples))]


def read_at_once(model: Model, sets: Mapping[str, Sequence[Example]]) -> dict[str, Sequence[Example]]:
    """Return the sets without recordings that the model does not read at once, and without sets that become empty.

    What looks into a model, such as its activations or its losses, needs them; the log tells how many are left out.
    """
    kept: dict[str, Sequence[Example]] = {}
    for name, examples in sets.items():
        long = _long(model, examples)
        if long:
            log.info("%s: %d long recordings are compared by their texts only.", name, len(long))
        own = [example for number, example in enumerate(examples) if number not in long]
        if own:
            kept[name] = own if long else examples
    return kept


def _long(model: Model, examples: Sequence[Example]) -> dict[int, Utterance | Recording]:
    if not model.reads_audio:
        return {}
    return {
        number: example
        for number, example in enumerate(examples)
        if isinstance(example, (Utterance, Recording)) and is_long(model, example)
    }
