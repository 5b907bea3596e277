"""The measure `attribution`: which part of the input made each word of an output, and which neurons carried it."""

from collections.abc import Sequence

from adapt.checks import check_counts
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import Method, attribute
from adapt.introspect.attribution.conductance import conductance
from adapt.introspect.attribution.network_input import Baseline
from adapt.introspect.attribution.result import AttributionResult, ExplainedWord
from adapt.introspect.attribution.words import output_words
from adapt.introspect.reading import select_examples, select_sites
from adapt.models.loaded import Loaded
from adapt.progress import track

# Steps of a path that are read at once, if each is a window of 30 s: the activations of all sites are kept.
WINDOWS = 1
STEPS, WINDOW_STEPS = 64, 16


def attribution(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    examples: str | Sequence[str] = "test",
    max_examples: int = 3,
    max_words: int = 12,
    method: Method = "integrated_gradients",
    baseline: Baseline = "even",
    steps: int | None = None,
    neurons: bool = True,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
) -> AttributionResult:
    """Attribute the first words of the model's outputs to the input, and to the neurons.

    Args:
        loaded: The model.
        splits: The data.
        loader: Not used: examples are read one at a time.
        examples: The splits to read.
        max_examples: Number of examples: the first ones.
        max_words: Number of words per example: the first ones.
        method: "integrated_gradients", "gradient_x_input" or "occlusion"
            (`adapt.introspect.attribution.attribution.attribute`).
        baseline: "even" or "silence".
        steps: Number of steps of integrated gradients; conductance takes half as many. None: 64, or 16 for a network
            that reads a window of 30 s, each of which takes about a second of a core. The gap tells what that costs.
        neurons: Whether to compute the conductance of neurons.
        sites: The sites of these neurons: a glob over names, or a list of names.
        part: "encoder", "decoder" or "cross-attention"; None: all parts.

    Raises:
        InputError: There is no such site, part, method or baseline, there is nothing to read, or the model's outputs
            are empty.
    """
    model = loaded.model
    window = model.reader.window is not None
    steps = (WINDOW_STEPS if window else STEPS) if steps is None else steps
    check_counts(1, max_examples=max_examples, max_words=max_words, steps=steps)
    if not isinstance(neurons, bool):
        raise InputError(f"neurons must be true or false; got {neurons!r}.")
    chosen_sites = select_sites(model, sites, part)
    chosen, _ = select_examples(model, splits, examples)
    words = [
        (number, example, word)
        for number, example in enumerate(chosen[:max_examples])
        for word in output_words(model, example)[:max_words]
    ]
    if not words:
        raise InputError("The model's outputs for these examples are empty, so there is no word to explain.")
    at_once = WINDOWS if window else 8
    explained: list[ExplainedWord] = []
    for number, example, word in track(words, "attribution"):
        carried = None
        if neurons:
            carried = conductance(model, example, word, chosen_sites, baseline, max(1, steps // 2), at_once)
        attributed = attribute(model, example, word, method, baseline, steps, at_once)
        explained.append(ExplainedWord(number, example.name, example.text, attributed, carried))
    return AttributionResult(method, baseline, tuple(explained))
