"""A small network that labels frames, and corrections of what it labels: what the tests of corrections share."""

import torch
from torch import Tensor, nn

from interventions.capture import capture
from interventions.corrections.correct import CorrectionResult, correct
from interventions.corrections.layer import AffineLayer, layer_inputs
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected
from interventions.corrections.search import Search
from interventions.sites import find_sites, length_mask


class Frames(nn.Module):
    """Convolutions over time, the padding masked before each, and a label for each frame: `(batch, 4, time)` in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv1d(4, 12, 3, padding=1), nn.Conv1d(12, 16, 5, padding=4, dilation=2)
        self.third, self.out = nn.Linear(16, 16), nn.Linear(16, 6)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(3)
                parameter.requires_grad_(False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        own = torch.ones(len(x), 1, x.shape[2], dtype=torch.bool)
        if lengths is not None:
            own = length_mask(lengths, x.shape[2]).unsqueeze(1)
        for conv in (self.first, self.second):
            x = nn.functional.gelu(conv(x * own))
        return self.out(nn.functional.gelu(self.third(x.mT)))


def inputs(number: int, time: int = 20) -> Tensor:
    """Example `number`: noise that changes slowly, `(1, 4, time)`."""
    draw = torch.Generator().manual_seed(1000 + number)
    return nn.functional.avg_pool1d(torch.randn(1, 4, time + 4, generator=draw), 5, 1) * 2


def protected(net: Frames, name: str = "second", number: int = 40) -> Protected:
    """What is known of the examples from 500 on at a layer."""
    layer = AffineLayer.at_site(net, next(site for site in find_sites(net) if site.name == name))
    read, put = [], []
    with torch.no_grad():
        for example in range(500, 500 + number):
            with layer_inputs(net, layer) as found, capture(net, layer.site) as acts:
                net(inputs(example))
            read.append(found[0][0])
            put.append(acts[layer.site][0])
    return Protected.fit(layer, read, put, dimensions=16)


def wanted(net: Frames, number: int) -> Tensor:
    """Labels that an example has not, and might have: those of four of its frames with another example's input."""
    x = inputs(number)
    start = 3 + number % 10
    x[..., start : start + 4] = inputs(number + 100)[..., start : start + 4]
    with torch.no_grad():
        return net(x).argmax(-1)[0]


def correct_one(net: Frames, memory: Memory, number: int, search: Search | None = None) -> CorrectionResult:
    """Correct an example by `wanted`."""
    x, labels = inputs(number), wanted(net, number)
    return correct(
        net, memory, number,
        lambda: nn.functional.cross_entropy(net(x)[0], labels),
        lambda: bool((net(x).argmax(-1)[0] == labels).all()),
        search=search or Search(steps=200, rate=0.02, residual_scale=5.0),
    )  # fmt: skip
