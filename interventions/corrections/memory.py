"""A memory of corrections: an intervention that makes a model give the corrected answers, without training.

    memory = Memory.new(protected)                              # protected: inputs to leave alone (protect.py)
    result = correct(model, memory, 1, loss, is_correct)        # decoding now gives the corrected text (correct.py)
    with intervene(model, memory): model(audio)                 # an empty memory is the identity
    memory.remove(1)                                            # restores the state before the correction

A correction changes the outputs of one affine layer. (A) `find_change` searches for the smallest change after which
free decoding gives the corrected text, among the changes that a map of the layer's inputs can make (`search.py`); (B) a
ridge map over all corrections makes these changes and generalises them (`ridge.py`); (C) a codebook of the map's
residuals keeps each correction exact (`codebook.py`). At convolutions a gate disables the map for examples that
resemble protected ones more than corrected ones (`gate.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.corrections.codebook import Codebook
from interventions.corrections.collection import CorrectionSet, Entry
from interventions.corrections.gate import Gate
from interventions.corrections.protect import Protected
from interventions.corrections.search import EditSubspace
from interventions.intervention import Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site

Parts = Literal["both", "ridge", "codebook"]


@dataclass(frozen=True, eq=False)
class Memory(Intervention):
    """A view of a `CorrectionSet` as an intervention at one layer. Without corrections it is the identity, bit for bit.

    The view is frozen, but the set is not: corrections that are added or removed take effect in the next call of the
    model, in all views that `dataclasses.replace` makes.

    Args:
        protected: the layer and its protected inputs.
        corrections: the corrections, shared by all views.
        parts: what to apply: the "ridge" map, the "codebook" of its residuals, or "both".
        folded: `(units, width + 1)`, a ridge map (its bias last) that is already folded into the model's weights, and
            is therefore subtracted. A folded map has no gate.
    """

    protected: Protected
    corrections: CorrectionSet = field(repr=False)
    parts: Parts = "both"
    folded: Tensor | None = None

    @classmethod
    def new(
        cls, protected: Protected, strength: float = 300.0, folded: Tensor | None = None, gated: bool = True
    ) -> "Memory":
        """Return an empty memory.

        Args:
            protected: the layer and its protected inputs.
            strength: weight of the protected inputs in the ridge regression, in steps.
            folded: a ridge map that is already folded into the weights; see `Memory`.
            gated: whether the ridge map has a gate, if the layer can have one and nothing is folded.
        """
        return cls(protected, CorrectionSet(protected, strength, gated and folded is None), folded=folded)

    @property
    def ridge_strength(self) -> float:
        """Weight of the protected inputs in the ridge regression (`strength` scales the whole edit)."""
        return self.corrections.strength

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.protected.layer.site,)

    @property
    def reads_inputs(self) -> bool:
        return True

    @property
    def entries(self) -> Mapping[int, Entry]:
        """The corrections by number, read-only."""
        return self.corrections.entries

    def add(self, number: int, entry: Entry) -> None:
        """Add a correction. Raises ValueError if the number is in use."""
        self.corrections.add(number, entry)

    def remove(self, number: int) -> Entry:
        """Remove a correction and return it. Raises ValueError if no correction has this number."""
        return self.corrections.remove(number)

    def entry(self, inputs: Tensor, values: Tensor, targets: Tensor | None = None) -> Entry:
        """Quantise a correction.

        Args:
            inputs: `(time, inputs)`, the layer's inputs.
            values: `(steps, units)`, the change of the layer's outputs.
            targets: `(steps, units)`, the regression targets; None: `values`.
        """
        protected = self.protected
        rounded = protected.round_inputs(inputs)
        keys = protected.layer.keys(rounded.float() * protected.input_step)[: len(values)]
        targets = protected.round_values(values if targets is None else targets)
        return Entry(rounded, protected.round_values(values), targets, protected.radii(protected.project(keys)))

    def subspace(self, inputs: Tensor, steps: int, residual_scale: float) -> EditSubspace:
        """Return the changes that a correction can make, depending on `parts`.

        Args:
            inputs: `(time, inputs)`, the layer's inputs.
            steps: number of output steps.
            residual_scale: how far each step may change on its own. The codebook stores these changes.
        """
        if self.parts == "codebook":
            return EditSubspace.unrestricted(steps)
        subspace = self.corrections.sums.subspace(self.protected.round_inputs(inputs), steps, self.ridge_strength)
        return subspace if self.parts == "ridge" else subspace.with_residuals(residual_scale)

    @torch.no_grad()
    def change(self, inputs: Tensor) -> Tensor:
        """Return what the memory adds to the layer's outputs, `(steps, units)`, for inputs `(time, inputs)`."""
        layer = self.protected.layer
        batch = inputs.T[None] if layer.convolution else inputs[None]
        zeros = torch.zeros(1, len(layer.keys(inputs)), layer.site.units)
        return self._apply(zeros, batch, self._prepare(torch.device("cpu")))[0]

    @torch.no_grad()
    def mapped(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ridge map's outputs without the gate, and the part of these that is folded into the weights.

        Both are `(steps, units)`, for inputs `(time, inputs)`.
        """
        keys = self.protected.layer.keys(self.protected.round_inputs(inputs).float() * self.protected.input_step)
        fit = self.corrections.fitted()
        mapped = keys @ fit.weight.T + fit.bias
        if self.folded is None:
            return mapped, torch.zeros_like(mapped)
        return mapped, keys @ self.folded[:, :-1].T + self.folded[:, -1]

    def at(self, site: Site) -> Edit:
        prepared: dict[str, tuple[int, _Prepared | None]] = {}

        def edit(x: Tensor, context: StepContext) -> Tensor:
            device, version = str(x.device), self.corrections.version
            if device not in prepared or prepared[device][0] != version:
                prepared[device] = (version, self._prepare(x.device))
            return self._apply(x, context.inputs[0], prepared[device][1])

        return edit

    def _ridge_map(self) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of the part of the ridge map that is not folded into the model's weights."""
        fit = self.corrections.fitted()
        if self.folded is None:
            return fit.weight, fit.bias
        return fit.weight - self.folded[:, :-1], fit.bias - self.folded[:, -1]

    def _prepare(self, device: torch.device) -> "_Prepared | None":
        if not self.entries and self.folded is None:
            return None
        fit = self.corrections.fitted()
        with torch.inference_mode(False), torch.no_grad():
            weight, bias = self._ridge_map()
            use_ridge = self.parts != "codebook" and bool(weight.any() or bias.any())
            use_codebook = self.parts != "ridge" and len(fit.codebook) > 0
            # One pass over the inputs computes both what the map adds and the keys to look up.
            maps: list[tuple[Tensor, Tensor]] = []
            if use_ridge:
                maps.append((weight, bias))
            if use_codebook:
                maps.append((self.protected.projection, -self.protected.offset))
            if not maps:
                return None
            return _Prepared(
                weight=torch.cat([one for one, _ in maps]).to(device),
                bias=torch.cat([one for _, one in maps]).to(device),
                units=len(bias) if use_ridge else 0,
                codebook=fit.codebook.to(device) if use_codebook else None,
                gate=fit.gate.to(device) if use_ridge and fit.gate is not None else None,
            )

    def _apply(self, x: Tensor, inputs: Any, prepared: "_Prepared | None") -> Tensor:
        if prepared is None:
            return x
        mapped = self.protected.layer.map(inputs.float(), prepared.weight, prepared.bias)
        added = mapped[..., : prepared.units] if prepared.units else torch.zeros((), device=x.device)
        if prepared.gate is not None:
            added = added * prepared.gate(self.protected.layer.inputs_last(inputs.float()))
        if prepared.codebook is not None:
            added = added + prepared.codebook(mapped[..., prepared.units :])
        return x + added.to(x.dtype)

    def affine(self, site: Site) -> Affine:
        if self.parts != "ridge":
            raise ValueError(
                "A memory cannot be folded as a whole, because its codebook is not an affine map. Fold its ridge map, "
                "replace(memory, parts='ridge'), and apply replace(memory, parts='codebook') with intervene()."
            )
        if self.corrections.gated:
            raise ValueError(
                "A gated ridge map is not affine and cannot be folded. Create the memory without a gate: "
                "Memory.new(protected, strength, gated=False)."
            )
        weight, bias = self._ridge_map()
        return Affine(added=weight.double(), shift=bias.double())


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A memory on a device, with a single map of the inputs for both the ridge map and the codebook.

    The map's first `units` outputs are added, scaled by the gate; the others are keys to look up in the codebook.
    """

    weight: Tensor
    bias: Tensor
    units: int
    codebook: Codebook | None
    gate: Gate | None
