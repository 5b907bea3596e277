"""Ridge regression over corrections, by sums that are exact: any of them is taken out as if it had never been there.

With keys K (steps, width) and wanted changes R (steps, units) of each correction, the map is the minimum over D of
`sum |D k - r|^2 + strength * mean over protected keys of |D k|^2` (Meng et al. 2023, "Mass-editing memory in a
transformer", section 4.2, for one layer): `D = B (S + strength * C)^-1` with `S = sum k k'` and `B = sum r k'`.

Keys and values are whole numbers (`interventions/corrections/protect.py`), so that these sums are whole numbers below 2^53,
which float64 holds exactly: adding and subtracting in any order, on any machine, gives the same bits.
"""

import torch
from torch import Tensor

from interventions.corrections.protect import Protected
from interventions.corrections.search import EditSubspace

# So many rows of products of 8-bit numbers have a sum that float32 holds exactly (127 ** 2 * 1024 < 2 ** 24).
_BLOCK = 1024
_JITTER = 1e-4  # of a key's own protected size, so that a direction in which nothing varied has a solution
_TRIES = 10  # so often is it raised tenfold, where few protected keys of many inputs, rounded, leave none
_LEAST = 1e-3  # of the strongest direction that a correction's keys reach in: weaker ones are left out


class RidgeSums:
    """The sums `S` and `B` over corrections; the number of corrections makes neither larger nor slower."""

    def __init__(self, protected: Protected) -> None:
        width, units = protected.layer.width + 1, protected.layer.site.units
        self.protected = protected
        with torch.inference_mode(False):  # else they could be added to in inference mode alone
            self.keys = torch.zeros(width, width, dtype=torch.float64)
            self.values = torch.zeros(units, width, dtype=torch.float64)

    def add(self, inputs: Tensor, values: Tensor) -> None:
        """Put in a correction: `inputs` `(time, inputs)` int8 and `values` `(steps, units)` int16, on their grids."""
        self._move(inputs, values, 1)

    def remove(self, inputs: Tensor, values: Tensor) -> None:
        """Take out a correction that was put in; what is left is what it was without it, bit for bit."""
        self._move(inputs, values, -1)

    def _move(self, inputs: Tensor, values: Tensor, sign: int) -> None:
        keys = self._keys(inputs, len(values))
        for block in keys.split(_BLOCK):
            self.keys += sign * (block.T @ block).double()
        self.values += sign * (values.double().T @ keys.double())

    def _keys(self, inputs: Tensor, steps: int) -> Tensor:
        """The key of each step with the 1 behind it, on the grid: `(steps, width + 1)`, whole numbers in float32."""
        return torch.cat([self.protected.layer.keys(inputs.float())[:steps], torch.ones(steps, 1)], 1)

    def _factor(self, strength: float) -> Tensor:
        second = self.protected.second.double()
        held = self.keys + strength * second
        for turn in range(_TRIES):
            own = (_JITTER * 10**turn * second.diagonal()).clamp_min(1e-12)
            if turn:  # an input may never have been anything but 0 in the protected, and differ in what is corrected
                own = own + 1e-10 * 10**turn * held.diagonal()
            factor, wrong = torch.linalg.cholesky_ex(held + torch.diag(own))
            if not wrong:
                return factor
        raise ValueError("The protected inputs of the layer are no finite numbers, so that nothing can be fitted.")

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """The map's weight `(units, width)` and bias `(units,)`, float32; zeros where there is no correction."""
        protected = self.protected
        if not self.values.any():
            units, width = self.values.shape
            return torch.zeros(units, width - 1), torch.zeros(units)
        solved = torch.cholesky_solve(self.values.T, self._factor(strength)).T
        whole = solved * protected.value_step / protected.key_step
        return whole[:, :-1].float().contiguous(), whole[:, -1].float()

    def reach(self, inputs: Tensor, steps: int, strength: float) -> EditSubspace:
        """What one more correction, at `inputs` `(time, inputs)` int8, can make of the map's outputs at its own keys.

        Kept values that exceed what the map gives by r move the map at these keys by `G (G + 1)^-1 r`, where
        `G = K (S + strength * C)^-1 K'`, and raise the least of what the regression minimises by `r' (G + 1)^-1 r`.
        With `G = U diag(g) U'` and `r = U sqrt(1 + g) z`, that is a change of `U g / sqrt(1 + g) z` at the cost `z' z`.
        """
        keys = self._keys(inputs, steps).double()
        solved = torch.linalg.solve_triangular(self._factor(strength), keys.T, upper=False)
        gains, axes = torch.linalg.eigh(solved.T @ solved)
        there = gains > _LEAST * gains[-1]
        gains, axes = gains[there], axes[:, there]
        change, kept = axes * gains / (1 + gains).sqrt(), axes * (1 + gains).sqrt()
        size = (change.square().sum() / steps).sqrt()
        return EditSubspace((change / size).float(), (kept / size).float())
