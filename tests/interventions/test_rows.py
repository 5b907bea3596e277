"""Neurons that train alone: what is frozen stays bit for bit, and what trains is what full fine-tuning would give."""

import copy
import io
from itertools import pairwise

import pytest
import torch
from small_models import marian, wav2letter, wav2vec2, whisper
from torch import nn
from torch.utils.checkpoint import checkpoint

from interventions.bits import changed_bits
from interventions.freeze import eval_frozen, freeze_all_but, frozen_modules
from interventions.neurons import Neurons, Scores
from interventions.rows import freeze_neurons, merge_rows, train_rows, untrainable_reasons
from interventions.sites import Site, find_sites


class Net(nn.Module):
    """Convolutions of every kind, an in-place ReLU, batch norm, dropout and linear maps; `(batch, 6, time)`."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv1d(6, 8, 4, stride=2, padding=3), nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Dropout(0.1),
            nn.Conv1d(8, 12, 3, groups=4, dilation=2), nn.ReLU(inplace=True),
            nn.Conv1d(12, 12, 5, groups=12, padding="same"), nn.Conv1d(12, 7, 3, padding=1, padding_mode="reflect"),
        )  # fmt: skip
        self.linear, self.out = nn.Linear(7, 9), nn.Linear(9, 5, bias=False)

    def forward(self, x):
        return self.out(torch.tanh(self.linear(self.convs(x).transpose(1, 2))))


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def some(model, share=0.3, seed=3):
    """A share of each site's neurons, at random."""
    sites = [site for site in find_sites(model) if not untrainable_reasons(model, [site])]
    draw = torch.Generator().manual_seed(seed)
    return Scores({site: torch.rand(site.units, generator=draw) for site in sites}).top(share, per_site=True)


def rows_only(model, neurons):
    names = train_rows(model, neurons)
    freeze_all_but(model, names)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def batch(seed):
    return torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(seed))


def fit(model, optimizer, steps=6, accumulate=1, first=0):
    for step in range(first, first + steps):
        model.train()
        eval_frozen(model)
        optimizer.zero_grad()
        for part in range(accumulate):
            torch.manual_seed(step)  # dropout
            (model(batch(step * accumulate + part)).square().mean() / accumulate).backward()
        optimizer.step()


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def frozen_bits_changed(before, after, neurons):
    """How many values that no neuron owns differ; of those that one does, some must in each parameter."""
    owned = {row: list(neurons[site]) for site in neurons.sites for row in site.rows}
    moved = 0
    for name, tensor in after.items():
        different = changed_bits(before[name], tensor)
        if owned.get(name):
            assert different[owned[name]].any(), name
            different[owned[name]] = False
        moved += int(different.sum())
    return moved


class ByData(torch.optim.Optimizer):
    """An optimizer of the old style: it changes a parameter's data, and its version does not tell."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(parameter.grad, alpha=-0.1)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "by-data": ByData,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_frozen_neuron_is_bit_identical_after_many_steps(optimizer):
    model = net()
    neurons, before = some(model), snapshot(model)
    fit(model, OPTIMIZERS[optimizer](rows_only(model, neurons)), steps=50)
    assert frozen_bits_changed(before, snapshot(model), neurons) == 0
    merge_rows(model)
    assert frozen_bits_changed(before, snapshot(model), neurons) == 0


def test_the_check_can_fail():
    """The usual mask on the gradient: decay moves what it hides."""
    model = net()
    neurons, before = some(model), snapshot(model)
    masked(model, neurons)
    fit(model, OPTIMIZERS["adamw"]([p for p in model.parameters() if p.requires_grad]))
    assert frozen_bits_changed(before, snapshot(model), neurons) > 500


def masked(model, neurons):
    """Full gradients of the neurons' modules, with zeros for all other rows."""
    names = [name for site in neurons.used for name in site.rows]
    freeze_all_but(model, names)
    for site in neurons.used:
        for name in site.rows:
            mask = neurons.mask(site)
            model.get_parameter(name).register_hook(lambda g, m=mask: g * m.view(-1, *[1] * (g.dim() - 1)))
    return [model.get_parameter(name) for name in names]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda p: torch.optim.Adam(p, lr=0.003),
], ids=["sgd", "adam"])  # fmt: skip
def test_it_ends_where_full_fine_tuning_under_a_mask_does(make, accumulate):
    mine, reference = net().double(), net().double()
    neurons = some(mine)
    torch.set_default_dtype(torch.float64)
    try:
        fit(mine, make(rows_only(mine, neurons)), 10, accumulate)
        fit(reference, make(masked(reference, neurons)), 10, accumulate)
    finally:
        torch.set_default_dtype(torch.float32)
    merge_rows(mine)
    for name, tensor in reference.state_dict().items():
        assert (mine.state_dict()[name] - tensor).abs().max() < 1e-6 * tensor.abs().max().clamp_min(1), name


