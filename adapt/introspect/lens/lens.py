"""Read each layer as if it were the last: where a word of the answer is decided (logit lens, DecoderLens).

    readouts = fit_readouts(model, examples)               # only for layers without a common space, see below
    for word in output_words(model, example):
        for step in logit_lens(model, example, word, readouts):
            print(step.unit, step.decided)                 # the layer from which on this unit stays first

All transformer layers of a stack write into one space, the residual stream. So the state after any of them can take
the place of the state after the last one, and the model goes on from there with its own final norm and output layer:

- Layers of a decoder, and of the encoder of a CTC model: the logit lens (nostalgebraist 2020, "interpreting GPT: the
  logit lens"). Nothing is fitted, and the last layer reads what the model answers, bit for bit.
- Layers of an encoder in front of a decoder: the whole decoder reads the state in place of the encoder's output
  (DecoderLens: Langedijk et al. 2023, arXiv 2310.03686).
- Convolutions of a CTC model have no common space: see `fit_readouts`. Without readouts they are left out. Those in
  front of an encoder-decoder are always left out, because what follows them is no output.

A low probability at a layer does not prove that the layer does not know the unit, only that the last layer's readout
does not find it there. Post-norm networks, whose norms follow each layer, are read less well than pre-norm ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.errors import InputError
from adapt.introspect.attribution.runners_up import characters
from adapt.introspect.attribution.words import Word, single_batch
from adapt.introspect.lens.readouts import Readouts, chain_layers, chain_states
from adapt.introspect.lens.states import (
    decoder_blocks,
    encoder_blocks,
    encoder_of,
    encoder_outputs,
    output_logits,
    replacing,
    replacing_output,
    states_of,
)
from adapt.models.encoder_cache import cached_encoder
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model


@dataclass(frozen=True)
class LayerReading:
    """What a layer would write at one step.

    Attributes:
        layer: The name of the layer.
        part: "encoder" or "decoder".
        fitted: Whether a fitted readout read it, and not the model's own last layers.
        likeliest: The likeliest units with their probabilities, the likeliest first. "" is CTC's blank.
        probability: The probability of the answer's unit here.
        first: Whether the answer's unit is the likeliest here.
    """

    layer: str
    part: str
    fitted: bool
    likeliest: tuple[tuple[str, float], ...]
    probability: float
    first: bool


@dataclass(frozen=True)
class LensStep:
    """One character or token of a word, as each layer reads it.

    Attributes:
        unit: What the answer has there.
        layers: The readings from input to output. The last one is the model's own answer, as is that of the last layer
            of an encoder in front of a decoder.
    """

    unit: str
    layers: tuple[LayerReading, ...]

    @property
    def decided(self) -> str | None:
        """The first layer of the output's own stack from which on the unit stays the likeliest; None if it never does.

        For an encoder-decoder that is a layer of the decoder.
        """
        return self.decided_in(self.layers[-1].part)

    def decided_in(self, part: str) -> str | None:
        """Return the first layer of a part from which on the unit is the likeliest up to the part's last layer."""
        found = None
        for reading in reversed([reading for reading in self.layers if reading.part == part]):
            if not reading.first:
                break
            found = reading.layer
        return found


@torch.no_grad()
def logit_lens(
    model: Model, example: Example, word: Word, readouts: Readouts | None = None, count: int = 3
) -> list[LensStep]:
    """Read each step of a word in every layer.

    To see an answer before and after an adaptation, give the same word to both models: `probability` and `decided` are
    then those of the same units at the same steps.

    Args:
        model: The model.
        example: The example that the model reads.
        word: One of the words that `output_words` returns, for this model or another one with the same output units.
        readouts: For a CTC model, what `fit_readouts` returned; None leaves out the layers that need one.
        count: How many of the likeliest units each layer shows.

    Returns:
        The tokens of the word, or its characters, each at the step where it is likeliest.

    Raises:
        InputError: The model does not have the units of the word.
    """
    check_count("count", count, 1)
    if any(unit >= len(model.vocabulary) for unit in word.units):
        raise InputError(f"The model has {len(model.vocabulary)} output units, and the word {word.text!r} has others.")
    with eval_mode(model):
        if isinstance(model, DecoderModel):
            if not word.prefix:
                raise InputError(f"The word {word.text!r} was written by a CTC model. Give a word of a decoder.")
            return _decoder(model, example, word, count)
        assert isinstance(model, CTCModel)
        return _ctc(model, example, word, readouts, count)


