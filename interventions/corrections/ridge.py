"""Ridge regression over corrections, with exact sums: removing a correction restores the earlier sums bit for bit.

With keys K (steps, width) and targets R (steps, units) of each correction, the map D minimises
`sum |D k - r|^2 + strength * mean over protected keys of |D k|^2` (Meng et al. 2023, "Mass-editing memory in a
transformer", section 4.2, for one layer): `D = B (S + strength * C)^-1` with `S = sum k k'` and `B = sum r k'`.

Keys and targets are integers (`interventions/corrections/protect.py`), so the sums are integers below 2^53, which
float64 represents exactly: adding and removing in any order, on any machine, gives the same bits.
"""

# torch.linalg has no type annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from torch import Tensor

from interventions.corrections.protect import Protected
from interventions.corrections.search import EditSubspace

# float32 holds the sum of this many products of 8-bit integers exactly (127 ** 2 * 1024 < 2 ** 24).
_BLOCK = 1024
_JITTER = 1e-4  # share of a key's second moment that is added, so that directions without variance have a solution
_TRIES = 10  # how often the jitter may be raised tenfold, as few quantised protected keys with many inputs may need
_MIN_GAIN = 1e-3  # directions weaker than this share of a correction's strongest one are ignored


class RidgeSums:
    """The sums `S` and `B` over corrections. Their size and speed do not depend on the number of corrections."""

    def __init__(self, protected: Protected) -> None:
        width, units = protected.layer.width + 1, protected.layer.site.units
        self.protected = protected
        with torch.inference_mode(False):  # tensors from inference mode cannot be updated outside of it
            self.keys = torch.zeros(width, width, dtype=torch.float64)
            self.values = torch.zeros(units, width, dtype=torch.float64)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add a correction, given its quantised `inputs` `(time, inputs)` int8 and `targets` `(steps, units)` int16."""
        self._update(inputs, targets, 1)

    def remove(self, inputs: Tensor, targets: Tensor) -> None:
        """Remove a correction that was added. This restores the sums without it, bit for bit."""
        self._update(inputs, targets, -1)

    def _update(self, inputs: Tensor, targets: Tensor, sign: int) -> None:
        keys = self._keys(inputs, len(targets))
        for block in keys.split(_BLOCK):
            self.keys += sign * (block.T @ block).double()
        self.values += sign * (targets.double().T @ keys.double())

    def _keys(self, inputs: Tensor, steps: int) -> Tensor:
        """Return the quantised key of each step with a 1 appended, `(steps, width + 1)`, integers in float32."""
        return torch.cat([self.protected.layer.keys(inputs.float())[:steps], torch.ones(steps, 1)], 1)

    def _factor(self, strength: float) -> Tensor:
        second = self.protected.second.double()
        regularised = self.keys + strength * second
        for attempt in range(_TRIES):
            jitter = (_JITTER * 10**attempt * second.diagonal()).clamp_min(1e-12)
            if attempt:  # an input may be 0 in all protected examples, but not in the corrected ones
                jitter = jitter + 1e-10 * 10**attempt * regularised.diagonal()
            factor, failed = torch.linalg.cholesky_ex(regularised + torch.diag(jitter))
            if not failed:
                return factor
        raise ValueError("The protected inputs of the layer are not finite, so no map can be fitted.")

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Return the map's weight `(units, width)` and bias `(units,)` in float32; zeros without corrections."""
        protected = self.protected
        if not self.values.any():
            units, width = self.values.shape
            return torch.zeros(units, width - 1), torch.zeros(units)
        solved = torch.cholesky_solve(self.values.T, self._factor(strength)).T
        scaled = solved * protected.value_step / protected.key_step
        return scaled[:, :-1].float().contiguous(), scaled[:, -1].float()

    def subspace(self, inputs: Tensor, steps: int, strength: float) -> EditSubspace:
        """Return the changes that one more correction can make to the map's outputs at its own keys.

        Targets that exceed the map's outputs by r change these outputs by `G (G + 1)^-1 r`, where
        `G = K (S + strength * C)^-1 K'`, and raise the minimum of the regression by `r' (G + 1)^-1 r`.
        With `G = U diag(g) U'` and `r = U sqrt(1 + g) z`, this is a change of `U g / sqrt(1 + g) z` at the cost `z' z`.

        Args:
            inputs: quantised inputs of the correction, `(time, inputs)` int8.
            steps: number of output steps.
            strength: weight of the protected keys.
        """
        keys = self._keys(inputs, steps).double()
        solved = torch.linalg.solve_triangular(self._factor(strength), keys.T, upper=False)
        gains, axes = torch.linalg.eigh(solved.T @ solved)
        strong = gains > _MIN_GAIN * gains[-1]
        gains, axes = gains[strong], axes[:, strong]
        change, targets = axes * gains / (1 + gains).sqrt(), axes * (1 + gains).sqrt()
        size = (change.square().sum() / steps).sqrt()
        return EditSubspace((change / size).float(), (targets / size).float())
