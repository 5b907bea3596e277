"""What is frozen stays the same bit for bit, however the rest is trained."""

import pytest
import torch
from torch import nn

from interventions.bits import changed_bits
from interventions.freeze import eval_frozen, freeze_all_but, frozen_modules


class Tied(nn.Module):
    """Embedding and output share one matrix."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(6, 4), nn.Linear(4, 6)
        self.out.weight = self.embed.weight


def stack():
    """Two blocks of a convolution, batch norm with momentum, dropout; and a head."""
    return nn.Sequential(
        nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, momentum=0.5), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4, momentum=0.5), nn.Dropout(0.5)),
        nn.Conv1d(4, 2, 1),
    )


def train(model, optimizer, steps=5):
    for seed in range(steps):
        model.train()
        eval_frozen(model)
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 12)).square().mean().backward()
        optimizer.step()


def changed(before, after):
    return {name for name in before if changed_bits(before[name], after[name]).any()}


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_named_parameters_train_and_no_others():
    model = stack()
    chosen = {"0.0.bias", "2.weight"}
    freeze_all_but(model, iter(chosen))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == chosen
    freeze_all_but(model, ["1.1.weight"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"1.1.weight"}


@pytest.mark.parametrize("name", ["embed.weight", "out.weight"])
def test_a_tied_parameter_trains_under_either_name(name):
    model = Tied()
    freeze_all_but(model, [name])
    assert model.embed.weight.requires_grad and model.out.weight.requires_grad and not model.out.bias.requires_grad


def test_a_tied_parameter_is_frozen_under_both_names():
    model = Tied()
    freeze_all_but(model, ["out.bias"])
    assert not model.embed.weight.requires_grad and not model.out.weight.requires_grad


def test_an_unknown_name_is_refused_and_nothing_is_frozen():
    model = stack()
    with pytest.raises(ValueError, match=r"'9\.weight'.*0\.0\.weight"):
        freeze_all_but(model, ["2.weight", "9.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_buffer_is_no_parameter():
    with pytest.raises(ValueError, match="running_mean"):
        freeze_all_but(stack(), ["0.1.running_mean"])


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="Nothing is left"):
        freeze_all_but(stack(), [])


def test_a_partly_trained_container_trains_and_its_frozen_part_does_not():
    model = stack()
    freeze_all_but(model, ["1.0.weight", "2.weight", "2.bias"])
    model.train()
    eval_frozen(model)
    frozen = set(frozen_modules(model))
    assert frozen == {*model[0].modules(), model[1][1]}
    assert all(module.training == (module not in frozen) for module in model.modules())


def test_eval_frozen_leaves_eval_mode_as_it_is():
    model = stack()
    freeze_all_but(model, ["2.weight"])
    model.eval()
    eval_frozen(model)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    ],
    ids=["adamw", "sgd"],
)
@pytest.mark.parametrize("given_all", [False, True], ids=["trained-only", "all-parameters"])
@pytest.mark.parametrize(
    "chosen",
    [["2.weight", "2.bias"], ["0.0.weight"], ["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"], ["0.1.weight"]],
    ids=["head", "first-conv", "second-block", "norm-scale"],
)
def test_training_moves_what_was_chosen_and_not_one_bit_else(make, given_all, chosen):
    torch.manual_seed(0)
    model = stack()
    freeze_all_but(model, chosen)
    before = snapshot(model)
    train(model, make([p for p in model.parameters() if given_all or p.requires_grad]))
    statistics = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d) and any(p.requires_grad for p in module.parameters())
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert changed(before, snapshot(model)) == {*chosen, *statistics}


def test_without_eval_the_statistics_would_drift():
    """The check of the check above: `requires_grad=False` alone does not freeze."""
    model = stack()
    freeze_all_but(model, ["2.weight"])
    before = snapshot(model)
    model.train()
    model(torch.randn(4, 3, 12))
    assert {"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"} <= changed(before, snapshot(model))


def test_what_was_trained_before_keeps_no_gradient_that_an_optimizer_would_apply():
    model = stack()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.randn(4, 3, 12)).square().mean().backward()
    freeze_all_but(model, ["2.weight"])
    before = snapshot(model)
    optimizer.step()
    assert changed(before, snapshot(model)) <= {"2.weight"}
