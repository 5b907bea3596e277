"""How often a multilingual recogniser detects the language of examples that say theirs."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from adapt.data.example import Example, language_of
from adapt.data.loader import Loader
from adapt.models.inference import decode_examples
from adapt.models.model import Model, SpeechDecoderModel
from adapt.transcription.any_length import read_at_once

log = logging.getLogger(__name__)


def language_accuracy(model: Model, examples: Sequence[Example], loader: Loader, name: str) -> float | None:
    """Return the share of examples in which a model detects the right language.

    Args:
        model: The model.
        examples: The examples; those without the key "lang" are left out.
        loader: Makes the batches.
        name: The name of the set, for messages.

    Returns:
        The share; None if the model does not detect languages, or no example has one.
    """
    at_once = read_at_once(model, {name: examples}).get(name, ())
    known = [example for example in at_once if language_of(example) is not None]
    if not known or not isinstance(model, SpeechDecoderModel) or not model.multilingual:
        return None
    task = replace(model.task, decode=lambda model, batch: model.detect_languages(batch.inputs, batch.lengths))
    found = decode_examples(model, task, known, loader, f"{name}, languages")
    right = sum(code == model.language_for(language_of(one)) for one, code in zip(known, found, strict=True))
    log.info("%s: the model detects the language of %d of %d %ss.", name, right, len(known), task.example_name)
    return right / len(known)
