"""Apply interventions to a model, for a block (`intervene`) or until they are removed (`Edits`).

    with intervene(model, Steer(site, vector, 2.0), Ablate(neurons)):
        model.generate(audio)               # or forward, or training

    edits = Edits(model)
    accent = edits.add(Steer(site, vector, 2.0))
    edits.scale(accent, 0.5)
    edits.remove(accent)

Both register forward hooks: at the sites' modules, and at the model to check that everything ran. Parameters, modes and
other hooks are left alone. Existing hooks run first, so blocks nest: an inner block sees the results of the outer one.

A block edits the calls of the thread or asyncio task that opened it (`interventions/blocks.py`), so threads can each
open a block on one model. `Edits` edit the calls of all threads; change them while no other thread calls the model.
Copies of a model (`copy.deepcopy`) are without interventions, and a model with interventions cannot be pickled.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.utils.hooks import RemovableHandle

from interventions.blocks import (
    Block,
    open_blocks,
    refuse_pickling,
    registering,
    remove_after_copying,
    temporary,
)
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
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@contextmanager
def intervene(
    model: nn.Module, *interventions: Intervention, lengths: Lengths | None = None
) -> Generator["Edits", None, None]:
    """Apply interventions to everything that the model computes in the block, and yield them as `Edits`.

    Several interventions at one site apply in the order given, each to the result of the one before. The block edits
    the calls of the thread or asyncio task that opened it. Another thread that calls the model must open a block of its
    own; `with intervene(model):` is the model as it is.

    Args:
        model: the model to edit.
        interventions: what to apply.
        lengths: function that returns the number of valid steps of each example at a site, `(batch,)`; it is called for
            each activation. Later steps are left unchanged. None: edit all steps.

    Raises:
        ValueError: If a site is not in the model, or its activations do not have the shape that the site declares.
        NeverRanError: If the model, or the whole block, ran without an intervention being applied.
        OtherThreadError: In a thread that calls the model without a block of its own.
    """
    edits = Edits.of_block(model, lengths)
    try:
        edits.add_all({str(number): intervention for number, intervention in enumerate(interventions)})
        yield edits
        edits.check()
    finally:
        edits.close()


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
        self._block: Block | None = None  # None: in all threads
        self._handles: list[RemovableHandle] = []

    @classmethod
    def of_block(cls, model: nn.Module, lengths: Lengths | None = None) -> "Edits":
        """Return `Edits` for the calls of this thread or asyncio task only, until they are closed."""
        edits = cls(model, lengths)
        edits._block = Block(model, "intervene")
        edits._block.open()
        return edits

    def close(self) -> None:
        """Remove all interventions. The thread that called `of_block` calls this too."""
        self.clear()
        if self._block is not None:
            self._block.close()

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
            status.ran, status.edited = old.ran, status.edited or old.edited
        self._active[name] = after
        self._attach()

    def clear(self) -> None:
        """Remove all interventions, which restores the model."""
        self._active = {}
        while self._handles:
            self._handles.pop().remove()

    def check(self) -> None:
        """Raise NeverRanError if an enabled intervention has not edited anything since it was added."""
        for status in self._statuses():
            if not status.ran:
                raise NeverRanError(
                    f"{status.kind} never ran: the model did not call '{status.site.name}' while the intervention was "
                    "attached. Call the model in this thread, or choose a site that it calls."
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
        if self._active:
            with registering:
                self._register()

    def _register(self) -> None:
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
        context, entry = self._context, self._entry
        for chain in chains.values():
            hook = _EditHook(tuple(chain), context, self._block)
            self._handles.append(chain[0][1].module.register_forward_hook(hook.run))
        if any(active.intervention.timed for active in enabled):
            begin, end = (temporary(entry, hook) for hook in _step_hooks(context))
            self._handles.append(entry.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(entry.register_forward_hook(end, always_call=True))
        check = temporary(entry, _check_hook(self._statuses(), context, self._block))
        self._handles.append(entry.register_forward_hook(check, with_kwargs=True))


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

    `reached`: the site has run since the last check, in compiled code; `StepContext.reached` says so for other calls,
    by thread. `ran`: it has run. `edited`: it has run within the scope.
    """

    __slots__ = ("kind", "site", "module", "scope", "reads_inputs", "ran", "reached", "edited", "missed")

    def __init__(self, intervention: Intervention, site: Site, module: nn.Module) -> None:
        self.kind, self.site, self.module, self.scope = type(intervention).__name__, site, module, intervention.scope
        self.reads_inputs = intervention.reads_inputs
        self.ran = self.reached = False
        self.edited = intervention.scope.everything
        self.missed = 0


