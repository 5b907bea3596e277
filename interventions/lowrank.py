"""Trained low-rank edits (LoReFT: Wu et al. 2024, "ReFT: Representation Finetuning for Language Models")."""

# torch.linalg has no type annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.intervention import CastLike, Edit, Intervention
from interventions.scope import EVERYWHERE, Scope, StepContext
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class LowRank(Intervention):
    """Replace the activation within a low-rank subspace by a trained affine map of the activation.

    The edit of the paper is `h + R' (W h + b - R h)` with orthonormal rows R `(rank, units)`. Here `W = R + change`, so
    that the edit is `h + R' (change h + bias)`, which is the identity, bit for bit, if `change` and `bias` are zero.

    Train it with `optimizer = Adam(edit.parameters())` and `with intervene(model, edit): ...`, and keep
    `edit.detached()`. Use float32 parameters, also under autocast or in half precision: they are cast when they are
    used.

    Args:
        site: where to edit.
        basis: `(rank, units)`. R is its QR orthonormalisation, through which gradients flow, so any optimizer can train
            it.
        change: `(rank, units)`.
        bias: `(rank,)`.

    Raises:
        ValueError: If the shapes do not fit the site or each other, or the rank exceeds the number of units.
    """

    site: Site
    basis: Tensor
    change: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        units, rank = self.site.units, len(self.basis)
        shapes = tuple(tuple(tensor.shape) for tensor in (self.basis, self.change, self.bias))
        if shapes != ((rank, units), (rank, units), (rank,)) or not 0 < rank <= units:
            raise ValueError(
                f"'{self.site.name}' has {units} units: expected basis (rank, {units}), change (rank, {units}) and "
                f"bias (rank,), with a rank from 1 to {units}; got {', '.join(map(str, shapes))}."
            )

    @classmethod
    def new(cls, site: Site, rank: int, seed: int = 0, scope: Scope = EVERYWHERE, strength: float = 1.0) -> "LowRank":
        """Create an edit that is the identity, in random directions. All of its tensors require gradients.

        Args:
            site: where to edit.
            rank: dimension of the subspace.
            seed: seed of the random directions.
            scope: see `Intervention`.
            strength: see `Intervention`.
        """
        generator = torch.Generator().manual_seed(seed)
        basis = torch.randn(rank, site.units, generator=generator)
        tensors = (basis, torch.zeros(rank, site.units), torch.zeros(rank))
        return cls(site, *(tensor.requires_grad_() for tensor in tensors), scope=scope, strength=strength)

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def rotation(self) -> Tensor:
        """Return R, the orthonormalised rows of `basis`, `(rank, units)` in float32 or wider."""
        wide = self.basis.to(torch.promote_types(self.basis.dtype, torch.float32))
        rows, triangle = torch.linalg.qr(wide.T)
        # QR leaves the sign of each row open. Fix it, so that R does not jump during training.
        return (rows * torch.where(triangle.diagonal() < 0, -1.0, 1.0)).T

    def detached(self) -> "LowRank":
        """Return a copy that is not trained. It is also faster, because R is computed once."""
        basis, change, bias = (tensor.detach().clone() for tensor in (self.basis, self.change, self.bias))
        return replace(self, basis=basis, change=change, bias=bias)

    def at(self, site: Site) -> Edit:
        change, bias = CastLike(self.change), CastLike(self.bias)
        fixed = None if self.basis.requires_grad else CastLike(self.rotation())

        def edit(x: Tensor, context: StepContext) -> Tensor:
            rotation = CastLike(self.rotation())(x) if fixed is None else fixed(x)
            return x + ((x @ change(x).T + bias(x)) @ rotation).to(x.dtype)

        return edit

    def affine(self, site: Site) -> Affine:
        rotation = self.rotation().detach().double()
        change, bias = self.change.detach().double(), self.bias.detach().double()
        return Affine(shift=bias @ rotation, left=rotation.T, right=change)
