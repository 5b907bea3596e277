"""A steering vector learned by gradient: one that makes a loss of the steered model small, while the model is fixed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from interventions.intervene import intervene
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
    longest: float | None = None,
    start: Tensor | None = None,
    **how: object,
) -> Steer:
    """Return the `Steer` whose vector Adam finds in so many steps (Subramani et al. 2022, "latent steering vectors").

    `loss(model)` is called once a step, with the vector added; it may take another batch each time, and so go through a
    corpus. Weights get no gradients; which of them require some, what gradients they hold and the mode are as before.

    Args:
        loss: returns a scalar that depends on the site's activation.
        lr: how far each entry of the vector goes in a step, at first.
        longest: the vector's greatest length; None: any.
        start: `(units,)`, where to begin; None: at zero.
        how: `scope` and `strength` of the intervention.

    Raises:
        ValueError: there are no steps, or the loss is not finite, or does not depend on the site.
        NeverRanError: the loss did not call the site.
    """
    if steps < 1:
        raise ValueError(f"Expected at least one step, got {steps}.")
    weight = next(model.parameters(), torch.zeros(()))
    first = torch.zeros(site.units) if start is None else start.detach()
    vector = first.to(weight.device, torch.float32, copy=True).requires_grad_()
    optimizer = torch.optim.Adam([vector], lr)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with intervene(model, Steer(site, vector, **how)):
            for step in range(steps):
                optimizer.zero_grad()
                value = loss(model)
                if not value.isfinite():
                    raise ValueError(
                        f"The loss at step {step} is {float(value.detach())}. Take a smaller lr, or longest=."
                    )
                if not value.requires_grad:
                    raise ValueError(f"The loss does not depend on '{site.name}', so that no gradient gets there.")
                value.backward()
                optimizer.step()
                if longest is not None:
                    with torch.no_grad():
                        vector.mul_(min(1.0, longest / max(float(vector.norm()), 1e-30)))
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return Steer(site, vector.detach(), **how)
