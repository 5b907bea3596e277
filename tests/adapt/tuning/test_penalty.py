"""Penalties: what they add up to, over what; LoRA's factors count as what they add; EWC is measured once."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import nn

from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.tuning.layers import full, head, layers
from adapt.tuning.neurons import neurons
from adapt.tuning.penalty import ewc, l2sp, none
from interventions.freeze import freeze_all_but


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab")).eval()


@pytest.fixture
def sample(tmp_path):
    draw = np.random.default_rng(0)
    source = []
    for number, text in enumerate(["ab", "ba", "a b", "b"]):
        soundfile.write(tmp_path / f"{number}.wav", draw.normal(0, 0.1, 4000 + 500 * number), 16_000)
        source.append(Utterance(tmp_path / f"{number}.wav", text, duration=(4000 + 500 * number) / 16_000))
    return TuningData((), source, Loader())


def moved(model, by=0.1):
    """What trains, moved at random; returns the squared distance by name."""
    draw = torch.Generator().manual_seed(0)
    distance = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                step = by * torch.randn(parameter.shape, generator=draw)
                before = parameter.clone()
                parameter.add_(step)
                distance[name] = float((parameter - before).double().square().sum())
    return distance


@pytest.mark.parametrize(
    "tuning",
    [
        full,
        head,
        lambda model: layers(model, layers="middle"),
        lambda model: neurons(model, choose="random", top=0.3),
    ],
)
def test_l2sp_is_half_the_strength_times_the_squared_distance_of_what_trains(model, tuning):
    freeze_all_but(model, tuning(model).names)
    keep = l2sp(model, strength=0.5)
    assert keep().item() == 0
    distance = moved(model)
    assert keep().item() == pytest.approx(0.25 * sum(distance.values()), rel=1e-5)
    keep().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in distance)
    # A copy of what trains and nothing else; and nothing that a checkpoint would hold, or processes send.
    held = sum(tensor.numel() for tensor in keep.anchored.start)
    assert held == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert not keep.state_dict() and not list(keep.buffers()) and not list(keep.parameters())


def test_a_row_is_anchored_where_the_row_was(model):
    names = neurons(model, choose="random", per_site=True, top=1).names
    freeze_all_but(model, names)
    keep = l2sp(model, strength=2.0)
    rows = next(parameter for name, parameter in model.named_parameters() if name.endswith(".rows"))
    with torch.no_grad():
        rows.zero_()
    start = keep.anchored.start[keep.anchored.names.index(next(name for name in names if name.endswith(".rows")))]
    assert keep().item() == pytest.approx(float(start.double().square().sum()), rel=1e-5)


class Factors(nn.Module):
    """A linear map with what peft puts beside it, by its names."""

    def __init__(self):
        super().__init__()
        self.base_layer = nn.Linear(6, 5)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 5, bias=False)})
        self.scaling = {"default": 4.0}
        self.base_layer.requires_grad_(False)
        nn.init.zeros_(self.lora_B["default"].weight)


def test_lora_factors_count_as_what_they_add_to_the_weight():
    torch.manual_seed(0)
    model = nn.Sequential(Factors(), nn.Linear(5, 3))
    keep = l2sp(model, strength=2.0)
    factors = model[0]
    a, b = factors.lora_A["default"].weight, factors.lora_B["default"].weight
    with torch.no_grad():
        a.mul_(3)
    assert keep().item() == 0  # A is free while B is zero
    with torch.no_grad():
        b.normal_()
        model[1].weight.add_(1)
    added = 4 * (b @ a)
    assert keep().item() == pytest.approx(added.square().sum().item() + 15, rel=1e-5)


def test_what_peft_says_is_added_is_what_counts():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = nn.ModuleDict({"map": nn.Linear(6, 5), "conv": nn.Conv1d(5, 7, 3), "embedding": nn.Embedding(9, 6)})
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=list(model))
    peft.inject_adapter_in_model(config, model)
    keep = l2sp(model, strength=2.0)
    assert keep().item() == 0 and not keep.anchored.names
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    added = sum(module.get_delta_weight("default").square().sum().item() for module in model.values())
    assert keep().item() == pytest.approx(added, rel=1e-5)


def test_penalties_are_as_exact_under_autocast(model):
    freeze_all_but(model, full(model).names)
    keep = l2sp(model)
    moved(model, by=1e-4)
    exact = keep()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(keep(), exact)


def test_ewc_weighs_by_the_mean_squared_gradient_of_single_examples(model, sample, tmp_path):
    freeze_all_but(model, layers(model, layers="last 3").names)
    keep = ewc(model, strength=1.0, data=sample)
    keep.prepare(tmp_path)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for batch in replace(sample.loader, batch_seconds=0).evaluation(sample.source, model.reader):
        assert len(batch.examples) == 1
        model.zero_grad()
        model.task.loss(model, batch).backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                expected[name] += parameter.grad.square()
    mean = sum(map(torch.sum, expected.values())) / sum(p.numel() for p in expected.values())
    saved = load_file(tmp_path / "fisher.safetensors")
    assert saved.keys() == expected.keys()
    for name, fisher in saved.items():
        torch.testing.assert_close(fisher, expected[name] / mean)
    before = {name: p.clone() for name, p in model.named_parameters()}
    moved(model)
    said = sum((saved[name] * (p - before[name]).square()).sum().item() for name, p in model.named_parameters()
               if name in saved)  # fmt: skip
    assert keep().item() == pytest.approx(said / 2, rel=1e-4)


def test_ewc_measures_once_and_leaves_the_model_as_it_was(model, sample, tmp_path):
    freeze_all_but(model, neurons(model, choose="random", top=0.2).names)
    model.train()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ewc(model, examples=3, data=sample).prepare(tmp_path)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    again = ewc(model, examples=3, data=replace(sample, source=[Utterance(tmp_path / "gone.wav", "a")]))
    again.prepare(tmp_path)
    saved = load_file(tmp_path / "fisher.safetensors")
    assert all(
        torch.equal(saved[name], own) for name, own in zip(again.anchored.names, again.anchored.importance, strict=True)
    )
    freeze_all_but(model, [next(name for name, _ in model.named_parameters() if "conv10" in name)])
    with pytest.raises(InputError, match="does not belong to this run"):
        ewc(model, data=sample).prepare(tmp_path)


def test_what_cannot_be_is_refused(model, sample):
    assert none(model) is None
    for strength in (0, -1, "much", True, float("nan")):
        with pytest.raises(InputError, match="strength must be a number above 0"):
            l2sp(model, strength=strength)
    with pytest.raises(InputError, match=r"data\.source_train="):
        ewc(model, data=replace(sample, source=()))
    with pytest.raises(InputError, match="examples must be"):
        ewc(model, examples=0, data=sample)
