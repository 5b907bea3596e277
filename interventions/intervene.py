"""Apply interventions to a model, for a block (`intervene`) or until they are removed (`Edits`).

    with intervene(model, Steer(site, vector, 2.0), Ablate(neurons)):
        model.generate(audio)               # or forward, or training

    edits = Edits(model)
    accent = edits.add(Steer(site, vector, 2.0))
    edits.scale(accent, 0.5)
    edits.remove(accent)

Both register forward hooks: at the sites' modules, and at the model to check that everything ran. Parameters, modes and
other hooks are left alone. Existing hooks run first, so blocks nest: an inner block sees the results of the outer one.
"""

from collections.abc import Callable, Generator, Mapping
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
    valid_mask,
    with_hidden,
)
from interventions.intervention import Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site

# LayerDrop skips layers at random in training; at usual rates it never skips a layer this many times in a row.
_PATIENCE = 30


@contextmanager
def intervene(
    model: nn.Module, *interventions: Intervention, lengths: Lengths | None = None
) -> Generator["Edits", None, None]:
    """Apply interventions to everything that the model computes in the block, and yield them as `Edits`.

    Several interventions at one site apply in the order given, each to the result of the one before.

    Args:
        model: the model to edit.
        interventions: what to apply.
        lengths: function that returns the number of valid steps of each example at a site, `(batch,)`; it is called for
            each activation. Later steps are left unchanged. None: edit all steps.

    Raises:
        ValueError: If a site is not in the model, or its activations do not have the shape that the site declares.
        NeverRanError: If the model, or the whole block, ran without an intervention being applied.
    """
    edits = Edits(model, lengths)
    try:
        edits.add_all({str(number): intervention for number, intervention in enumerate(interventions)})
        yield edits
        edits.check()
    finally:
        edits.clear()


