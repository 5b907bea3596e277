"""Transcribe recordings to plain texts: short ones as a whole, long ones in pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.splits import check_examples
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.progress import seconds_bar
from adapt.transcription.transcribe import Decoding, is_long, is_silent, transcribe_recordings


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a recording; or the problem, as a sentence, if it cannot be read."""

    text: str
    problem: str | None = None


def transcribe_texts(
    model: Model,
    examples: Sequence[Utterance | Recording],
    loader: Loader,
    vad: bool = True,
    decoding: Decoding = "pieces",
) -> list[Text]:
    """Return the text of each recording, in their order.

    A recording that the model can read at once (`is_long` is false) is read as a whole. Longer ones are cut into pieces
    (`transcribe_recordings`), and so are all with `decoding="sequential"`. With `vad`, the text of
    silence is empty either way.

    Args:
        model: A speech recogniser.
        examples: The recordings.
        loader: Batches them.
        vad: See `transcribe_recordings`.
        decoding: See `transcribe_recordings`.

    Raises:
        InputError: the model has no sequential decoding.
    """
    in_pieces = [decoding == "sequential" or is_long(model, example) for example in examples]
    found: dict[int, Text] = {}
    numbers = {id(example): number for number, example in enumerate(examples)}
    usable = []
    for number, example in enumerate(examples):
        if not in_pieces[number]:
            one, problems = check_examples([example], model, training=False)
            usable += one
            if problems:
                found[number] = Text("", problems[0])
    texts = decode_examples(model, model.task, usable, loader, "transcribing")
    if vad:
        pairs = zip(usable, texts, strict=True)
        texts = ["" if text and is_silent(model, example) else text for example, text in pairs]
    found |= {numbers[id(example)]: Text(text) for example, text in zip(usable, texts, strict=True)}
    places = [number for number, long in enumerate(in_pieces) if long]
    with seconds_bar("transcribing", sum(_seconds(model, examples[number]) for number in places)) as advance:
        long = [examples[number] for number in places]
        for number, result in transcribe_recordings(
            model, long, vad=vad, decoding=decoding, loader=loader, progress=advance
        ):
            failed = isinstance(result, InputError)
            found[places[number]] = Text("", str(result)) if failed else Text(result.text)
    return [found[number] for number in range(len(examples))]


def _seconds(model: Model, example: Utterance | Recording) -> float:
    try:
        return model.reader.length(example)
    except InputError:
        return 0.0
