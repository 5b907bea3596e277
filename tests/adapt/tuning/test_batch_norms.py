"""Which batch-norm statistics each tuning moves: those of norms that train as a whole, and no others."""

from functools import partial

import pytest
import torch
from torch import nn

from adapt.data.loader import collate
from adapt.data.recording import Recording
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.prefix import train_mode
from adapt.tuning.bias_norm import bias, norm
from adapt.tuning.layers import full, head, layers
from adapt.tuning.lora import lora
from adapt.tuning.mix import mix
from adapt.tuning.neurons import neurons
from interventions.bits import changed_bits
from interventions.freeze import eval_frozen, freeze_all_but, frozen_modules, updated_norms
from interventions.neurons import Neurons

SECOND = "net.acoustic_model.norm1"
ALL = [f"net.acoustic_model.norm{number}" for number in range(10)]


def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab"))


def some(own):
    return Neurons({own.sites[1]: [0, 3]})


@pytest.mark.parametrize(
    ("tuning", "moves"),
    [
        (full, ALL),
        (norm, ALL),
        (partial(layers, layers=[1]), [SECOND]),
        (head, []),
        (bias, []),  # it used to move all of them
        (partial(bias, layers=[1]), []),
        (lora, []),
        (lambda own: neurons(own, neurons=some(own)), []),
        (lambda own: neurons(own, neurons=some(own), freeze=True), ALL),
        (lambda own: mix(own, parts={"a": bias, "b": head}), []),
        (lambda own: mix(own, parts={"a": bias, "b": partial(norm, sites="*norm1")}), [SECOND]),
    ],
    ids=["full", "norm", "layers", "head", "bias", "bias of a layer", "lora", "neurons", "all but neurons", "mix",
         "mix with a norm"],
)  # fmt: skip
def test_statistics_move_only_where_a_norm_trains_as_a_whole(tuning, moves):
    own = model()
    freeze_all_but(own, tuning(own).names)
    names = {module: name for name, module in own.named_modules()}
    assert [names[module] for module in updated_norms(own)] == moves
    before = {name: tensor.clone() for name, tensor in own.named_buffers()}
    recordings = [Recording(torch.randn(4000).numpy() / 9, 16_000, "ab") for _ in range(2)]
    batch = collate([(one, own.reader.read(one)) for one in recordings])
    with train_mode(own):
        own.task.loss(own, batch)
    moved = {name for name, tensor in own.named_buffers() if changed_bits(before[name], tensor).any()}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"{name}.{kind}" for name in moves for kind in kinds}


def test_bias_tuning_moves_biases_and_nothing_else():
    own = model()
    names = bias(own).names
    freeze_all_but(own, names)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in own.parameters() if p.requires_grad], lr=0.1)
    one = Recording(torch.randn(4000).numpy() / 9, 16_000, "ab")
    with train_mode(own):
        own.task.loss(own, collate([(one, own.reader.read(one))])).backward()
    optimizer.step()
    moved = {name for name, tensor in own.state_dict().items() if changed_bits(before[name], tensor).any()}
    assert moved == set(names) and all(name.endswith(".bias") for name in moved)


@pytest.mark.parametrize("chosen", [["0.bias"], ["0.weight"], ["0.weight", "0.bias"]])
def test_a_batch_norm_without_parameters_follows_the_whole_module_around_it(chosen):
    own = nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2, affine=False))
    freeze_all_but(own, chosen)
    own.train()
    eval_frozen(own)
    whole = len(chosen) == 2
    assert own[1].training == whole and (own[1] in frozen_modules(own)) != whole
    assert updated_norms(own) == ([own[1]] if whole else [])
