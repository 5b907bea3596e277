"""Read: activations together with their gradients, of any sites, from one forward and one backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interventions.hooks import NeverRanError, forget_compiled, hidden_state, module_at, units_last, with_hidden
from interventions.sites import Site

ReduceGradient = Callable[[Site, Tensor, Tensor], None]


@contextmanager
def capture_gradients(model: nn.Module, sites: Site | Sequence[Site], reduce: ReduceGradient) -> Iterator[None]:
    """Run the model and a backward pass in the block; `reduce` gets each site's activation and its gradient.

        with capture_gradients(model, sites, reduce):
            model(x).logits.amax(-1).sum().backward()

    Both are `(batch, time, units)`, without graph, of what the site's module put out: an in-place ReLU behind it
    changes neither. They come as the backward pass reaches the site and are not kept, so that memory is what the pass
    itself takes and a copy of the activations. Where no gradient reaches a site, it is zero.

    Meanwhile no parameter asks for a gradient: the pass is one to activations only, which is two thirds of a training
    step's, and leaves no `.grad` behind. Afterwards each asks as it did before.

    Raises:
        ValueError: a site is not in the model, or its activations are not as the site says.
        NeverRanError: the block ended well, and a site never ran.
        RuntimeError: a site ran twice; sums over the steps of `generate` have no one gradient.
    """
    sites = [sites] if isinstance(sites, Site) else list(sites)
    modules = [(module_at(model, site), site) for site in sites]
    waiting: dict[str, Tensor] = {}
    ran: set[str] = set()
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = []
    forget_compiled()
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        for module, site in modules:
            handles.append(module.register_forward_hook(_reading(site, waiting, ran, reduce)))
        with torch.enable_grad():
            yield
        silent = [site.name for site in sites if site.name not in ran]
        if silent:
            raise NeverRanError(f"The model never called '{silent[0]}' in the block, so that nothing was captured.")
        for _, site in modules:
            if site.name in waiting:
                x = waiting.pop(site.name)
                reduce(site, x, torch.zeros_like(x))
    finally:
        for handle in handles:
            handle.remove()
        for parameter in asking:
            parameter.requires_grad_(True)


def _reading(site: Site, waiting: dict[str, Tensor], ran: set[str], reduce: ReduceGradient) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if site.name in ran:
            raise RuntimeError(f"'{site.name}' ran twice in one block, and can be read once.")
        ran.add(site.name)
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        edited = None
        if hidden.requires_grad:
            x = units_last(hidden.detach(), site)
            # What comes behind a site may overwrite it. Units come last in memory too, as who sums over time needs it.
            x = x.clone(memory_format=torch.contiguous_format)
        else:
            # The first site on its way: the graph begins here. What comes behind gets the copy, for it may not
            # overwrite where a graph begins.
            begun = hidden.detach().requires_grad_().clone()
            edited = begun if isinstance(output, Tensor) else with_hidden(output, hidden, begun)
            x, hidden = units_last(hidden.detach(), site), begun
        waiting[site.name] = x
        # A hook is given the gradient of a tensor's value as it is now, whatever overwrites it later.
        hidden.register_hook(arrived)
        return edited

    @torch.no_grad()
    def arrived(gradient: Tensor) -> None:
        reduce(site, waiting.pop(site.name), units_last(gradient.detach(), site))

    return hook
