"""Where across the layers a word was decided, as the pages draw it."""

from contextlib import suppress
from typing import Any

from adapt.data.example import Example
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.formatting import short_names
from adapt.introspect.attribution.words import Word
from adapt.introspect.lens.lens import LensStep, logit_lens
from adapt.introspect.lens.readouts import Readouts, fit_readouts
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, Model
from adapt.studio.recordings import Items

EXAMPLES, SECONDS = 24, 20.0  # that readouts are fitted on: the first ones at hand, and none that is longer


class Lenses:
    """Reads the layers of models, and keeps the readouts that were fitted for them.

    Args:
        items: The examples at hand, on which readouts are fitted.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._readouts: dict[str, Readouts | None] = {}

    def read(self, loaded: Loaded, example: Example, word: Word, other: Loaded | None = None) -> dict[str, Any]:
        """Return what each layer reads at each step of a word, as JSON data.

        Args:
            loaded: The model that wrote the word.
            example: What it read.
            word: The word.
            other: Another model that is read for the same units; None for none.
        """
        found: dict[str, Any] = {"own": self._one(loaded, example, word), "other": None}
        if other is not None and other.model.vocabulary == loaded.model.vocabulary:
            with suppress(InputError):  # it has other steps
                found["other"] = self._one(other, example, word)
        return found

    def _one(self, loaded: Loaded, example: Example, word: Word) -> dict[str, Any]:
        readouts = self._readouts_of(loaded)
        steps = logit_lens(loaded.model, example, word, readouts)
        names = [reading.layer for reading in steps[0].layers]
        short = dict(zip(names, short_names(names), strict=True))
        rows = [_row(steps, number, short) for number in range(len(names))]
        return {
            "units": [step.unit for step in steps],
            "decided": [None if step.decided is None else short[step.decided] for step in steps],
            "layers": rows,
            "chance": None if readouts is None else readouts.chance,
            "agreement": {} if readouts is None else {short[name]: at for name, at in readouts.agreement.items()},
        }

    def _readouts_of(self, loaded: Loaded) -> Readouts | None:
        if not isinstance(loaded.model, CTCModel):
            return None
        if loaded.fingerprint not in self._readouts:
            model = loaded.model
            try:
                self._readouts[loaded.fingerprint] = fit_readouts(model, self._sounds(model))
            except InputError:  # too few examples; those that are added may be enough
                return None
        return self._readouts[loaded.fingerprint]

    def _sounds(self, model: Model) -> list[Example]:
        found: list[Example] = []
        for item in self._items:
            if len(found) == EXAMPLES:
                break
            with suppress(InputError):  # a damaged file, for example
                length = 0.0 if isinstance(item.example, Pair) else model.reader.length(item.example)
                if 0 < length <= SECONDS:
                    samples = len(model.reader.read(item.example))
                    found += [item.example] if model.rejection_reason(item.example, samples, False) is None else []
        return found


def _row(steps: list[LensStep], number: int, short: dict[str, str]) -> dict[str, Any]:
    readings = [step.layers[number] for step in steps]
    return {
        "layer": short[readings[0].layer],
        "part": readings[0].part,
        "fitted": readings[0].fitted,
        "cells": [[one.likeliest[0][0], one.likeliest[0][1], one.probability, one.first] for one in readings],
    }
