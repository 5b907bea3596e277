"""Read: the activations of any sites while a model runs, kept or reduced as they come."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from interventions.hooks import (
    Lengths,
    NeverRanError,
    forget_compiled,
    hidden_state,
    module_at,
    units_last,
    valid_lengths,
)
from interventions.sites import Site

Reduce = Callable[[Site, Tensor], None]


@contextmanager
def capture(
    model: nn.Module,
    sites: Site | Sequence[Site],
    reduce: Reduce | None = None,
    lengths: Lengths | None = None,
    grad: bool = False,
) -> Iterator["Activations"]:
    """Read the activations of any sites while the model runs, units last: `(batch, time, units)`.

    They are kept as copies, for what comes behind a site may overwrite them (an in-place ReLU does). Where `reduce` is
    given, it is called with the site and each activation as it comes, before anything overwrites it, and nothing is
    kept: that takes no memory that grows with a corpus. `Activations.take` is the other way to go through one.

    Where `lengths` says how many time steps are each example's own, padding is left out: activations are
    `(steps, units)`, the own steps of all examples one after another. `grad=True` keeps the graph, so that gradients
    flow to the activations.

    Raises:
        ValueError: a site is not in the model, or its activations are not as the site says.
        NeverRanError: the block ended well, and a site never ran.
    """
    sites = [sites] if isinstance(sites, Site) else list(sites)
    acts = Activations(sites)
    modules = [(module_at(model, site), site) for site in sites]
    handles = []
    forget_compiled()
    try:
        for module, site in modules:
            handles.append(module.register_forward_hook(_reading(site, acts, reduce, lengths, grad)))
        yield acts
        silent = [site.name for site in sites if site.name not in acts._ran]
        if silent:
            raise NeverRanError(f"The model never called '{silent[0]}' in the block, so that nothing was captured.")
    finally:
        for handle in handles:
            handle.remove()


class Activations:
    """What a `capture` has read: by site or name, the activation of its one call, or `calls`, all in their order."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._kept: dict[str, list[Tensor]] = {site.name: [] for site in sites}
        self._ran: set[str] = set()

    def calls(self, site: Site | str) -> list[Tensor]:
        """The activations of each call of a site, the first one first: in `generate`, one a step.

        Raises:
            KeyError: the site is not among those that are captured.
        """
        name = site if isinstance(site, str) else site.name
        if name not in self._kept:
            raise KeyError(f"'{name}' is not captured; these are: {', '.join(self._kept)}.")
        return self._kept[name]

    def __getitem__(self, site: Site | str) -> Tensor:
        """The activation of a site's only call. Raises KeyError where there were none or several; see `calls`."""
        calls = self.calls(site)
        if len(calls) != 1:
            raise KeyError(f"'{site if isinstance(site, str) else site.name}' ran {len(calls)} times: see calls().")
        return calls[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def take(self) -> dict[str, list[Tensor]]:
        """Hand over what was read so far, the calls of each site by its name, and forget it."""
        taken, self._kept = self._kept, {name: [] for name in self._kept}
        return taken


def _reading(
    site: Site, acts: Activations, reduce: Reduce | None, lengths: Lengths | None, grad: bool
) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        x = units_last(hidden if grad else hidden.detach(), site)
        copied = lengths is not None
        if copied:
            x = x[valid_lengths(lengths(site), x, site)]
        acts._ran.add(site.name)
        if reduce is not None:
            reduce(site, x)
        else:
            acts._kept[site.name].append(x if copied else x.clone())

    return hook
