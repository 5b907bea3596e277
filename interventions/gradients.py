"""Capture gradients: read the activations of chosen sites and their gradients in one forward and one backward pass."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interventions.blocks import hooked
from interventions.hooks import NeverRanError, hidden_state, module_at, units_last, with_hidden
from interventions.sites import Site

ReduceGradient = Callable[[Site, Tensor, Tensor], None]


@contextmanager
def capture_gradients(
    model: nn.Module, sites: Site | Sequence[Site], reduce: ReduceGradient
) -> Generator[None, None, None]:
    """Call `reduce` with each site's activation and its gradient when the block runs a forward and a backward pass.

        with capture_gradients(model, sites, reduce):
            model(x).logits.amax(-1).sum().backward()

    Both are `(batch, time, units)`, detached, and belong to the output of the site's module: an in-place operation
    after it changes neither. `reduce` is called as soon as the backward pass reaches the site, and nothing is kept
    after that, so the memory needed is that of the pass plus one copy of the activations. The gradient is zero at sites
    that the backward pass does not reach.

    Within the block no parameter requires a gradient: the pass takes two thirds of the time of a training step, and
    leaves no `.grad`. `requires_grad` is restored afterwards.

    Raises:
        ValueError: If a site is not in the model, or its activations do not have the shape that the site declares.
        NeverRanError: If the block ended without an error and a site never ran.
        RuntimeError: If a site ran twice, as in `generate`: its activation would have several gradients.
    """
    sites = [sites] if isinstance(sites, Site) else list(sites)
    modules = [(module_at(model, site), site) for site in sites]
    waiting: dict[str, Tensor] = {}
    ran: set[str] = set()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hooks = [(module, _hook(site, waiting, ran, reduce)) for module, site in modules]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        with hooked(model, "capture_gradients", hooks), torch.enable_grad():
            yield
        silent = [site.name for site in sites if site.name not in ran]
        if silent:
            raise NeverRanError(f"Nothing was captured at '{silent[0]}': the model did not call it within the block.")
        for _, site in modules:
            if site.name in waiting:
                x = waiting.pop(site.name)
                reduce(site, x, torch.zeros_like(x))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _hook(site: Site, waiting: dict[str, Tensor], ran: set[str], reduce: ReduceGradient) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if site.name in ran:
            raise RuntimeError(f"'{site.name}' ran twice within the block, and has no single gradient.")
        ran.add(site.name)
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        edited = None
        if hidden.requires_grad:
            x = units_last(hidden.detach(), site)
            # A copy, because later modules may overwrite it; contiguous, because reducers sum over time.
            x = x.clone(memory_format=torch.contiguous_format)
        else:
            # The graph starts at the first site that runs. Later modules get a copy, because the leaf of a graph must
            # not be overwritten.
            leaf_copy = hidden.detach().requires_grad_().clone()
            edited = leaf_copy if isinstance(output, Tensor) else with_hidden(output, hidden, leaf_copy)
            x, hidden = units_last(hidden.detach(), site), leaf_copy
        waiting[site.name] = x
        # The hook receives the gradient of the tensor's current value, even if it is overwritten later.
        hidden.register_hook(on_gradient)  # pyright: ignore[reportUnknownMemberType]
        return edited

    @torch.no_grad()
    def on_gradient(gradient: Tensor) -> None:
        reduce(site, waiting.pop(site.name), units_last(gradient.detach(), site))

    return hook