class _EditHook:
    """The hook that edits the activation of a site. It runs in every call, so it does as little as possible."""

    __slots__ = ("_chain", "_context", "_block", "_site", "_statuses", "_reads_inputs", "_copied")

    def __init__(
        self, chain: tuple[tuple[Edit, RunStatus], ...], context: StepContext, block: Block | None, copied: bool = False
    ) -> None:
        self._chain, self._context, self._block, self._copied = chain, context, block, copied
        self._statuses = tuple(status for _, status in chain)
        self._site = self._statuses[0].site
        self._reads_inputs = any(status.reads_inputs for status in self._statuses)

    def run(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the output with the edited activation, or None to change nothing."""
        block, context, site = self._block, self._context, self._site
        if is_dynamo_compiling():  # compiled code cannot tell threads apart
            for status in self._statuses:
                status.reached = status.ran = True
        else:
            if self._copied or (
                block is not None and block not in open_blocks.get() and not block.applies_elsewhere(module)
            ):
                return None
            context.reached.update(self._statuses)
            for status in self._statuses:
                status.ran = True
        axis = site.unit_axis
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        x = original = units_last(hidden, site)
        if self._reads_inputs:
            context.inputs = inputs
        for edit, _ in self._chain:
            x = edit(x, context)
        if self._reads_inputs:
            context.inputs = None  # free their memory
        if x is original:
            return None
        if x.shape != original.shape or x.dtype != original.dtype:
            kinds = " and ".join(status.kind for status in self._statuses)
            raise ValueError(
                f"{kinds} returned {tuple(x.shape)} {x.dtype} for '{site.name}', whose output is "
                f"{tuple(original.shape)} {original.dtype}, units last. An edit must keep shape and dtype."
            )
        if axis != -1:
            x = x.mT if axis == 1 and x.dim() == 3 else x.movedim(-1, axis)
        return x if hidden is output else with_hidden(output, hidden, x)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_EditHook":
        copied = _EditHook(self._chain, self._context, self._block, copied=True)
        remove_after_copying(self._statuses[0].module, copied, memo)
        return copied

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_pickling()


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

    # A call may have begun with a hook that another thread removes in the meantime, and then passes no keyword
    # arguments to it.
    def begin(module: nn.Module, inputs: Any, kwargs: Mapping[str, Any] = _NOTHING) -> None:
        cached, use_cache = _cached_positions(kwargs), kwargs.get("use_cache")
        step = context.calls = context.calls + 1 if cached else 0
        # Without a cache, each call of a generation reads one token more than the call before.
        tokens = kwargs.get("decoder_input_ids", kwargs.get("input_ids")) if use_cache is False else None
        before = context.tokens
        unknown = before is not None and tokens is not None and _continues(before, tokens, kwargs)
        context.tokens = tokens
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


def _check_hook(statuses: tuple[RunStatus, ...], context: StepContext, block: Block | None) -> Callable[..., None]:
    """Return the hook that checks, after a call of the model, that every intervention ran or did not have to run."""

    def check(module: nn.Module, inputs: Any, *rest: Any) -> None:
        if len(rest) < 2:  # another thread has removed the hook
            return
        kwargs: Mapping[str, Any] = rest[0]
        compiling = is_dynamo_compiling()
        if block is not None and not compiling and block not in open_blocks.get():
            return
        reached: Any = () if compiling else context.reached
        for status in statuses:
            if status.reached or status in reached:
                status.reached, status.missed = False, 0
            elif status.ran and (_cached_positions(kwargs) or kwargs.get("encoder_outputs") is not None):
                continue
            elif not module.training or status.missed == _PATIENCE - 1:
                raise NeverRanError(
                    f"{status.kind} did not run: {type(module).__name__} was called, but did not call "
                    f"'{status.site.name}'. Choose a site that it calls, or remove the intervention."
                )
            else:
                status.missed += 1
        if reached:
            reached.clear()

    return check


def _cached_positions(kwargs: Mapping[str, Any]) -> int | None:
    """Return the number of positions in the cache of a generation, or None if the call has no cache."""
    cache = kwargs.get("past_key_values")
    return int(cache.get_seq_length()) if cache is not None and hasattr(cache, "get_seq_length") else None


def _entry_module(model: nn.Module) -> nn.Module:
    """Return the module that `generate` calls at each step: a transformers model, or `model` if there is none."""
    level = [model]
    for _ in range(3):
        for module in level:
            kind = type(module)  # looking up attributes of the class is faster than those of a module
            if hasattr(kind, "prepare_inputs_for_generation") and hasattr(kind, "generate"):
                return module
        # Reading `_modules` is faster than `children`, which performs more checks.
        level = [child for module in level for child in module._modules.values() if child is not None]  # pyright: ignore[reportPrivateUsage]
    return model