class Edits:
    """Named interventions that stay on a model until they are removed, and apply in the order in which they were added.

    After each call of the model, each enabled intervention must have run at all of its sites; otherwise NeverRanError
    is raised. Calls that receive an encoder's output or a filled cache continue a generation, and need not run the
    modules again that ran before. In training mode, where LayerDrop skips layers, the error is raised after 30 calls
    without a run. `check` checks on demand; it is the only check if a wrapper bypasses the model's own `forward`.
    """

    def __init__(self, model: nn.Module, lengths: Lengths | None = None) -> None:
        self._model, self._lengths = model, lengths
        self._entry = _entry_module(model)
        self._active: dict[str, ActiveIntervention] = {}
        self._context = StepContext()
        self._handles: list[RemovableHandle] = []

    @property
    def interventions(self) -> dict[str, Intervention]:
        """All interventions by name, in order, including disabled ones, with their current `strength`."""
        return {name: active.intervention for name, active in self._active.items()}

    @property
    def enabled(self) -> list[str]:
        """The names of the enabled interventions."""
        return [name for name, active in self._active.items() if active.enabled]

    def add(self, intervention: Intervention, name: str | None = None) -> str:
        """Append an intervention and return its name: `name`, or an unused number.

        Raises:
            ValueError: If the name is in use, or the model lacks one of the intervention's sites.
        """
        if name is None:
            name = next(str(n) for n in range(len(self._active) + 1) if str(n) not in self._active)
        if name in self._active:
            raise ValueError(f"There is an intervention '{name}' already. Remove it first, or choose another name.")
        self.add_all({name: intervention})
        return name

    def add_all(self, interventions: Mapping[str, Intervention]) -> None:
        """Append several interventions under names that are not in use: all of them, or none if one cannot be added."""
        before = self._active
        self._active = before | {
            name: ActiveIntervention(self._model, intervention, self._lengths)
            for name, intervention in interventions.items()
        }
        try:
            self._attach()
        except BaseException:
            self._active = before
            self._attach()
            raise

    def remove(self, name: str) -> Intervention:
        """Remove an intervention and return it. Raises ValueError if no intervention has this name."""
        intervention = self._get(name).intervention
        del self._active[name]
        self._attach()
        return intervention

    def enable(self, name: str) -> None:
        """Enable an intervention. Raises ValueError if no intervention has this name."""
        self._get(name).enabled = True
        self._attach()

    def disable(self, name: str) -> None:
        """Disable an intervention until `enable` is called. Raises ValueError if no intervention has this name."""
        self._get(name).enabled = False
        self._attach()

    def scale(self, name: str, strength: float) -> None:
        """Set the `strength` of an intervention. Raises ValueError if no intervention has this name."""
        before = self._get(name)
        after = ActiveIntervention(self._model, replace(before.intervention, strength=float(strength)), self._lengths)
        after.enabled = before.enabled
        for status, old in zip(after.statuses, before.statuses, strict=True):
            status.ran, status.edited = old.ran or old.reached, status.edited or old.edited
        self._active[name] = after
        self._attach()

    def clear(self) -> None:
        """Remove all interventions, which restores the model."""
        self._active = {}
        self._attach()

    def check(self) -> None:
        """Raise NeverRanError if an enabled intervention has not edited anything since it was added."""
        for status in self._statuses():
            if not (status.ran or status.reached):
                raise NeverRanError(
                    f"{status.kind} never ran: the model did not call '{status.site.name}' while the intervention was "
                    "attached. Call the model, or choose a site that it calls."
                )
            if not status.edited:
                raise NeverRanError(
                    f"{status.kind} never edited: '{status.site.name}' ran, but never within {status.scope}. Widen the "
                    "scope."
                )

    def _get(self, name: str) -> "ActiveIntervention":
        if name not in self._active:
            raise ValueError(f"There is no intervention '{name}'. There are: {', '.join(self._active) or 'none'}.")
        return self._active[name]

    def _statuses(self) -> "tuple[RunStatus, ...]":
        return tuple(status for active in self._active.values() if active.enabled for status in active.statuses)

    def _attach(self) -> None:
        """Replace our hooks by those of the interventions that are enabled now."""
        while self._handles:
            self._handles.pop().remove()
        enabled = [active for active in self._active.values() if active.enabled]
        chains: dict[str, list[tuple[Edit, RunStatus]]] = {}
        for active in enabled:
            for status, edit in zip(active.statuses, active.edits, strict=True):
                chain = chains.setdefault(status.site.name, [])
                chain.append((edit, status))
                first = chain[0][1].site
                if (first.unit_axis, first.units) != (status.site.unit_axis, status.site.units):
                    raise ValueError(
                        f"Two interventions disagree about '{first.name}': {first.units} units on axis "
                        f"{first.unit_axis}, and {status.site.units} on axis {status.site.unit_axis}."
                    )
        if not chains:
            return
        forget_compiled()
        for chain in chains.values():
            site, module = chain[0][1].site, chain[0][1].module
            self._handles.append(module.register_forward_hook(_edit_hook(site, tuple(chain), self._context)))
        if any(active.intervention.timed for active in enabled):
            begin, end = _step_hooks(self._context)
            self._handles.append(self._entry.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(self._entry.register_forward_hook(end, always_call=True))
        self._handles.append(self._entry.register_forward_hook(_check_hook(self._statuses()), with_kwargs=True))


class ActiveIntervention:
    """An intervention that is attached to a model, with its edit function and its run status at each of its sites."""

    def __init__(self, model: nn.Module, intervention: Intervention, lengths: Lengths | None) -> None:
        self.intervention, self.enabled = intervention, True
        self.statuses = [RunStatus(intervention, site, module_at(model, site)) for site in intervention.sites]
        # Tensors that are created here may be used in training later.
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            self.edits = [_scoped_edit(intervention, status, lengths) for status in self.statuses]


class RunStatus:
    """Whether an intervention ran at a site.

    `reached`: the site has run since the last check. `ran`: it had run before that check. `edited`: it has run within
    the scope.
    """

    __slots__ = ("kind", "site", "module", "scope", "reads_inputs", "ran", "reached", "edited", "missed")

    def __init__(self, intervention: Intervention, site: Site, module: nn.Module) -> None:
        self.kind, self.site, self.module, self.scope = type(intervention).__name__, site, module, intervention.scope
        self.reads_inputs = intervention.reads_inputs
        self.ran = self.reached = False
        self.edited = intervention.scope.everything
        self.missed = 0


def _edit_hook(site: Site, chain: tuple[tuple[Edit, RunStatus], ...], context: StepContext) -> Callable[..., Any]:
    """Return the hook that edits the activation of a site. It runs in every call, so it does as little as possible."""
    axis = site.unit_axis
    reads_inputs = any(status.reads_inputs for _, status in chain)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        x = original = units_last(hidden, site)
        if reads_inputs:
            context.inputs = inputs
        for edit, status in chain:
            status.reached = True
            x = edit(x, context)
        if reads_inputs:
            context.inputs = None  # free their memory
        if x is original:
            return None
        if x.shape != original.shape or x.dtype != original.dtype:
            kinds = " and ".join(status.kind for _, status in chain)
            raise ValueError(
                f"{kinds} returned {tuple(x.shape)} {x.dtype} for '{site.name}', whose output is "
                f"{tuple(original.shape)} {original.dtype}, units last. An edit must keep shape and dtype."
            )
        if axis != -1:
            x = x.mT if axis == 1 and x.dim() == 3 else x.movedim(-1, axis)
        return x if hidden is output else with_hidden(output, hidden, x)

    return hook


def _scoped_edit(intervention: Intervention, status: RunStatus, lengths: Lengths | None) -> Edit:
    """Return the intervention's edit, limited to its scope and to valid steps, at its strength."""
    site = status.site
    edit, strength, scope = intervention.at(site), intervention.strength, intervention.scope
    if strength == 0:
        edit = _identity
    if scope.everything and lengths is None and strength in (0, 1):
        return uncompiled(edit) if intervention.timed or intervention.reads_inputs else edit
    within = scope.at(site)

    def scoped(x: Tensor, context: StepContext) -> Tensor:
        mask = within(x, context)
        if mask is False:
            return x
        status.edited = True
        edited = edit(x, context)
        if edited is x:
            return x
        if strength != 1:
            edited = x + strength * (edited - x)
        if lengths is not None:
            valid = valid_mask(lengths(site), x, site).view(*x.shape[:2], *[1] * (x.dim() - 2))
            mask = valid if isinstance(mask, bool) else mask & valid
        return edited if isinstance(mask, bool) else torch.where(mask, edited, x)

    breaks_graph = intervention.timed or intervention.reads_inputs or lengths is not None
    return uncompiled(scoped) if breaks_graph else scoped


def _identity(x: Tensor, context: StepContext) -> Tensor:
    return x


def _step_hooks(context: StepContext) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return hooks that update the step and position, for the module that `generate` calls at each step."""
    step = 0
    before: Tensor | None = None

    def begin(module: nn.Module, inputs: Any, kwargs: Mapping[str, Any]) -> None:
        nonlocal step, before
        cached, use_cache = _cached_positions(kwargs), kwargs.get("use_cache")
        step = step + 1 if cached else 0
        # Without a cache, each call of a generation reads one token more than the call before.
        tokens = kwargs.get("decoder_input_ids", kwargs.get("input_ids")) if use_cache is False else None
        unknown = before is not None and tokens is not None and _continues(before, tokens, kwargs)
        before = tokens
        # MusicGen's first call creates the cache that later calls receive.
        context.set(None if unknown else step, cached or 0, cached is not None or use_cache is True)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        context.set(0, 0, False)  # for an encoder that `generate` calls separately, before its first step

    return uncompiled(begin), uncompiled(end)


def _continues(before: Tensor, tokens: Tensor, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call without a cache continues the generation of the call before."""
    if tokens.shape != (before.shape[0], before.shape[1] + 1):
        return False
    return kwargs.get("encoder_outputs") is not None or torch.equal(tokens[:, :-1], before)


def _check_hook(statuses: tuple[RunStatus, ...]) -> Callable[..., None]:
    """Return the hook that checks, after a call of the model, that every intervention ran or did not have to run."""

    def check(module: nn.Module, inputs: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        for status in statuses:
            if status.reached:
                status.reached, status.ran, status.missed = False, True, 0
            elif status.ran and (_cached_positions(kwargs) or kwargs.get("encoder_outputs") is not None):
                continue
            elif not module.training or status.missed == _PATIENCE - 1:
                raise NeverRanError(
                    f"{status.kind} did not run: {type(module).__name__} was called, but did not call "
                    f"'{status.site.name}'. Choose a site that it calls, or remove the intervention."
                )
            else:
                status.missed += 1

    return check


def _cached_positions(kwargs: Mapping[str, Any]) -> int | None:
    """Return the number of positions in the cache of a generation, or None if the call has no cache."""
    cache = kwargs.get("past_key_values")
    return int(cache.get_seq_length()) if cache is not None and hasattr(cache, "get_seq_length") else None


def _entry_module(model: nn.Module) -> nn.Module:
    """Return the module that `generate` calls at each step: a transformers model, or `model` if there is none."""
    queue = [(model, 0)]
    for module, depth in queue:
        kind = type(module)  # looking up attributes of the class is faster than those of a module
        if hasattr(kind, "prepare_inputs_for_generation") and hasattr(kind, "generate"):
            return module
        if depth < 2:
            queue.extend((child, depth + 1) for child in module.children())
    return model