def gradients(model, x, loss=lambda y: y.square().mean()):
    y = model(x)
    loss(y).backward()
    return y


@pytest.mark.parametrize("reads", ["batch", "alone"])
def test_gradients_are_full_fine_tunings(reads):
    full, mine = net().eval(), net().eval()
    neurons = some(mine, 0.5)
    train_rows(mine, neurons)
    xs = [batch(0)[:1].requires_grad_() for _ in range(2)]
    with torch.no_grad():
        alone = xs[0].detach()[0]
        assert torch.equal(full.convs[0](alone), mine.convs[0](alone))
    if reads == "alone":
        ys = [model.convs[0](x[0]) for model, x in ((full, xs[0]), (mine, xs[1]))]
        assert torch.equal(*ys)
        for y in ys:
            y.square().sum().backward()
    else:
        assert torch.allclose(gradients(full, xs[0]), gradients(mine, xs[1]), rtol=1e-6, atol=1e-7)
    assert torch.allclose(xs[0].grad, xs[1].grad, rtol=1e-5, atol=1e-7)
    for site in neurons.used if reads == "batch" else neurons.used[:1]:
        whole, part = full.get_submodule(site.name), mine.get_submodule(site.name)
        for kind, name in (("weight", "rows"), ("bias", "row_bias")):
            if getattr(whole, kind) is not None:
                wanted = getattr(whole, kind).grad[list(neurons[site])]
                assert (getattr(part, name).grad - wanted).abs().max() <= 1e-6 * wanted.abs().max(), (site.name, kind)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (2, 3, 4, 7)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_a_linear_map_puts_out_may_be_changed_in_place(shape, bias, precision):
    torch.manual_seed(0)
    full, x = nn.Linear(7, 5, bias=bias), torch.randn(shape)
    mine = copy.deepcopy(full)
    train_rows(mine, Neurons({Site("", -1, 5, ()): [0, 3]}))
    for model in (full, mine):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y = model(x)
            y[..., 1] = 0
            y.mul_(2)
        y.float().square().sum().backward()
    wanted = full.weight.grad[[0, 3]]
    assert (mine.rows.grad - wanted).abs().max() <= (1e-6 if precision == torch.float32 else 0.02) * wanted.abs().max()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_convolution_that_pads_by_itself(padding, groups):
    torch.manual_seed(0)
    full = nn.Conv1d(4, 6, 4, padding=padding, groups=groups)
    mine, x = copy.deepcopy(full), torch.randn(2, 4, 11)
    train_rows(mine, Neurons({Site("", 1, 6, ("weight", "bias")): [0, 2, 5]}))
    ys = [gradients(model, x) for model in (full, mine)]
    assert torch.allclose(*ys, rtol=1e-6, atol=1e-7)
    assert torch.allclose(mine.rows.grad, full.weight.grad[[0, 2, 5]], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", [wav2letter, wav2vec2, marian, whisper])
def test_gradients_in_every_kind_of_network(make):
    full, mine = make(), make()
    neurons = some(mine, 0.2)
    assert len(neurons.used) >= 8
    train_rows(mine, neurons)
    inputs = {
        wav2letter: {"x": torch.randn(2, 13, 60)}, wav2vec2: {"input_values": torch.randn(2, 900)},
        marian: {"input_ids": torch.randint(2, 40, (2, 7)), "decoder_input_ids": torch.randint(2, 40, (2, 5))},
        whisper: {"input_features": torch.randn(2, 8, 32), "decoder_input_ids": torch.randint(2, 40, (2, 5))},
    }[make]  # fmt: skip
    outputs = []
    for model in (full, mine):
        y = model(**inputs)
        outputs.append(y if isinstance(y, torch.Tensor) else y.logits)
        outputs[-1].square().mean().backward()
    assert torch.allclose(*outputs, rtol=1e-6, atol=1e-6)
    for site in neurons.used:
        wanted = full.get_submodule(site.name).weight.grad[list(neurons[site])]
        given = mine.get_submodule(site.name).rows.grad
        # Keys of attention have a zero gradient of the bias; their own scale is that of the whole weight's.
        assert (given - wanted).abs().max() <= 2e-6 * full.get_submodule(site.name).weight.grad.abs().max(), site.name


def test_the_forward_pass_is_the_same_bit_for_bit_and_the_optimizer_state_that_of_the_rows():
    # Frozen in both, for torch rounds by the shape of its products, which it chooses by what trains.
    model, plain = net().eval(), net().eval().requires_grad_(False)
    neurons = some(model)
    parameters = rows_only(model, neurons)
    assert torch.equal(model(batch(0)), plain(batch(0)))
    with torch.no_grad():
        assert torch.equal(model(batch(0)), plain(batch(0)))
    optimizer = torch.optim.Adam(parameters)
    fit(model, optimizer, 1)
    held = sum(state["exp_avg"].numel() for state in optimizer.state.values())
    names = {row: site for site in neurons.used for row in site.rows}
    assert held == sum(len(neurons[site]) * plain.get_parameter(row)[0].numel() for row, site in names.items())
    assert all(plain.get_parameter(row).grad is None for row in names)
    assert all(model.get_submodule(site.name)._parameters["weight"].grad is None for site in neurons.used)


def test_every_reader_sees_current_weights_between_steps():
    model = net()
    neurons = some(model)
    optimizer = ByData(rows_only(model, neurons))
    for step in range(3):
        fit(model, optimizer, 1, first=step)
        state, twin, plain = snapshot(model), copy.deepcopy(model).eval(), net(9).eval().requires_grad_(False)
        plain.load_state_dict(state)
        model.eval()
        with torch.inference_mode():
            assert torch.equal(model(batch(7)), plain(batch(7)))
        assert torch.equal(model(batch(7)), plain(batch(7)))
        assert torch.equal(twin(batch(7)), plain(batch(7)))
        assert torch.equal(model.linear.weight, plain.linear.weight)
        assert torch.equal(model.linear.bias, plain.linear.bias)
        for site in neurons.used:
            assert torch.equal(state[site.rows[0]][list(neurons[site])], model.get_submodule(site.name).rows)


def test_who_reads_a_weight_past_its_module_sees_the_current_one():
    """torch's transformer layer, in evaluation, hands the weights to one function and calls no Linear."""
    torch.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0), torch.randn(2, 5, 8)
    sites = {site.name: site for site in find_sites(layer)}
    names = train_rows(layer, Neurons({sites["linear1"]: [0, 7], sites["linear2"]: [3]}))
    optimizer = ByData([layer.get_parameter(name) for name in names])
    plain = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval().requires_grad_(False)
    for _ in range(2):
        optimizer.zero_grad()
        layer.train()(x).square().mul(torch.arange(8)).mean().backward()
        optimizer.step()
        with torch.no_grad():
            found = layer.eval()(x)
            plain.load_state_dict(layer.state_dict())
            assert torch.equal(found, plain(x))


