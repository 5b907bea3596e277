"""Apply the interventions of a file while a model answers, and draw controls of equal size for them.

with applied(loaded, "quieter.safetensors"):
    loaded.model  # answers with the interventions
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.evaluation.conditions import random_vector, saved
from adapt.models.loaded import Loaded
from interventions.ablate import Ablate
from interventions.clamp import Clamp, Scale, Set
from interventions.intervene import Edits
from interventions.intervention import Intervention
from interventions.patch import Patch
from interventions.steer import Steer


@contextmanager
def applied(loaded: Loaded, path: str | Sequence[str] | None) -> Iterator[None]:
    """Apply the interventions of one or more files to a model, in all threads, until the block ends.

    Args:
        loaded: The model.
        path: A file that `interventions.store.save` wrote, or several; None or an empty list applies nothing.

    Raises:
        InputError: A file cannot be read, or is for another model.
    """
    if not path:
        yield
        return
    (condition,) = saved(loaded, Splits(), Loader(), path)
    edits = Edits(loaded.model)
    try:
        for intervention in condition.interventions:
            edits.add(intervention)
        yield
    finally:
        edits.clear()


def random_control(intervention: Intervention, seed: int) -> Intervention:
    """Return a control of equal size for an intervention.

    For neurons, as many random ones at each site; for a vector, a random one of the same length; for a patch, its own
    steps in random order. Others have no control, and are returned as they are.

    Args:
        intervention: The intervention.
        seed: The seed of the draw.
    """
    if isinstance(intervention, Steer):
        return random_vector(intervention, seed)
    if isinstance(intervention, (Ablate, Clamp, Scale, Set)):
        return replace(intervention, neurons=intervention.neurons.random(seed))
    if isinstance(intervention, Patch) and intervention.activation.dim() == 3:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(intervention.activation.shape[1], generator=generator)
        return replace(intervention, activation=intervention.activation[:, order])
    return intervention
