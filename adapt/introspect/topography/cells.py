"""Cells of learned maps: which cell each unit of a site is in, row after row, and how files say it.

A file says it in a line for each site, the cells in the order of the units: `{"net.conv3": "12 0 7 ..."}`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.introspect.topography.grid import cells_of, grid_size
from adapt.introspect.topography.layouts import sorted_grid

_COMPONENTS = 64  # of the weights' directions, by which they are sorted


@torch.no_grad()
def cells_by_weight(weight: Tensor) -> list[int]:
    """A cell for each unit, so that those whose weights, `(units, ...)`, point the same way are neighbours.

    By `sorted_grid` of the 64 first principal components of the directions, from the units' cosines: 0.04 s for 250
    units, and 5 s for 2,000.
    """
    rows = weight.detach().flatten(1).double().cpu()
    directions = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    directions = directions - directions.mean(0)
    sizes, vectors = torch.linalg.eigh(directions @ directions.T)
    sizes, vectors = sizes[-_COMPONENTS:].clamp_min(0), vectors[:, -_COMPONENTS:]
    # An eigenvector's sign is anybody's guess: the largest part of each is made positive.
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return cells_of(sorted_grid((vectors * signs * sizes.sqrt()).numpy(), distance="euclidean"))


def cells_to_text(cells: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """As files hold them."""
    return {name: " ".join(map(str, own)) for name, own in cells.items()}


def cells_from_text(said: Any, where: Path | str) -> dict[str, list[int]]:
    """What `cells_to_text` made; nothing where nothing is said. Raises InputError where it is something else."""
    if said is None:
        return {}
    try:
        found = {str(name): [int(cell) for cell in own.split()] for name, own in said.items()}
        for cells in found.values():
            rows, columns = grid_size(max(1, len(cells)))
            if not cells or len(set(cells)) < len(cells) or not 0 <= min(cells) <= max(cells) < rows * columns:
                raise ValueError("a unit has no cell of its own")
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"'{where}' does not say in which cells of a grid units lie, as we write it ({error})."
        ) from None
    return found


def cells_of_model(header: Mapping[str, Any], reference: str) -> dict[str, list[int]]:
    """The grids that a model's units were laid on while it trained, by site; nothing where there are none.

    Raises:
        InputError: its header says something else.
    """
    return cells_from_text(header.get("topographic"), reference)
