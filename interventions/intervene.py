"""Write: put interventions on a model, for a block (`intervene`) or until they are removed (`Edits`).

    with intervene(model, Steer(site, vector, 2.0), Ablate(neurons)):
        model.generate(audio)               # or forward, or training: whatever runs in the block

    edits = Edits(model)
    accent = edits.add(Steer(site, vector, 2.0))
    edits.scale(accent, 0.5)
    edits.remove(accent)

Both are forward hooks, at the sites' modules and at the model for the check that everything ran. Parameters, modes and
other people's hooks stay as they are. Hooks that were there before run first, and so blocks nest: an inner one sees
what the outer ones made.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interventions.hooks import (
    Lengths,
    NeverRanError,
    forget_compiled,
    hidden_state,
    module_at,
    uncompiled,
    units_last,
    valid_lengths,
    with_hidden,
)
from interventions.intervention import Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site

# LayerDrop skips layers at random while training; no rate in use skips one so often in a row.
_PATIENCE = 30


@contextmanager
def intervene(model: nn.Module, *interventions: Intervention, lengths: Lengths | None = None) -> Iterator["Edits"]:
    """Edit activations by `interventions` in whatever the model does within the block; yields them as `Edits`.

    Several at one site edit one another's results, in the order given. Where `lengths` says how many steps of a site
    are each example's own, what lies behind them is left as it is; it is asked for each activation anew.

    Raises:
        ValueError: a site is not in the model, or its activations are not as the site says.
        NeverRanError: the model ran, or the block ended well, without an intervention having edited anything.
    """
    edits = Edits(model, lengths)
    try:
        edits._put({str(number): intervention for number, intervention in enumerate(interventions)})
        yield edits
        edits.check()
    finally:
        edits.clear()


class Edits:
    """Interventions that stay on a model until they are removed, each under a name; they edit in the order of adding.

    After each call of the model, each enabled intervention must have run, at all of its sites, or NeverRanError is
    raised. A call that is handed an encoder's output, or a filled cache, is one of a generation, and need not run again
    what ran before it. In train mode, where LayerDrop skips layers, it takes 30 calls in a row without one to raise.
    `check` asks whenever you like, and is the only one to ask where a wrapper goes past the model's own `forward`.
    """

    def __init__(self, model: nn.Module, lengths: Lengths | None = None) -> None:
        self._model, self._lengths = model, lengths
        self._entry = _entry(model)
        self._on: dict[str, ActiveIntervention] = {}
        self._moment = StepContext()
        self._handles: list[RemovableHandle] = []

    @property
    def interventions(self) -> dict[str, Intervention]:
        """All of them by name, in order, the disabled ones too; their `strength` as it is now."""
        return {name: on.intervention for name, on in self._on.items()}

    @property
    def enabled(self) -> list[str]:
        """The names of those that edit."""
        return [name for name, on in self._on.items() if on.enabled]

    def add(self, intervention: Intervention, name: str | None = None) -> str:
        """Put an intervention on, behind all others, and return its name: `name`, or a number that is free.

        Raises:
            ValueError: the name is taken, or the model has not the intervention's sites.
        """
        if name is None:
            name = next(str(n) for n in range(len(self._on) + 1) if str(n) not in self._on)
        if name in self._on:
            raise ValueError(f"An intervention '{name}' is on already. Remove it first, or give another name.")
        self._put({name: intervention})
        return name

    def remove(self, name: str) -> Intervention:
        """Take an intervention off, and return it. Raises ValueError where there is none of that name."""
        intervention = self._named(name).intervention
        del self._on[name]
        self._attach()
        return intervention

    def enable(self, name: str) -> None:
        """Let an intervention edit again. Raises ValueError where there is none of that name."""
        self._named(name).enabled = True
        self._attach()

    def disable(self, name: str) -> None:
        """Let an intervention edit nothing, until it is enabled. Raises ValueError where there is none of that name."""
        self._named(name).enabled = False
        self._attach()

    def scale(self, name: str, strength: float) -> None:
        """Set an intervention's `strength`. Raises ValueError where there is none of that name."""
        before = self._named(name)
        on = ActiveIntervention(self._model, replace(before.intervention, strength=float(strength)), self._lengths)
        on.enabled = before.enabled
        for mark, old in zip(on.marks, before.marks, strict=True):
            mark.ran, mark.edited = old.ran or old.reached, mark.edited or old.edited
        self._on[name] = on
        self._attach()

    def clear(self) -> None:
        """Take all off; the model is as it was before."""
        self._on = {}
        self._attach()

    def check(self) -> None:
        """Raise NeverRanError where an enabled intervention has not edited anything since it was put on."""
        for mark in self._marks():
            if not (mark.ran or mark.reached):
                raise NeverRanError(
                    f"{mark.what} never ran: the model did not call '{mark.site.name}' while it was on. Call the "
                    "model, or take a site that it calls."
                )
            if not mark.edited:
                raise NeverRanError(
                    f"{mark.what} never edited: '{mark.site.name}' ran, but never within {mark.scope}. Widen the scope."
                )

    def _named(self, name: str) -> "ActiveIntervention":
        if name not in self._on:
            raise ValueError(f"No intervention '{name}' is on. There are: {', '.join(self._on) or 'none'}.")
        return self._on[name]

    def _marks(self) -> "tuple[RunStatus, ...]":
        return tuple(mark for on in self._on.values() if on.enabled for mark in on.marks)

    def _put(self, interventions: Mapping[str, Intervention]) -> None:
        before = self._on
        self._on = before | {
            name: ActiveIntervention(self._model, intervention, self._lengths)
            for name, intervention in interventions.items()
        }
        try:
            self._attach()
        except BaseException:
            self._on = before
            self._attach()
            raise

    def _attach(self) -> None:
        """Take our hooks off, and put on those of the interventions that edit now."""
        while self._handles:
            self._handles.pop().remove()
        enabled = [on for on in self._on.values() if on.enabled]
        chains: dict[str, list[tuple[Edit, RunStatus]]] = {}
        for on in enabled:
            for mark, edit in zip(on.marks, on.edits, strict=True):
                chain = chains.setdefault(mark.site.name, [])
                chain.append((edit, mark))
                first = chain[0][1].site
                if (first.unit_axis, first.units) != (mark.site.unit_axis, mark.site.units):
                    raise ValueError(
                        f"Two interventions disagree about '{first.name}': {first.units} units on axis "
                        f"{first.unit_axis}, and {mark.site.units} on axis {mark.site.unit_axis}."
                    )
        if not chains:
            return
        forget_compiled()
        for chain in chains.values():
            site, module = chain[0][1].site, chain[0][1].module
            self._handles.append(module.register_forward_hook(_editing(site, tuple(chain), self._moment)))
        if any(on.intervention.timed for on in enabled):
            begin, end = _clock(self._moment)
            self._handles.append(self._entry.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(self._entry.register_forward_hook(end, always_call=True))
        self._handles.append(self._entry.register_forward_hook(_checking(self._marks()), with_kwargs=True))


class ActiveIntervention:
    """An intervention on a model: what it does at each of its sites, and whether it did."""

    def __init__(self, model: nn.Module, intervention: Intervention, lengths: Lengths | None) -> None:
        self.intervention, self.enabled = intervention, True
        self.marks = [RunStatus(intervention, site, module_at(model, site)) for site in intervention.sites]
        # What is made here may be used in training too.
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            self.edits = [_guarded(intervention, mark, lengths) for mark in self.marks]


class RunStatus:
    """Whether an intervention ran at a site: `reached` since the last check, `ran` before, `edited` in its scope."""

    __slots__ = ("what", "site", "module", "scope", "reads", "ran", "reached", "edited", "missed")

    def __init__(self, intervention: Intervention, site: Site, module: nn.Module) -> None:
        self.what, self.site, self.module, self.scope = type(intervention).__name__, site, module, intervention.scope
        self.reads = intervention.reads_inputs
        self.ran = self.reached = False
        self.edited = intervention.scope.everything
        self.missed = 0


def _editing(site: Site, chain: tuple[tuple[Edit, RunStatus], ...], moment: StepContext) -> Callable[..., Any]:
    """The hook that edits one site's activation; it is run for every call, so that it does only what it must."""
    axis = site.unit_axis
    reads = any(mark.reads for _, mark in chain)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        x = given = units_last(hidden, site)
        if reads:
            moment.inputs = inputs
        for edit, mark in chain:
            mark.reached = True
            x = edit(x, moment)
        if reads:
            moment.inputs = None  # let go of it
        if x is given:
            return None
        if x.shape != given.shape or x.dtype != given.dtype:
            who = " and ".join(mark.what for _, mark in chain)
            raise ValueError(
                f"{who} made {tuple(x.shape)} {x.dtype} of '{site.name}', which puts out {tuple(given.shape)} "
                f"{given.dtype}, units last. An edit keeps shape and dtype."
            )
        if axis != -1:
            x = x.mT if axis == 1 and x.dim() == 3 else x.movedim(-1, axis)
        return x if hidden is output else with_hidden(output, hidden, x)

    return hook


def _guarded(intervention: Intervention, mark: RunStatus, lengths: Lengths | None) -> Edit:
    """The intervention's edit within its scope, at its strength, apart from padding."""
    site = mark.site
    edit, strength, scope = intervention.at(site), intervention.strength, intervention.scope
    if strength == 0:
        edit = _unchanged
    if scope.everything and lengths is None and strength in (0, 1):
        return uncompiled(edit) if intervention.timed or intervention.reads_inputs else edit
    within = scope.at(site)

    def guarded(x: Tensor, now: StepContext) -> Tensor:
        mask = within(x, now)
        if mask is False:
            return x
        mark.edited = True
        edited = edit(x, now)
        if edited is x:
            return x
        if strength != 1:
            edited = x + strength * (edited - x)
        if lengths is not None:
            own = valid_lengths(lengths(site), x, site).view(*x.shape[:2], *[1] * (x.dim() - 2))
            mask = own if mask is True else mask & own
        return edited if mask is True else torch.where(mask, edited, x)

    alone = intervention.timed or intervention.reads_inputs or lengths is not None
    return uncompiled(guarded) if alone else guarded


def _unchanged(x: Tensor, now: StepContext) -> Tensor:
    return x


def _clock(moment: StepContext) -> tuple[Callable[..., None], Callable[..., None]]:
    """Hooks around the module that `generate` calls at each step: they say where the call within stands."""
    step, before = 0, None

    def begin(module: nn.Module, inputs: Any, named: Mapping[str, Any]) -> None:
        nonlocal step, before
        seen, uses = _seen(named), named.get("use_cache")
        step = step + 1 if seen else 0
        # Without a cache, a generation is a row of calls each of which reads one token more than the one before.
        read = named.get("decoder_input_ids", named.get("input_ids")) if uses is False else None
        lost = before is not None and read is not None and _goes_on(before, read, named)
        before = read
        # MusicGen's first calls make the cache that the others are given.
        moment.set(None if lost else step, seen or 0, seen is not None or uses is True)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        moment.set(0, 0, False)  # an encoder that `generate` calls by itself, before its first step

    return uncompiled(begin), uncompiled(end)


def _goes_on(before: Tensor, read: Tensor, named: Mapping[str, Any]) -> bool:
    if read.shape != (before.shape[0], before.shape[1] + 1):
        return False
    return named.get("encoder_outputs") is not None or torch.equal(read[:, :-1], before)


def _checking(marks: tuple[RunStatus, ...]) -> Callable[..., None]:
    """The hook behind a call of the model: everything has run, or the call is one where it need not have."""

    def check(module: nn.Module, inputs: Any, named: Mapping[str, Any], output: Any) -> None:
        for mark in marks:
            if mark.reached:
                mark.reached, mark.ran, mark.missed = False, True, 0
            elif mark.ran and (_seen(named) or named.get("encoder_outputs") is not None):
                continue
            elif not module.training or mark.missed == _PATIENCE - 1:
                raise NeverRanError(
                    f"{mark.what} did not run: {type(module).__name__} was called, and never called "
                    f"'{mark.site.name}'. Take a site that it calls, or take the intervention off."
                )
            else:
                mark.missed += 1

    return check


def _seen(named: Mapping[str, Any]) -> int | None:
    """How many positions the cache of a generation holds; None without a cache."""
    cache = named.get("past_key_values")
    return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else None


def _entry(model: nn.Module) -> nn.Module:
    """The module that `generate` calls at each step: transformers' model, if need be within wrappers; else `model`."""
    waiting = [(model, 0)]
    for module, depth in waiting:
        kind = type(module)  # asking a class is cheaper than asking a module, which looks among its parameters first
        if hasattr(kind, "prepare_inputs_for_generation") and hasattr(kind, "generate"):
            return module
        if depth < 2:
            waiting.extend((child, depth + 1) for child in module.children())
    return model
