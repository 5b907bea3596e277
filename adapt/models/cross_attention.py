"""Where a decoder looks: its cross-attention while it reads a text, for the times of words."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapt.models.model import SpeechDecoderModel

_KEYS = ("k_proj", "key")


@dataclass(frozen=True)
class Attended:
    """A pass of a decoder over texts.

    Attributes:
        attention: For each group of heads, `(batch, tokens, steps)`: the mean of their weights over the steps of the
            audio.
        log_probs: `(batch, tokens)`, the log-probability of each token, given the tokens before it.
        steps: `(batch,)`, the valid steps of each example.
        step: The duration of a step in seconds.
    """

    attention: tuple[Tensor, ...]
    log_probs: Tensor
    steps: Tensor
    step: float


def attend(model: SpeechDecoderModel, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Attended:
    """Run a model over texts and keep the cross-attention of two groups of heads.

    The groups are the heads that are known to follow the audio (`SpeechDecoderModel.alignment_heads`), if any are, and
    all heads of the upper half of the decoder.

    Args:
        model: The model, in eval mode.
        inputs: `(batch, samples)`.
        lengths: `(batch,)` in samples.
        targets: `(batch, tokens)` as `forward` takes them.
    """
    keys = [site for site in model.sites if site.part == "cross-attention" and site.name.endswith(_KEYS)]
    layers = [site.name.rpartition(".")[0] for site in keys]
    upper: dict[int, list[int] | None] = {number: None for number in range(len(layers) // 2, len(layers))}
    known: dict[int, list[int] | None] = {}
    for layer, head in model.alignment_heads or ():
        known[layer] = [*(known.get(layer) or ()), head]
    sums = [_Sum(group) for group in (known, upper) if group]
    with _eager([model.get_submodule(name) for name in layers]), _watched(model, layers, sums):
        logits = model(inputs, lengths, targets)
    chosen = targets.clamp_min(0).unsqueeze(-1).to(logits.device)
    log_probs = torch.log_softmax(logits.float(), -1).gather(-1, chosen).squeeze(-1)
    site = keys[0]
    step = site.step
    if step is None:
        raise RuntimeError(f"The duration of a step of '{site.name}' is not known.")
    means = tuple(one.mean() for one in sums)
    return Attended(means, log_probs, model.valid_lengths(site, lengths), step.length)


class _Sum:
    """The sum of the weights of a group of heads: for each layer its heads, None for all."""

    def __init__(self, group: dict[int, list[int] | None]) -> None:
        self.group, self.total, self.heads = group, torch.zeros(0), 0

    def add(self, number: int, weights: Tensor) -> None:
        if number in self.group:
            heads = self.group[number]
            own = weights if heads is None else weights[:, heads]
            total = own.float().sum(dim=1)
            self.total, self.heads = (self.total + total if self.heads else total), self.heads + own.shape[1]

    def mean(self) -> Tensor:
        return self.total / self.heads


@contextmanager
def _eager(attentions: Sequence[nn.Module]) -> Iterator[None]:
    # Only the plain implementation of attention returns its weights.
    configs = {id(one.config): one.config for one in cast(Any, attentions)}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


@contextmanager
def _watched(model: nn.Module, layers: Sequence[str], sums: Sequence[_Sum]) -> Iterator[None]:
    """Add the weights of each layer to the sums; nothing else of them stays in memory."""

    def watch(number: int) -> Any:
        def hook(_module: nn.Module, _given: Any, output: Any) -> None:
            for one in sums:
                one.add(number, output[1].detach())

        return hook

    handles = [model.get_submodule(name).register_forward_hook(watch(number)) for number, name in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
