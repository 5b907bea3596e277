"""Running statistics of batch norms, computed again from examples."""

import copy

import torch

from adapt.blending.statistics import recompute_statistics, running_norms
from adapt.data.loader import Loader
from adapt.data.recording import Recording
from adapt.models.checkpoint import load_model
from interventions.bits import fingerprint


def noise(count):
    draw = torch.Generator().manual_seed(0)
    return [Recording(torch.randn(8000, generator=draw).mul(0.1).numpy(), 16000, "a b") for _ in range(count)]


def test_statistics_are_those_of_the_examples_and_nothing_else_changes():
    model = copy.deepcopy(load_model("us-english").model)
    before = {name: one.clone() for name, one in model.state_dict().items() if "running" not in name}
    seen = []
    first = running_norms(model)[0]
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    examples = noise(6)
    assert recompute_statistics(model, examples, Loader(batch_size=2)) == len(running_norms(model))
    handle.remove()
    assert len(seen) == 3
    torch.testing.assert_close(first.running_mean, torch.stack([one.mean((0, 2)) for one in seen]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([one.var((0, 2)) for one in seen]).mean(0))
    assert first.momentum == 0.1
    assert not any(module.training for module in model.modules())
    after = {name: one for name, one in model.state_dict().items() if "running" not in name}
    counts = [name for name in before if "num_batches" in name]
    assert fingerprint({n: t for n, t in before.items() if n not in counts}) == fingerprint(
        {n: t for n, t in after.items() if n not in counts}
    )


def test_a_model_without_batch_norms_is_left_alone(wav2vec2):
    model = load_model(str(wav2vec2)).model
    before = fingerprint(model.state_dict())
    assert recompute_statistics(model, noise(1), Loader()) == 0
    assert recompute_statistics(load_model("us-english").model, [], Loader()) == 0
    assert fingerprint(model.state_dict()) == before
