"""Rebuild a recogniser's output layer for another alphabet (Kunze et al. 2017)."""

import logging
from collections.abc import Iterable

from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.model import CTCModel, Model

log = logging.getLogger(__name__)


def with_alphabet(model: Model, alphabet: str, texts: Iterable[str]) -> Model:
    """Return a model for the alphabet: the model itself if the alphabet stays, else a copy with a new output layer.

    Args:
        model: The model.
        alphabet: "keep", "extend" (add the characters of `texts` that are missing), or "=" followed by the characters.
        texts: The texts that the model will be trained on.

    Returns:
        A model whose output units keep their weights for known characters, and have random weights for new ones.

    Raises:
        InputError: `alphabet` is none of these, or the model's alphabet is fixed by a tokenizer.
    """
    if alphabet == "keep":
        return model
    if not isinstance(model, CTCModel) or model.labels is None:
        raise InputError(
            f"alphabet={alphabet} needs a model with an alphabet of its own (wav2letter). The alphabet of this one is "
            "fixed by its tokenizer: leave the option out (alphabet=keep)."
        )
    if alphabet == "extend":
        labels = model.labels.extended(texts)
    elif str(alphabet).startswith("="):
        labels = Labels.of(str(alphabet)[1:])
    else:
        raise InputError(f"alphabet must be keep, extend, or '=' followed by the characters; got {alphabet!r}.")
    if labels == model.labels:
        return model
    kept = [c for c in labels.characters if c and c in model.labels.characters]
    new = [c for c in labels.characters if c not in model.labels.characters]
    log.info("Rebuilt the output layer: %d characters kept, %d new (%s).", len(kept), len(new), "".join(new))
    return model.with_labels(labels)
