"""Corrections: the model keeps what a user corrected, without training, and any one of them can be taken back.

    memory = Memory.new(protected)                      # protected: what must stay (interventions/corrections/protect.py)
    kept = correct(model, memory, 1, loss, right)       # from now on free decoding gives the corrected text
    with intervene(model, memory): model(audio)         # an intervention like the others; empty, it is the identity
    memory.remove(1)                                    # and it is as if it had never been

A correction is a change of one affine layer's outputs. (A) `find_change` looks for the least one, of those that a map
of the layer's inputs can make, after which free decoding gives the corrected text (`correct_search.py`); (B) a ridge
map over all corrections makes it, and generalises them (`correct_ridge.py`); (C) a codebook of what that map leaves
keeps each exact (`correct_codebook.py`). In convolutions a gate closes the map for examples that are like the protected
ones and unlike the corrected ones (`correct_gate.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from interventions.affine import Affine
from interventions.corrections.codebook import Codebook
from interventions.corrections.gate import Gate
from interventions.corrections.layer import layer_inputs, rms
from interventions.corrections.protect import Protected
from interventions.corrections.ridge import RidgeSums
from interventions.corrections.search import Change, EditSubspace, Search, find_change
from interventions.intervene import intervene
from interventions.intervention import Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site

Parts = Literal["both", "ridge", "codebook"]
_REACH = 0.7  # a codebook entry's radius, as a share of the distance to the nearest protected key
_OWN_REACH = 0.5  # of tokens also: as a share of that to the nearest key of its example that needs another value
_ROUNDED = 2.0  # but at least so many times as far as rounding moves a key, so that it is found again
_ALIKE = 0.5  # values that differ by less than this share of an entry's value are as good as its own
_FREER = 3.0  # so many times as much of a change is left to the codebook where none was found
_LEAST = 0.02  # residuals below this share of the layer's usual output are not worth an entry


@dataclass(frozen=True, eq=False)
class Entry:
    """A correction as it is kept: the layer's `inputs` `(time, inputs)` int8; the change of its output, `values`
    `(steps, units)` int16, and what is put to the ridge regression for that, `targets` `(steps, units)` int16, which goes
    further, as the regression follows but in part; all in steps of the grids in `Protected`. And each step's `radii`
    `(steps,)`.
    """

    inputs: Tensor
    values: Tensor
    targets: Tensor
    radii: Tensor


class _Book:
    """The entries of a memory and what is fitted to them: one object, shared by all views of the memory."""

    def __init__(self, protected: Protected, strength: float, gated: bool) -> None:
        self.entries: dict[int, Entry] = {}
        self.projected: dict[int, Tensor] = {}
        self.summaries: dict[int, Tensor] = {}
        self.protected, self.strength = protected, strength
        self.gated = gated and protected.background is not None
        step = protected.layer.site.step
        self.tokens = step is not None and step.unit == "token"
        self.sums = RidgeSums(protected)
        self.version = 0
        self._fitted: tuple[int, Tensor, Tensor, Codebook, Gate | None] | None = None

    def add(self, number: int, entry: Entry) -> None:
        inputs = entry.inputs.float() * self.protected.input_step
        keys = self.protected.layer.keys(inputs)
        if self.gated:
            self.summaries[number] = self.protected.background.row(inputs)
        self.entries[number], self.projected[number] = entry, self.protected.project(keys[: len(entry.values)])
        self.sums.add(entry.inputs, entry.targets)
        self.version += 1

    def remove(self, number: int) -> Entry:
        entry, _, _ = self.entries.pop(number), self.projected.pop(number), self.summaries.pop(number, None)
        self.sums.remove(entry.inputs, entry.targets)
        self.version += 1
        return entry

    def fitted(self) -> tuple[Tensor, Tensor, Codebook, Gate | None]:
        if self._fitted is None or self._fitted[0] != self.version:
            with torch.inference_mode(False), torch.no_grad():  # in this order: the first turns gradients on
                weight, bias = self.sums.solve(self.strength)
                gate = None
                if self.gated and self.entries:
                    # In the order of their numbers, so that the order of adding leaves no trace.
                    gate = Gate.fit(self.protected.background, [one for _, one in sorted(self.summaries.items())])
                self._fitted = (self.version, weight, bias, self._codebook(weight, bias, gate), gate)
        return self._fitted[1:]

    def _codebook(self, weight: Tensor, bias: Tensor, gate: Gate | None) -> Codebook:
        protected = self.protected
        least = _LEAST * protected.output_scale * weight.shape[0] ** 0.5
        keys, radii, values = [], [], []
        for number, entry in sorted(self.entries.items()):
            inputs = entry.inputs.float() * protected.input_step
            mapped = protected.layer.keys(inputs)[: len(entry.values)] @ weight.T + bias
            if gate is not None:
                mapped = mapped * gate(inputs.unsqueeze(0))[0]
            left = entry.values.float() * protected.value_step - mapped
            worth = left.norm(dim=1) > least
            reach = _REACH * entry.radii
            if self.tokens:
                own = _apart(self.projected[number], torch.where(worth.unsqueeze(1), left, 0.0))
                reach = torch.minimum(reach, (_OWN_REACH * own).clamp_min(_ROUNDED * protected.rounding))
            keys.append(self.projected[number][worth])
            radii.append(reach[worth])
            values.append(left[worth])
        if not keys:
            units, dimensions = len(bias), len(protected.offset)
            return Codebook(torch.zeros(0, dimensions), torch.zeros(0), torch.zeros(0, units))
        return Codebook(torch.cat(keys), torch.cat(radii), torch.cat(values))


def _apart(keys: Tensor, values: Tensor) -> Tensor:
    """How far each of an example's projected keys `(steps, dimensions)` is from the nearest that needs another value,
    `values` being `(steps, units)`: `(steps,)`, infinite where there is none.
    """
    other = torch.cdist(values, values) > _ALIKE * values.norm(dim=1, keepdim=True)
    return torch.where(other, torch.cdist(keys, keys), float("inf")).amin(1)


@dataclass(frozen=True, eq=False)
class Memory(Intervention):
    """Corrections at one layer. With none in it, activations stay as they are, bit for bit.

    It stays current while it is on a model: what is added or removed holds from the next call on. `parts` says what of
    it edits: the "ridge" map, the "codebook" of what that leaves, or "both". `folded` `(units, width + 1)` is a ridge
    map that stands in the weights already, its bias last, which is taken off. In weights a map has no gate.

    What it holds does not depend on the order of adding, and after a removal is what it was without, bit for bit.
    """

    protected: Protected
    book: _Book = field(repr=False)
    parts: Parts = "both"
    folded: Tensor | None = None

    @classmethod
    def new(
        cls, protected: Protected, strength: float = 300.0, folded: Tensor | None = None, gated: bool = True
    ) -> "Memory":
        """An empty one. `strength`: as how many protected steps each direction of the keys is held; `gated`: whether
        the ridge map is closed to what is like the protected, where the layer can have a gate and nothing is folded.
        """
        return cls(protected, _Book(protected, strength, gated and folded is None), folded=folded)

    @property
    def ridge_strength(self) -> float:
        """As how many protected steps each direction of the keys is held. (`strength` is that of any intervention.)"""
        return self.corrections.strength

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.protected.layer.site,)

    @property
    def reads_inputs(self) -> bool:
        return True

    @property
    def entries(self) -> Mapping[int, Entry]:
        """The corrections by their numbers; do not change it."""
        return self.corrections.entries

    def add(self, number: int, entry: Entry) -> None:
        """Put in a correction. Raises ValueError where the number is taken."""
        if number in self.entries:
            raise ValueError(f"There is a correction {number} already.")
        self.corrections.add(number, entry)

    def remove(self, number: int) -> Entry:
        """Take out a correction, and return it. Raises ValueError where there is none of that number."""
        if number not in self.entries:
            there = ", ".join(map(str, sorted(self.entries)))
            raise ValueError(f"There is no correction {number}. There are: {there or 'none'}.")
        return self.corrections.remove(number)

    def entry(self, inputs: Tensor, values: Tensor, targets: Tensor | None = None) -> Entry:
        """The correction that changes the layer's outputs by `values` `(steps, units)` at `inputs` `(time, inputs)`.

        `targets` (None: the same) is what the ridge regression is given for that.
        """
        protected = self.protected
        rounded = protected.round_inputs(inputs)
        keys = protected.layer.keys(rounded.float() * protected.input_step)[: len(values)]
        targets = protected.round_values(values if targets is None else targets)
        return Entry(rounded, protected.round_values(values), targets, protected.radii(protected.project(keys)))

    def reach(self, inputs: Tensor, steps: int, own: float) -> EditSubspace:
        """Which changes of `steps` steps of the layer's outputs a correction at `inputs` `(time, inputs)` can make: the
        map's, and by `own` what the codebook keeps of each step; as far as each edits (`parts`).
        """
        if self.parts == "codebook":
            return EditSubspace.free(steps)
        reach = self.corrections.sums.reach(self.protected.round_inputs(inputs), steps, self.ridge_strength)
        return reach if self.parts == "ridge" else reach.apart(own)

    @torch.no_grad()
    def change(self, inputs: Tensor) -> Tensor:
        """What it adds to the layer's outputs, `(steps, units)`, of inputs `(time, inputs)`."""
        layer = self.protected.layer
        given = inputs.T[None] if layer.convolution else inputs[None]
        units = layer.site.units
        zero = torch.zeros(1, len(layer.keys(inputs)), units)
        return self._edit(zero, given, self._ready(torch.device("cpu")))[0]

    @torch.no_grad()
    def mapped(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What its ridge map, whatever its gate says, gives of inputs `(time, inputs)`, and what of that stands in the
        weights: `(steps, units)` each.
        """
        keys = self.protected.layer.keys(self.protected.round_inputs(inputs).float() * self.protected.input_step)
        weight, bias, _, _ = self.corrections.fitted()
        mapped = keys @ weight.T + bias
        if self.folded is None:
            return mapped, torch.zeros_like(mapped)
        return mapped, keys @ self.folded[:, :-1].T + self.folded[:, -1]

    def at(self, site: Site) -> Edit:
        ready: dict[str, tuple[int, _Ready | None]] = {}

        def edit(x: Tensor, now: StepContext) -> Tensor:
            device = str(x.device)
            if device not in ready or ready[device][0] != self.corrections.version:
                ready[device] = (self.corrections.version, self._ready(x.device))
            return self._edit(x, now.inputs[0], ready[device][1])

        return edit

    def _ready(self, device: torch.device) -> "_Ready | None":
        if not self.entries and self.folded is None:
            return None
        weight, bias, codebook, gate = self.corrections.fitted()
        with torch.inference_mode(False), torch.no_grad():
            if self.folded is not None:
                weight, bias = weight - self.folded[:, :-1], bias - self.folded[:, -1]
            ridge = self.parts != "codebook" and bool(weight.any() or bias.any())
            looks = self.parts != "ridge" and len(codebook) > 0
            maps = [(weight, bias)] * ridge + [(self.protected.projection, -self.protected.offset)] * looks
            if not maps:
                return None
            # One pass over the inputs gives what the map adds and the keys to look up.
            stacked = torch.cat([one for one, _ in maps]).to(device), torch.cat([one for _, one in maps]).to(device)
            return _Ready(
                *stacked, len(bias) if ridge else 0, codebook.to(device) if looks else None,
                gate.to(device) if ridge and gate is not None else None,
            )  # fmt: skip

    def _edit(self, x: Tensor, inputs: Tensor, ready: "_Ready | None") -> Tensor:
        if ready is None:
            return x
        mapped = self.protected.layer.map(inputs.float(), ready.weight, ready.bias)
        added = mapped[..., : ready.units] if ready.units else torch.zeros((), device=x.device)
        if ready.gate is not None:
            added = added * ready.gate(self.protected.layer.steps_last(inputs.float()))
        if ready.codebook is not None:
            added = added + ready.codebook(mapped[..., ready.units :])
        return x + added.to(x.dtype)

    def affine(self, site: Site) -> Affine:
        if self.parts != "ridge":
            raise ValueError(
                "A memory cannot be folded as a whole: its codebook is no affine map. Fold its ridge map, "
                "replace(memory, parts='ridge'), and keep the codebook as a hook: replace(memory, parts='codebook')."
            )
        if self.corrections.gated:
            raise ValueError(
                "A gated ridge map is no affine map, and cannot be folded. Make the memory without a gate: "
                "Memory.new(protected, strength, gated=False)."
            )
        weight, bias, _, _ = self.corrections.fitted()
        if self.folded is not None:
            weight, bias = weight - self.folded[:, :-1], bias - self.folded[:, -1]
        return Affine(added=weight.double(), shift=bias.double())


@dataclass(frozen=True, eq=False)
class _Ready:
    """A memory on a device: a map of the inputs, of whose rows the first `units` are added, as far as the `gate` is
    open, and the others looked up.
    """

    weight: Tensor
    bias: Tensor
    units: int
    codebook: Codebook | None
    gate: Gate | None


@dataclass(frozen=True, eq=False)
class Correction:
    """How a correction went: whether free decoding gives the text now, the change that was looked for last, in which
    round that was, and its size beside the layer's usual output (root mean square over the steps it touches). `entry`
    is what the memory holds of it, None where it is not fixed.
    """

    entry: Entry | None
    fixed: bool
    change: Change
    rounds: int
    size: float


@torch.inference_mode(False)
@torch.enable_grad()
def correct(
    model: nn.Module,
    memory: Memory,
    number: int,
    loss: Callable[[], Tensor],
    right: Callable[[], bool],
    steps: int | None = None,
    search: Search | None = None,
) -> Correction:
    """Put a correction of one example into the memory, as `number`, and see that it holds.

    `loss` and `right` are as `find_change` has them; they run the model without the memory on. `steps` is how many of
    the layer's steps are the example's own (None: all). Where it cannot be fixed, the memory is as it was before.
    """
    search = search or Search()
    layer = memory.protected.layer
    with layer_inputs(model, layer) as found, torch.no_grad():
        loss()
    (inputs,) = found
    inputs = inputs[0].float().cpu()
    if steps is not None:
        inputs = inputs[: layer.needed(steps)]
    total = len(layer.keys(inputs)) if steps is None else steps
    mapped, in_weights = (own[:total] for own in memory.mapped(inputs))
    before = in_weights + memory.change(inputs)[:total]
    usual, margin, own = memory.protected.output_scale, search.margin, search.own
    for turn in range(1, search.rounds + 1):
        reach, harder = memory.reach(inputs, total, own), replace(search, margin=margin)
        change = find_change(model, layer.site, reach, usual, loss, right, harder, [memory])
        if not change.right:
            own *= _FREER  # what no map can do is left to the codebook
            continue
        memory.add(number, memory.entry(inputs, before + change.values, mapped + change.kept))
        fixed = False
        try:
            with intervene(model, memory), torch.no_grad():
                fixed = right()
        finally:
            entry = memory.entries[number] if fixed else memory.remove(number)
        if fixed:
            size = float(rms(change.values[change.touched])) / usual if change.touched.any() else 0.0
            return Correction(entry, True, change, turn, size)
        margin = search.margin / (turn + 1)
    return Correction(None, False, change, turn, 0.0)
