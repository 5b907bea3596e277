"""Low-rank edits that are trained (LoReFT: Wu et al. 2024, "ReFT: Representation Finetuning for Language Models")."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.intervention import CastLike, Edit, Intervention
from interventions.scope import StepContext
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class LowRank(Intervention):
    """Within a few directions, replace what an activation is by what a trained map makes of it.

    The paper's edit is `h + R' (W h + b - R h)`, where the rows of R `(rank, units)` are orthonormal. Here
    `W = R + change`, so that it reads `h + R' (change h + bias)`: the same edits, and one that starts as the identity,
    bit for bit, has `change` `(rank, units)` and `bias` `(rank,)` of zeros. R are the rows of `basis` `(rank, units)`,
    orthonormalised by a QR decomposition through which gradients flow, so that any optimizer may train `basis`.

    Train it as `optimizer = Adam(edit.parameters())` and `with intervene(model, edit): ...`; `detached()` is what to
    keep. Parameters are best float32: under autocast or on a half-precision model they are cast as they are used.

    Raises:
        ValueError: the tensors do not fit the site, or each other, or the rank is above the number of units.
    """

    site: Site
    basis: Tensor
    change: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        units, rank = self.site.units, len(self.basis)
        given = tuple(tuple(part.shape) for part in (self.basis, self.change, self.bias))
        if given != ((rank, units), (rank, units), (rank,)) or not 0 < rank <= units:
            raise ValueError(
                f"'{self.site.name}' has {units} units: expected basis (rank, {units}), change (rank, {units}) and "
                f"bias (rank,), with a rank from 1 to {units}; got {', '.join(map(str, given))}."
            )

    @classmethod
    def new(cls, site: Site, rank: int, seed: int = 0, **how: object) -> "LowRank":
        """An edit that changes nothing yet, in random directions; all of it requires gradients.

        `how` are `scope` and `strength`.
        """
        draw = torch.Generator().manual_seed(seed)
        basis = torch.randn(rank, site.units, generator=draw)
        parts = (basis, torch.zeros(rank, site.units), torch.zeros(rank))
        return cls(site, *(part.requires_grad_() for part in parts), **how)

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def rotation(self) -> Tensor:
        """R: the rows of `basis`, orthonormalised, `(rank, units)` in float32 or wider."""
        wide = self.basis.to(torch.promote_types(self.basis.dtype, torch.float32))
        rows, triangle = torch.linalg.qr(wide.T)
        # A decomposition may turn a row's sign where it likes; this one does not, so that training never sees a jump.
        return (rows * torch.where(triangle.diagonal() < 0, -1.0, 1.0)).T

    def detached(self) -> "LowRank":
        """The edit as it is now, to be kept: a copy that trains no more, and is faster for that."""
        parts = {name: getattr(self, name).detach().clone() for name in ("basis", "change", "bias")}
        return replace(self, **parts)

    def at(self, site: Site) -> Edit:
        change, bias = CastLike(self.change), CastLike(self.bias)
        fixed = None if self.basis.requires_grad else CastLike(self.rotation())

        def edit(x: Tensor, now: StepContext) -> Tensor:
            rotation = CastLike(self.rotation())(x) if fixed is None else fixed(x)
            return x + ((x @ change(x).T + bias(x)) @ rotation).to(x.dtype)

        return edit

    def affine(self, site: Site) -> Affine:
        rotation = self.rotation().detach().double()
        change, bias = self.change.detach().double(), self.bias.detach().double()
        return Affine(shift=bias @ rotation, left=rotation.T, right=change)