def test_generate_between_steps_writes_what_the_merged_model_does():
    model, tokens = marian(), torch.randint(2, 40, (3, 6))
    parameters = rows_only(model, some(model, 0.5))
    optimizer = torch.optim.SGD(parameters, lr=3.0)
    before = model.generate(tokens, max_length=12, num_beams=2)
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    between = model.generate(tokens, max_length=12, num_beams=2)
    plain = marian()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(between, plain.generate(tokens, max_length=12, num_beams=2))
    merge_rows(model)
    assert torch.equal(between, model.generate(tokens, max_length=12, num_beams=2))
    assert before.shape != between.shape or not torch.equal(before, between)


def test_merged_is_a_plain_model_with_the_trained_rows_in_place():
    model = net()
    kinds, names = [type(module) for module in model.modules()], [name for name, _ in model.named_parameters()]
    flags = [p.requires_grad_(name != "linear.bias").requires_grad for name, p in model.named_parameters()]
    said, keys = repr(model), [set(vars(module)) for module in model.modules()]
    neurons = some(model)
    fit(model, torch.optim.SGD([model.get_parameter(name) for name in train_rows(model, neurons)], lr=0.1))
    trained = snapshot(model)
    assert repr(model) != said and "rows=2" in repr(model)
    given = merge_rows(model)
    assert given == {row: neurons[site] for site in neurons.used for row in site.rows}
    assert [type(module) for module in model.modules()] == kinds and repr(model) == said
    assert [name for name, _ in model.named_parameters()] == names
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [set(vars(module)) for module in model.modules()] == keys
    assert all(torch.equal(trained[name], tensor) for name, tensor in model.state_dict().items())
    assert merge_rows(model) == {}


