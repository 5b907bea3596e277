"""Low-rank factors: trained as by peft, merged reproducibly, unmerged bit for bit, stored and loaded."""

import copy
import json
import math
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapt.errors import InputError
from adapt.models import factor_files
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import METHODS, add_factors, merge_factors, unmerge_factors
from adapt.models.state import model_fingerprint
from interventions.bits import changed_bits, fingerprint
from interventions.freeze import freeze_all_but
from interventions.neurons import Neurons
from interventions.rows import train_rows
from interventions.sites import find_sites

# Options that fit linear maps of 32 to 32 or 48 units; other methods need none.
OPTIONS = {
    "C3A": {"block_size": 8}, "MISS": {"r": 4}, "ROAD": {"group_size": 8},
    "WAVEFT": {"n_frequency": 40}, "FOURIERFT": {"n_frequency": 40}, "HIRA": {"r": 4},
    "OFT": {"oft_block_size": 8, "r": 0}, "GRALORA": {"r": 8, "gralora_k": 2}, "RANDLORA": {"r": 8},
    "PSOFT": {"r": 8}, "GLORA": {"r": 4},
}  # fmt: skip


class Net(nn.Module):
    """A convolution, a linear map and a norm; `(batch, 6, time)` to `(batch, steps, 5)`."""

    def __init__(self, **conv):
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 3, stride=2, padding=1, **conv)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        return self.out(self.norm(torch.relu(self.conv(x)).transpose(1, 2)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def nudge(model, seed=0, size=0.1):
    """Change all trainable parameters, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=size)


def trained(model, modules, method="LORA", options=None):
    freeze_all_but(model, add_factors(model, modules, method, options))
    nudge(model)
    return model


BOTH = ["conv", "out"]
DORA = {"r": 2, "lora_alpha": 4, "use_dora": True}


@pytest.mark.parametrize("options", [{"r": 2, "lora_alpha": 4}, {"r": 3, "use_rslora": True}, DORA])
def test_it_trains_as_plain_peft_does(net, options):
    from peft import LoraConfig, inject_adapter_in_model

    control = inject_adapter_in_model(LoraConfig(target_modules=BOTH, **options), copy.deepcopy(net))
    names = add_factors(net, BOTH, "LORA", options)
    control.load_state_dict(net.state_dict())
    freeze_all_but(net, names)
    assert set(names) == {name for name, own in control.named_parameters() if own.requires_grad}
    optimizers = [torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], 0.1) for one in (net, control)]
    x = torch.randn(3, 6, 20)
    for _ in range(3):
        outputs = []
        for one, optimizer in zip((net, control), optimizers, strict=True):
            optimizer.zero_grad()
            outputs.append(one(x))
            outputs[-1].square().mean().backward()
            optimizer.step()
        assert torch.equal(*outputs)
    others = dict(control.named_parameters())
    assert all(torch.equal(own, others[name]) for name, own in net.named_parameters())


@pytest.mark.parametrize("options", [{}, DORA, {"lora_bias": True}])
def test_merging_restores_the_plain_module_with_the_same_output(net, options):
    before, x = copy.deepcopy(net), torch.randn(2, 6, 20)
    trained(net, BOTH, options=options)
    beside = net(x)
    assert float((beside - before(x)).detach().abs().max()) > 0.05
    merged = merge_factors(net)
    assert torch.allclose(net(x), beside, atol=1e-5)
    assert [type(one) for one in net.modules()] == [type(one) for one in before.modules()]
    assert list(net.state_dict()) == list(before.state_dict())
    assert list(merged.counts)[0] == "conv.weight" and sum(merged.counts.values()) == sum(
        tensor.numel() for one in merged.factors for tensor in one.tensors.values()
    )
    unmerge_factors(merged)
    assert not any(changed_bits(before.state_dict()[name], own).any() for name, own in net.state_dict().items())
    with pytest.raises(ValueError, match="'conv.weight' has changed since merge_factors"):
        unmerge_factors(merged)


def rounded(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def pairwise(numbers):
    while len(numbers) > 1:
        half = (len(numbers) + 1) // 2
        behind = numbers[half:]
        numbers = [a + b for a, b in zip(numbers, behind, strict=False)] + numbers[len(behind) : half]
    return numbers[0]


@pytest.mark.parametrize("module", BOTH)
@pytest.mark.parametrize("options", [{"r": 3, "lora_alpha": 5}, {"r": 3, "use_rslora": True}, DORA])
def test_the_merge_equals_plain_float64_arithmetic_rank_by_rank(net, module, options):
    weight = net.get_submodule(module).weight.detach().clone()
    merged = merge_factors(trained(net, [module], options=options))
    stored = {name.split(".")[0]: tensor.flatten(1).tolist() if tensor.dim() > 1 else tensor.tolist()
              for name, tensor in merged.factors[0].tensors.items()}  # fmt: skip
    down, up = stored["lora_A"], stored["lora_B"]
    alpha = options.get("lora_alpha", 8)
    scale = alpha / math.sqrt(len(down)) if "use_rslora" in options else alpha / len(down)
    expected = []
    for unit, row in enumerate(weight.flatten(1).tolist()):
        for rank, into in enumerate(down):
            row = [old + (up[unit][rank] * scale) * new for old, new in zip(row, into, strict=True)]
        if "use_dora" in options:
            length = merged.factors[0].tensors["lora_magnitude_vector.default.weight"].flatten().tolist()[unit]
            row = [value * (length / math.sqrt(pairwise([one * one for one in row]))) for value in row]
        expected.append([rounded(value) for value in row])
    assert net.get_submodule(module).weight.flatten(1).tolist() == expected


def test_frozen_weights_do_not_move_while_factors_train(net):
    before = fingerprint(net.state_dict())
    freeze_all_but(net, add_factors(net, BOTH, "LORA", {"r": 2, "lora_dropout": 0.2}))
    optimizer = torch.optim.AdamW(net.parameters(), 0.1, weight_decay=0.5)
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(torch.randn(3, 6, 20)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(
        own.dtype == torch.float32 and own.grad.isfinite().all() for own in net.parameters() if own.requires_grad
    )
    merged = merge_factors(net)
    assert fingerprint(net.state_dict()) != before
    unmerge_factors(merged)
    assert fingerprint(net.state_dict()) == before


def test_a_seed_gives_the_same_factors_and_each_module_its_own(net):
    def drawn(seed):
        one = copy.deepcopy(net)
        one.extra = nn.Linear(8, 5)
        add_factors(one, ["out", "extra"], "LORA", {"r": 2}, seed)
        return [one.get_submodule(name).lora_A.default.weight for name in ("out", "extra")]

    torch.rand(3)
    first, again, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_errors_leave_the_model_unchanged(net):
    net.grouped, net.wide = nn.Conv1d(6, 8, 3, groups=2), nn.Conv1d(6, 8, 3, dilation=2)
    net.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 8, 3))
    net.tied = nn.Linear(8, 5)
    net.embed = nn.Embedding(5, 8)
    net.tied.weight = net.embed.weight
    net.neurons, net.taken = nn.Linear(8, 5), nn.Linear(8, 5)
    train_rows(net, Neurons({site: [1] for site in find_sites(net, "neurons")}))
    add_factors(net, ["taken"], "LORA", {"r": 2})
    state, names = fingerprint(net.state_dict()), [name for name, _ in net.named_modules()]
    for name, said in {
        "grouped": "a convolution of 2 groups", "wide": "does not support its dilation", "normed": "weight norm",
        "tied": "tied to 'embed.weight'", "norm": "it is a LayerNorm", "neurons": "only some of its rows train",
        "taken": "it already has some", "gone": "no module 'gone'",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=said):
            add_factors(net, ["out", name], "LORA", {"r": 2})
    for method, options, said in (
        ("ADALORA", {}, "method must be .* got 'ADALORA'"), ("LORA", {"rank": 2}, "unexpected keyword argument 'rank'"),
        ("LORA", {"modules_to_save": ["out"]}, "modules_to_save=.* is not allowed for a single module"),
        ("LORA", {"megatron_config": {"a": 1}}, "megatron_config=.* is not allowed for a single module"),
        ("LORA", {"init_lora_weights": "pissa", "r": 2}, "changes the frozen weight"),
        ("MISS", {"r": 64}, "'out' cannot have factors by MISS: .*less than or equal"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            add_factors(net, ["out"], method, options)
    with pytest.raises(ValueError, match="'conv' cannot have factors by IA3"):
        add_factors(net, BOTH, "IA3", {"feedforward_modules": []})
    assert fingerprint(net.state_dict()) == state and [name for name, _ in net.named_modules()] == names
    assert all(own.requires_grad for own in net.out.parameters())


def test_a_method_with_a_wrong_merge_is_an_error(net, monkeypatch):
    from peft.tuners.loha.layer import LoHaLayer

    whole = LoHaLayer.get_delta_weight
    add_factors(copy.deepcopy(net), ["out"], "LOHA", {"r": 2})
    merge = LoHaLayer.merge

    def wrong(layer, *given, **how):
        monkeypatch.setattr(LoHaLayer, "get_delta_weight", lambda *own: 2 * whole(*own))
        merge(layer, *given, **how)

    monkeypatch.setattr(LoHaLayer, "merge", wrong)
    with pytest.raises(
        ValueError, match="'out' cannot have factors by LOHA: after merging, it does not compute the same"
    ):
        add_factors(net, ["out"], "LOHA", {"r": 2})


@pytest.fixture
def base(marian):
    return load_model(str(marian))


FC1, KEY = "net.model.encoder.layers.0.fc1", "net.model.decoder.layers.1.self_attn.k_proj"


def adapted(base, folder, method="LORA", modules=(FC1, KEY), options=None):
    """Return a model with trained and merged factors, saved in `folder`, and the merged factors."""
    model = copy.deepcopy(base.model)
    merged = merge_factors(trained(model, list(modules), method, OPTIONS.get(method) if options is None else options))
    save_adaptation(folder / "adaptation", base, model, merged.factors)
    return model, merged


def own_options(method):
    return {"feedforward_modules": [FC1]} if method == "IA3" else OPTIONS.get(method)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_stored_as_its_factors_and_loads_as_it_was(base, tmp_path, method):
    model, merged = adapted(base, tmp_path, method, options=own_options(method))
    stored = load_file(tmp_path / "adaptation" / "weights.safetensors")
    assert set(stored) == {
        f"{one.module.removeprefix('net.')}:{name}" for one in merged.factors for name in one.tensors
    }
    loaded = load_model(str(tmp_path))
    assert loaded.fingerprint == model_fingerprint(model) != base.fingerprint
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert facts["format"] == 3 and {group["method"] for group in facts["factors"]} == {method}
    assert all(group["exact"] == (method == "LORA") for group in facts["factors"])
    assert len(merged.factors) == 2 and all(one.numbers for one in merged.factors)


@pytest.mark.parametrize("method", ["LORA", "LOHA", "LOKR", "HIRA"])
def test_convolutions_too(tmp_path, method):
    base = load_model("us-english")
    chosen = [site.name for site in base.model.sites[:3]]
    model, merged = adapted(base, tmp_path, method, chosen, {"r": 4})
    assert load_model(str(tmp_path)).fingerprint == model_fingerprint(model)
    unmerge_factors(merged)
    assert model_fingerprint(model) == base.fingerprint


@pytest.mark.parametrize(("rank", "options"), [(2, {}), (8, {}), (8, {"use_dora": True})])
def test_an_adaptation_is_as_large_as_what_was_trained(tmp_path, rank, options):
    base = load_model("us-english")
    _, merged = adapted(
        base, tmp_path, modules=[site.name for site in base.model.sites], options={"r": rank, **options}
    )
    numbers = sum(merged.counts.values())
    own = (tmp_path / "adaptation" / "weights.safetensors").stat().st_size
    assert 4 * numbers < own <= 1.1 * 4 * numbers


def test_other_trained_tensors_are_stored_with_the_factors(base, tmp_path):
    model = trained(copy.deepcopy(base.model), [FC1])
    norm = "net.model.encoder.layers.0.final_layer_norm.weight"
    with torch.no_grad():
        model.get_parameter(norm).add_(1)
        model.get_parameter(f"{FC1}.base_layer.bias").add_(1)
    merged = merge_factors(model)
    save_adaptation(tmp_path / "adaptation", base, model, merged.factors)
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert facts["tensors"] == sorted(name.removeprefix("net.") for name in (norm, f"{FC1}.bias"))
    assert load_model(str(tmp_path)).fingerprint == model_fingerprint(model)


def test_factors_of_a_rebuilt_output_layer_are_stored_as_the_layer(tmp_path):
    base = load_model("us-english")
    model = base.model.with_labels(base.model.labels.extended(["ä"]))
    merged = merge_factors(trained(model, [base.model.sites[0].name, model.head]))
    save_adaptation(tmp_path / "adaptation", base, model, merged.factors)
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert f"{model.head.removeprefix('net.')}.weight" in facts["tensors"]
    assert list(facts["factors"][0]["modules"]) == [base.model.sites[0].name.removeprefix("net.")]
    loaded = load_model(str(tmp_path))
    assert loaded.fingerprint == model_fingerprint(model) and "ä" in loaded.model.vocabulary


def rewrite(path, change):
    stored = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(stored)
    save_file(stored, path)
    return fingerprint(stored)


@pytest.mark.parametrize("method", ["LORA", "LOHA"])
def test_damaged_factors_are_named(base, tmp_path, method):
    adapted(base, tmp_path, method)
    path, told = (tmp_path / "adaptation" / name for name in ("weights.safetensors", "adaptation.json"))
    whole, facts = path.read_bytes(), json.loads(told.read_text())
    name = next(iter(load_file(path)))
    for change in (lambda stored: stored[name].view(-1)[0].add_(1), lambda stored: stored.pop(name)):
        path.write_bytes(whole)
        found = rewrite(path, change)
        with pytest.raises(InputError, match="weights.safetensors' do not match their stored fingerprint"):
            load_model(str(tmp_path))
        told.write_text(json.dumps(facts | {"stored": found}))  # even if both files were changed
        with pytest.raises(InputError, match="changed or damaged|cannot be merged"):
            load_model(str(tmp_path))
        told.write_text(json.dumps(facts))
    path.write_bytes(whole)
    for group in (
        {"method": "XLORA"},
        {"options": {"megatron_config": {"a": 1}}},
        {"options": None},
        {"modules": {"gone": {}}},
        {"options": {"r": 3}},
        {"seed": "a"},
    ):
        told.write_text(json.dumps(facts | {"factors": [facts["factors"][0] | group]}))
        if method == "LORA" and group.keys() <= {"seed"} or (method == "LORA" and group == {"options": {"r": 3}}):
            continue  # the merge does not use it, or the fingerprint detects the change
        with pytest.raises(InputError, match="cannot be merged|changed or damaged"):
            load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("method", "far", "loads"), [("LOHA", 1e-7, True), ("LOHA", 1e-2, False), ("LORA", 1e-7, False)]
)
def test_another_machine_may_differ_in_the_last_bits_of_what_peft_merges(
    base, tmp_path, monkeypatch, method, far, loads
):
    model, _ = adapted(base, tmp_path, method)
    here = factor_files.merged_weights

    def there(module, factors):
        return {name: tensor * (1 + far) for name, tensor in here(module, factors).items()}

    monkeypatch.setattr(factor_files, "merged_weights", there)
    if loads:
        loaded = load_model(str(tmp_path))
        assert loaded.fingerprint == model_fingerprint(loaded.model) != model_fingerprint(model)
    else:
        with pytest.raises(InputError, match="merged weight '.*' differs|changed or damaged"):
            load_model(str(tmp_path))


def test_loading_lora_needs_no_peft(base, tmp_path, monkeypatch):
    import sys

    adapted(base, tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert load_model(str(tmp_path)).fingerprint != base.fingerprint
