"""Checks of a model's sites on the activations of forward passes."""

import torch

from interventions.sites import length_mask


def activations(model, *inputs):
    """Return a copy of each site's output in one forward pass, by name in the order of the calls."""
    found = {}

    def keep(name):
        def hook(module, given, output):
            assert name not in found, f"{name} was called twice"
            found[name] = output.clone()

        return hook

    handles = [model.get_submodule(site.name).register_forward_hook(keep(site.name)) for site in model.sites]
    try:
        with torch.inference_mode():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def in_time(activation, site):
    """Return an activation as `(batch, time, units)`."""
    return activation if site.unit_axis == -1 else activation.transpose(1, site.unit_axis + 1)


def check_alone(model, samples, tokens, *inputs):
    """Check one utterance without padding: every site is called, in order, and all of its steps are valid."""
    found = activations(model, *inputs)
    # The projections of an attention may be called in any order.
    calls, names = ([_place(name) for name in names] for names in (found, [site.name for site in model.sites]))
    assert list(dict.fromkeys(calls)) == list(dict.fromkeys(names)) and sorted(calls) == sorted(names)
    for site in model.sites:
        activation = in_time(found[site.name], site)
        assert activation.shape[2] == site.units
        steps = model.valid_lengths(site, samples, tokens)
        assert steps.tolist() == [activation.shape[1]], site.name
        if site.step.unit == "s":
            # The steps last as long as the utterance, up to one window at the edges.
            assert abs(int(steps) * site.step.length - int(samples) / model.sample_rate) <= 0.05, site.name
    return found


def check_padded(model, number, samples, tokens, together, alone):
    """Check that the valid steps of an utterance in a padded batch have the same activations as without a batch."""
    for site in model.sites:
        batch, one = in_time(together[site.name], site), in_time(alone[site.name], site)
        mask = length_mask(model.valid_lengths(site, samples, tokens), batch.shape[1])
        assert mask.shape == batch.shape[:2]
        own = one[0, : int(mask[number].sum())]
        scale = float(own.abs().max())
        torch.testing.assert_close(
            batch[number][mask[number]], own, atol=1e-5 * max(1, scale), rtol=1e-5, msg=site.name
        )


def _place(name):
    projections = ("q_proj", "k_proj", "v_proj", "linear_q", "linear_k", "linear_v", "query", "key", "value")
    return name.rpartition(".")[0] if name.endswith(projections) else name