def test_a_new_module_of_the_same_class_is_a_plain_one():
    """peft makes its factors so."""
    model = net()
    train_rows(model, some(model))
    assert type(type(model.convs[0])(6, 2, 4, stride=2)) is nn.Conv1d
    assert type(type(model.linear)(in_features=7, out_features=2)) is nn.Linear
    assert type(copy.deepcopy(model.linear)) is type(model.linear) is not nn.Linear
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    assert torch.equal(copied.eval()(batch(0)), model.eval()(batch(0))) and merge_rows(copied) == merge_rows(model)


def test_the_opposite_freezes_the_neurons_and_trains_all_else():
    model = net()
    neurons, before = some(model), snapshot(model)
    names = freeze_neurons(model, neurons)
    everything = {name for name, _ in net().named_parameters()}
    partly = {f"{site.name}.{kind}" for site in neurons.used for kind in ("weight", "bias")}
    assert everything - partly == {name for name in names if not name.endswith(("rows", "row_bias"))}
    fit(model, OPTIMIZERS["adamw"]([model.get_parameter(name) for name in names]), 20)
    merge_rows(model)
    after = snapshot(model)
    norms = {name for name in after if name.startswith("convs.2.")}
    for name in norms:  # no neuron of a Linear or Conv1d, and left as it was: in train mode
        before[name] = after[name]
    assert frozen_bits_changed(before, after, ~neurons) == 0


def test_a_site_that_is_chosen_whole_trains_as_usual():
    model = net()
    sites = {site.name: site for site in find_sites(model)}
    names = train_rows(model, Neurons({sites["linear"]: range(9), sites["out"]: [1], sites["convs.0"]: []}))
    assert names == ["linear.weight", "linear.bias", "out.rows"]
    assert type(model.linear) is nn.Linear and type(model.convs[0]) is nn.Conv1d
    assert merge_rows(model) == {"out.weight": (1,)}


def test_a_module_with_trained_rows_trains_and_a_norm_beside_it_rests():
    model = net()
    rows_only(model, some(model))
    model.train()
    eval_frozen(model)
    assert set(frozen_modules(model)) == {model.convs[2]}
    assert model.convs[3].training and model.convs[0].training and not model.convs[2].training


def test_resumed_ends_as_uninterrupted_bit_for_bit():
    def make():
        model = net()
        return model, torch.optim.AdamW(rows_only(model, some(model)), lr=0.01, weight_decay=0.1)

    whole, optimizer = make()
    fit(whole, optimizer, 8)
    first, optimizer = make()
    fit(first, optimizer, 3)
    saved = {"model": snapshot(first), "optimizer": copy.deepcopy(optimizer.state_dict())}
    assert saved["model"].keys() == net().state_dict().keys()
    second, optimizer = make()
    with torch.no_grad():
        second(batch(1))
    second.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    fit(second, optimizer, 5, first=3)
    assert all(not changed_bits(a, b).any() for a, b in zip(whole.state_dict().values(), second.state_dict().values(),
                                                             strict=True))  # fmt: skip


