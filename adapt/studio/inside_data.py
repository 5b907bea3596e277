"""How the room Inside sends the activity of layers: a header as JSON, then 16-bit floats, layer after layer."""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.formatting import short_names
from adapt.introspect.activity.activity import LayerActivity
from adapt.introspect.activity.places import Places
from adapt.introspect.attribution.words import words_of_tokens
from adapt.models.model import DecoderModel, Model

_LARGEST = 65_000.0  # of 16-bit floats


def packed(header: Mapping[str, Any], arrays: Sequence[Tensor]) -> bytes:
    """Return the length of the header (4 bytes, little-endian), the header, and the arrays as float16.

    The header is padded by spaces, so that the arrays begin at an even number of bytes.
    """
    text = json.dumps(header).encode()
    text += b" " * (len(text) % 2)
    parts = [one.clamp(-_LARGEST, _LARGEST).to(torch.float16).contiguous().numpy().tobytes() for one in arrays]
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def layer_header(
    activity: Mapping[str, LayerActivity], places: Mapping[str, Places], times: Sequence[float]
) -> list[dict[str, Any]]:
    """Return what a page has to know of each layer.

    Args:
        activity: The layers, by the name of the site.
        places: Their maps, by the name of the site.
        times: When each token of the answer is said, in seconds; empty for text.
    """
    layers = list(activity.values())
    names = short_names([layer.layer for layer in layers])
    return [
        {
            "site": layer.site.name,
            "layer": name,
            "part": layer.site.part,
            "units": layer.site.units,
            "kind": layer.kind,
            "steps": len(layer.values),
            "start": layer.start,
            "length": layer.length,
            "times": list(times) if layer.kind == "target" else [],
            "rows": places[layer.site.name].rows,
            "columns": places[layer.site.name].columns,
            "cells": list(places[layer.site.name].cells),
        }
        for layer, name in zip(layers, names, strict=True)
    ]


def token_times(
    model: Model, example: Example, words: Sequence[Mapping[str, Any]], seconds: float | None
) -> list[float]:
    """Return when each token of a decoder's text begins, in seconds, never earlier than the one before.

    Args:
        model: The model.
        example: The example, with the text that the decoder reads.
        words: The words of the answer with their times.
        seconds: The duration of the recording; None for a sentence.

    Returns:
        A time for each token; an empty list for text and for models without a decoder.
    """
    if seconds is None or not isinstance(model, DecoderModel):
        return []
    tokens = model.target(example)
    spoken = words_of_tokens(model, tokens)
    timed = len(spoken) == len(words) and all(word.get("start") is not None for word in words)
    if not timed:  # evenly, because nothing better is known
        return [seconds * place / len(tokens) for place in range(len(tokens))]
    times = [0.0] * len(tokens)
    for word, said in zip(spoken, words, strict=True):
        span = (said["end"] - said["start"]) / len(word.steps)
        for place, step in enumerate(word.steps):
            times[step] = said["start"] + place * span
    times[len(tokens) - 1] = max(times[len(tokens) - 1], words[-1]["end"] if words else 0.0)  # the end of the text
    for place in range(1, len(times)):
        times[place] = max(times[place], times[place - 1])
    return times