_Read = tuple[str, str, bool, Tensor]  # the layer, its part, whether it is fitted, probabilities (steps, units)


def _ctc(model: CTCModel, example: Example, word: Word, readouts: Readouts | None, count: int) -> list[LensStep]:
    batch = single_batch(model, example)

    def run() -> Any:
        return model(batch.inputs, batch.lengths)

    layers: list[_Read] = []
    if readouts is not None:
        read = {name: module for name, module in chain_layers(model).items() if name in readouts.maps}
        states, _ = chain_states(model, example, read)
        layers = [(name, "encoder", True, readouts.logits(name, state).softmax(-1)) for name, state in states.items()]
    blocks = encoder_blocks(model)
    own: list[Tensor] = []
    logits = output_logits(model, lambda: own.extend(states_of(model, blocks, run)[0]))
    if len(blocks) > 1:
        with replacing(model, blocks[-1], torch.cat(own[:-1])):
            early = _chances(output_logits(model, run))
        layers += [(name, "encoder", False, chances) for name, chances in zip(blocks[:-1], early, strict=True)]
    final = _chances(logits)[0]
    layers.append((blocks[-1] if blocks else model.head, "encoder", False, final))
    if word.steps[-1] >= len(final):
        raise InputError(f"The answer has {len(final)} steps, and the word {word.text!r} has others.")
    vocabulary, blank = model.vocabulary, model.blank
    steps = characters(word, final)
    return _steps(layers, steps, count, lambda unit: "" if unit == blank else vocabulary[unit])


def _decoder(model: DecoderModel, example: Example, word: Word, count: int) -> list[LensStep]:
    batch = single_batch(model, example)
    tokens = torch.tensor([word.prefix], device=batch.inputs.device)

    def run() -> Tensor:
        return model(batch.inputs, batch.lengths, tokens)

    layers: list[_Read] = []
    names, blocks = encoder_blocks(model), decoder_blocks(model)
    with cached_encoder(model, keep=False):
        states, logits = states_of(model, blocks, run)
        for name, output in zip(names[:-1], encoder_outputs(model, run), strict=True):
            with replacing_output(encoder_of(model), output):
                layers.append((name, "encoder", False, _chances(run())[0]))
        final = _chances(logits)[0]
        layers.append((names[-1], "encoder", False, final))
        if len(blocks) > 1:
            with replacing(model, blocks[-1], torch.cat(states[:-1])):
                early = _chances(run())
            layers += [(name, "decoder", False, chances) for name, chances in zip(blocks[:-1], early, strict=True)]
    layers.append((blocks[-1], "decoder", False, final))
    tokenizer: Any = model.tokenizer
    steps = list(zip(word.units, word.steps, strict=True))
    return _steps(layers, steps, count, lambda unit: tokenizer.decode([unit]).strip())


def _chances(logits: Tensor) -> Tensor:
    return logits.float().softmax(-1).cpu()


def _steps(
    layers: Sequence[_Read], steps: Sequence[tuple[int, int]], count: int, name: Callable[[int], str]
) -> list[LensStep]:
    found = []
    for unit, step in steps:
        readings = []
        for layer, part, fitted, chances in layers:
            values, units = chances[step].topk(min(count, chances.shape[1]))
            likeliest = tuple((name(one), float(value)) for one, value in zip(units.tolist(), values, strict=True))
            first = int(chances[step].argmax()) == unit
            readings.append(LayerReading(layer, part, fitted, likeliest, float(chances[step, unit]), first))
        found.append(LensStep(name(unit), tuple(readings)))
    return found
