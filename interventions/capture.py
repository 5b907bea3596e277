"""Capture activations: read what chosen sites compute while a model runs, and store or reduce it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from interventions.blocks import hooked
from interventions.hooks import (
    Lengths,
    NeverRanError,
    hidden_state,
    module_at,
    units_last,
    valid_mask,
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
) -> Generator["Activations", None, None]:
    """Capture the activations of sites while the model runs in the block, units last: `(batch, time, units)`.

    The block captures the calls of the thread or asyncio task that opened it, as `intervene` edits them.

    Args:
        model: the model that runs in the block.
        sites: one site, or several.
        reduce: called with a site and each of its activations as soon as it is computed, before an in-place operation
            can overwrite it; nothing is stored then, and memory does not grow with the corpus. None: store copies,
            which `Activations` returns. `Activations.take` is another way to bound memory.
        lengths: function that returns the number of valid time steps of each example at a site, `(batch,)`. Padding is
            then left out: activations are `(steps, units)`, the valid steps of all examples concatenated.
        grad: keep the autograd graph, so that gradients flow to the activations.

    Yields:
        The captured activations, by site.

    Raises:
        ValueError: If a site is not in the model, or its activations do not have the shape that the site declares.
        NeverRanError: If the block ended without an error and a site never ran.
        OtherThreadError: In a thread that calls the model without a block of its own.
    """
    sites = [sites] if isinstance(sites, Site) else list(sites)
    activations = Activations(sites)
    ran: set[str] = set()
    modules = [(module_at(model, site), site) for site in sites]
    store, copy = reduce or activations.add, reduce is None
    with hooked(model, "capture", [(module, _hook(site, store, ran, lengths, grad, copy)) for module, site in modules]):
        yield activations
        silent = [site.name for site in sites if site.name not in ran]
        if silent:
            raise NeverRanError(f"Nothing was captured at '{silent[0]}': the model did not call it within the block.")


class Activations:
    """The activations that `capture` stored: `[site]` returns those of a site's only call, `calls` those of all."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._stored: dict[str, list[Tensor]] = {site.name: [] for site in sites}

    def add(self, site: Site, x: Tensor) -> None:
        """Store the activation of one call."""
        self._stored[site.name].append(x)

    def calls(self, site: Site | str) -> list[Tensor]:
        """Return the activation of each call of a site, in order. In `generate`, decoder sites have a call per step.

        Raises:
            KeyError: If the site is not captured.
        """
        name = site if isinstance(site, str) else site.name
        if name not in self._stored:
            raise KeyError(f"'{name}' is not captured. Captured sites: {', '.join(self._stored)}.")
        return self._stored[name]

    def __getitem__(self, site: Site | str) -> Tensor:
        """Return the activation of a site that ran once. Raises KeyError if it did not run, or ran several times."""
        calls = self.calls(site)
        if len(calls) != 1:
            name = site if isinstance(site, str) else site.name
            raise KeyError(f"'{name}' ran {len(calls)} times. Use calls() to get the activations of each call.")
        return calls[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def take(self) -> dict[str, list[Tensor]]:
        """Return the activations of all calls by site name, and delete them here."""
        taken, self._stored = self._stored, {name: [] for name in self._stored}
        return taken


def _hook(
    site: Site, store: Reduce, ran: set[str], lengths: Lengths | None, grad: bool, copy: bool
) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        x = units_last(hidden if grad else hidden.detach(), site)
        if lengths is not None:
            x = x[valid_mask(lengths(site), x, site)]  # a copy
        elif copy:
            x = x.clone()  # later modules may overwrite it
        ran.add(site.name)
        store(site, x)

    return hook