def test_part_of_a_state_may_be_loaded_and_what_is_missing_is_still_told():
    model = net()
    fit(model, ByData(rows_only(model, some(model))), 1)
    rows = model.linear.rows.clone()
    weight = net(4).out.weight
    told = model.load_state_dict({"out.weight": weight}, strict=False)
    assert torch.equal(model.out.weight, weight) and torch.equal(model.linear.rows, rows)
    assert "linear.weight" in told.missing_keys and not any("row" in name for name in told.missing_keys)
    with pytest.raises(RuntimeError, match=r"Missing key.*linear\.weight"):
        model.load_state_dict({"out.weight": weight})
    model.load_state_dict({name: tensor.clone() for name, tensor in net(4).state_dict().items()}, assign=True)
    assert all(torch.equal(tensor, net(4).state_dict()[name]) for name, tensor in model.state_dict().items())


def test_bf16_autocast():
    mine, full = net().eval(), net().eval()
    neurons = some(mine, 0.5)
    train_rows(mine, neurons)
    for model in (mine, full):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch(0)).float().square().mean()
        loss.backward()
    for site in neurons.used:
        wanted = full.get_submodule(site.name).weight.grad[list(neurons[site])]
        given = mine.get_submodule(site.name).rows.grad
        assert given.dtype == torch.float32
        assert (given - wanted).abs().max() <= 0.03 * wanted.abs().max(), site.name


