"""Learn a steering vector by gradient descent on a loss of the steered model, whose weights stay fixed."""

# Tensor.norm and optimizers have no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from collections.abc import Callable

import torch
from torch import Tensor, nn

from interventions.intervene import intervene
from interventions.scope import EVERYWHERE, Scope
from interventions.sites import Site
from interventions.steer import Steer


@torch.inference_mode(False)
@torch.enable_grad()
def learn_vector(
    model: nn.Module,
    site: Site,
    loss: Callable[[nn.Module], Tensor],
    steps: int = 100,
    lr: float = 0.05,
    max_norm: float | None = None,
    start: Tensor | None = None,
    coefficient: float | tuple[float, ...] = 1.0,
    scope: Scope = EVERYWHERE,
    strength: float = 1.0,
) -> Steer:
    """Learn a steering vector with Adam (latent steering vectors: Subramani et al. 2022).

    The weights get no gradients, and `requires_grad`, `.grad` and the mode of the model are left as they were.

    Args:
        model: the model to steer.
        site: where to add the vector.
        loss: called with the steered model at each step; returns a scalar that depends on the site's activation. It may
            use another batch each time.
        steps: number of optimizer steps.
        lr: learning rate of Adam.
        max_norm: maximum length of the vector; None: unlimited.
        start: initial vector `(units,)`; None: zeros.
        coefficient: see `Steer`.
        scope: see `Intervention`.
        strength: see `Intervention`.

    Returns:
        The intervention with the learned vector.

    Raises:
        ValueError: If `steps` is below 1, or the loss is not finite or does not depend on the site.
        NeverRanError: If the loss does not run the site.
    """
    if steps < 1:
        raise ValueError(f"Expected at least one step, got {steps}.")
    weight = next(model.parameters(), torch.zeros(()))
    first = torch.zeros(site.units) if start is None else start.detach()
    vector = first.to(weight.device, torch.float32, copy=True).requires_grad_()
    optimizer = torch.optim.Adam([vector], lr)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steer = Steer(site, vector, coefficient, scope=scope, strength=strength)
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        with intervene(model, steer):
            for step in range(steps):
                optimizer.zero_grad()
                value = loss(model)
                if not value.isfinite():
                    raise ValueError(
                        f"The loss at step {step} is {float(value.detach())}. Use a smaller lr, or set max_norm."
                    )
                if not value.requires_grad:
                    raise ValueError(f"The loss does not depend on '{site.name}', so the vector has no gradient.")
                value.backward()
                optimizer.step()
                if max_norm is not None:
                    with torch.no_grad():
                        vector.mul_(min(1.0, max_norm / max(float(vector.norm()), 1e-30)))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
    return Steer(site, vector.detach(), coefficient, scope=scope, strength=strength)