def test_in_fp16_a_step_that_overflows_is_skipped_and_the_next_one_moves_the_rows_alone():
    """A mask makes NaN of the infinities that a scaler looks for; here there is none."""
    model = net()
    neurons, before = some(model), snapshot(model)
    optimizer = torch.optim.AdamW(rows_only(model, neurons), lr=0.01, weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    for step in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = model.eval()(batch(step)).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        after = snapshot(model)
        if step == 0:
            assert not any(changed_bits(before[name], tensor).any() for name, tensor in after.items())
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert frozen_bits_changed(before, after, neurons) == 0


def test_gradients_are_clipped_by_the_norm_of_what_trains():
    """Under a mask, what is hidden afterwards is in the norm, and makes the steps of a few neurons shorter."""
    mine, full = net().eval(), net().eval()
    parameters = rows_only(mine, some(mine, 0.1))
    for model in (mine, full):
        gradients(model, batch(0))
    own = torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()
    everything = torch.cat([parameter.grad.flatten() for parameter in full.parameters()]).norm()
    assert everything > 1.5 * own
    assert torch.isclose(nn.utils.clip_grad_norm_(parameters, 0.1 * float(own)), own)
    clipped = torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()
    assert torch.isclose(clipped, 0.1 * own, rtol=1e-4)


def test_a_model_in_bf16():
    model = net().bfloat16()
    neurons, before = some(model), snapshot(model)
    optimizer = torch.optim.AdamW(rows_only(model, neurons), lr=0.1, weight_decay=0.1)
    for seed in range(5):
        optimizer.zero_grad()
        model.eval()(batch(seed).bfloat16()).square().mean().backward()
        optimizer.step()
    assert frozen_bits_changed(before, snapshot(model), neurons) == 0


def test_gradient_checkpointing_and_a_module_that_is_called_twice():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    twin = copy.deepcopy(layer)
    train_rows(layer, Neurons({Site("", -1, 6, ("weight", "bias")): [1, 4]}))
    x = torch.randn(3, 6)
    for _ in range(2):
        y = x
        for _ in range(2):
            y = checkpoint(lambda y: torch.tanh(layer(y)), y, use_reentrant=False)
        y.square().sum().backward()
        (torch.tanh(twin(torch.tanh(twin(x))))).square().sum().backward()
        assert torch.allclose(layer.rows.grad, twin.weight.grad[[1, 4]], rtol=1e-5, atol=1e-7)
        assert torch.allclose(layer.row_bias.grad, twin.bias.grad[[1, 4]], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_compiled_it_trains_the_same():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(54, 5)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    neurons = some(models[0])
    optimizers = [torch.optim.SGD(rows_only(model, neurons), lr=0.5) for model in models]
    forwards = [torch.compile(models[0], backend="aot_eager", fullgraph=True), models[1]]  # in one piece
    for seed in range(3):
        for forward, optimizer in zip(forwards, optimizers, strict=True):
            optimizer.zero_grad()
            forward(torch.randn(2, 4, 11, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimizer.step()
    states = [model.state_dict() for model in models]
    assert all(torch.allclose(states[0][name], tensor, rtol=1e-5, atol=1e-6) for name, tensor in states[1].items())


def test_a_step_between_forward_and_backward_is_an_error_as_ever():
    model = net()
    optimizer = torch.optim.SGD(rows_only(model, some(model)), lr=0.1)
    fit(model, optimizer, 1)
    loss = model(batch(0)).square().mean()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_gradient_of_a_gradient_is_refused():
    model = nn.Linear(3, 4)
    train_rows(model, Neurons({Site("", -1, 4, ("weight", "bias")): [1]}))
    (grad,) = torch.autograd.grad(model(torch.randn(2, 3)).square().sum(), model.rows, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


class Wrapped(nn.Linear):
    pass


def refusals():
    tied = nn.ModuleDict({"embed": nn.Embedding(6, 4), "out": nn.Linear(4, 6, bias=False)})
    tied.out.weight = tied.embed.weight
    normed = nn.ModuleDict({"out": nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3))})
    old = nn.ModuleDict({"out": nn.Conv1d(4, 6, 3)})
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(old.out)
    made = nn.ModuleDict({"out": nn.MultiheadAttention(6, 2)})
    wrapped = nn.ModuleDict({"out": Wrapped(4, 6)})
    other = nn.ModuleDict({"out": nn.Linear(4, 7)})
    gone = nn.ModuleDict({"in": nn.Linear(4, 6)})
    fused, part = nn.Linear(4, 12, bias=False), nn.Linear(4, 6, bias=False)
    part.weight = nn.Parameter(fused.weight.detach()[6:])
    sliced = nn.ModuleDict({"out": part, "fused": fused})
    with torch.inference_mode():
        inferred = nn.ModuleDict({"out": nn.Linear(4, 6)})
    return [(tied, "out", -1, r"tied to 'embed\.weight'"), (normed, "out", 1, "weight norm"),
             (old, "out", 1, "weight norm"), (made, "out.out_proj", -1, "NonDynamicallyQuantizableLinear"),
             (made, "out", -1, "MultiheadAttention, not a plain"), (wrapped, "out", -1, "Wrapped, not a plain"),
             (other, "out", -1, "6 units on axis -1, but the module has 7"), (gone, "out", -1, "no module 'out'.*'in'"),
             (sliced, "out", -1, r"tied to 'fused\.weight'"), (inferred, "out", -1, "inference_mode")]  # fmt: skip


def test_what_cannot_train_alone_is_refused_with_the_reason_and_nothing_is_changed():
    for model, name, axis, reason in refusals():
        model.fine = nn.Linear(3, 5)
        fine, site = Site("fine", -1, 5, ("fine.weight", "fine.bias")), Site(name, axis, 6, ())
        with pytest.raises(ValueError, match=reason):
            train_rows(model, Neurons({fine: [0], site: [1, 2]}))
        assert type(model.fine) is nn.Linear and model.fine.weight.requires_grad
        assert list(untrainable_reasons(model, [fine, site])) == [site.name]
    shared = nn.Linear(4, 6)
    twice = nn.ModuleDict({"one": shared, "two": shared})
    with pytest.raises(ValueError, match="are the same module: one, two"):
        train_rows(twice, Neurons({Site(name, -1, 6, ()): [0] for name in ("one", "two")}))
    assert train_rows(twice, Neurons({Site("two", -1, 6, ()): [0]})) == ["two.rows", "two.row_bias"]
    model = net()
    with pytest.raises(ValueError, match="no neurons"):
        train_rows(model, Neurons.none(find_sites(model)))
    train_rows(model, some(model))
    with pytest.raises(ValueError, match="already.*merge_rows"):
        train_rows(model, some(net()))


def test_groups_of_neurons_are_told_apart():
    """The check of the check: neurons are chosen in more than one group, and with gaps."""
    model = net()
    sites = {site.name: site for site in find_sites(model)}
    chosen = some(model, 0.5)[sites["convs.4"]]
    assert len({unit // 3 for unit in chosen}) > 1 and any(b - a > 1 for a, b in pairwise(chosen))
