"""Corrections hold, one by one and in padded batches; taken back, nothing is left; their order does not matter."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from correcting import Frames, correct_one, inputs, protected, wanted
from torch import nn

from interventions.bits import changed_bits
from interventions.corrections.correct import correct
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.search import Search
from interventions.fold import fold, unfold
from interventions.intervene import Edits, intervene
from interventions.sites import TOKEN, find_sites, site_at

LAYERS = ["first", "second", "third"]


@pytest.fixture(scope="module")
def net():
    return Frames().eval()


@pytest.fixture(scope="module")
def known(net):
    return {name: protected(net, name) for name in LAYERS}


@pytest.fixture(scope="module")
def taught(net, known):
    """A memory with 12 corrections."""
    memory = Memory.new(known["second"], 3.0)
    for number in range(12):
        assert correct_one(net, memory, number).fixed
    return memory


def fitted(memory):
    weight, bias, codebook, gate = memory.corrections.fitted()
    gated = () if gate is None else (gate.quadratic, gate.linear, gate.bias)
    return weight, bias, codebook.keys, codebook.radii, codebook.values, *gated


def same(one, other):
    return all(a.shape == b.shape and not changed_bits(a, b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_empty_memory_is_the_identity_bit_for_bit(known, name, dtype):
    net, x = Frames().to(dtype), inputs(0).to(dtype)
    with intervene(net, Memory.new(known[name])):
        under = net(x)
    assert not changed_bits(under, net(x)).any()


@pytest.mark.parametrize("name", LAYERS)
def test_each_correction_holds_and_changes_little_else(net, known, name):
    memory = Memory.new(known[name], 300.0)
    for number in range(6):
        kept = correct_one(net, memory, number)
        assert kept.fixed and 0 < kept.change.touched.sum() <= 20 and kept.size > 0
    with torch.no_grad(), intervene(net, memory):
        for number in range(6):
            assert torch.equal(net(inputs(number)).argmax(-1)[0], labels(net, number))
        under = torch.cat([net(inputs(number)).argmax(-1) for number in range(500, 540)])
    with torch.no_grad():
        bare = torch.cat([net(inputs(number)).argmax(-1) for number in range(500, 540)])
    # Of labels that random corrections change in 4 of 20 frames each, most others stay.
    assert (under == bare).float().mean() > 0.75


def labels(net, number):
    """What was wanted, found on a copy that nothing is on."""
    return wanted(Frames().eval(), number)


def test_a_padded_batch_gives_what_each_example_gives_alone(net, taught):
    lengths = torch.tensor([20, 14, 17])
    padded = torch.zeros(3, 4, 20)
    for row, length in enumerate(lengths):
        padded[row, :, :length] = inputs(row)[0, :, :length]
    with torch.no_grad(), intervene(net, taught):
        together = net(padded, lengths)
        for row, length in enumerate(lengths):
            alone = net(padded[row : row + 1, :, :length])
            torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_only_a_memory_at_a_convolution_is_gated_and_a_gated_map_is_not_folded(net, known, name):
    memory = Memory.new(known[name], 3.0)
    assert memory.corrections.gated == (name != "third") and not Memory.new(known[name], gated=False).corrections.gated
    assert memory.corrections.fitted()[3] is None  # nothing says yet what the corrected is like
    correct_one(net, memory, 0)
    assert (memory.corrections.fitted()[3] is not None) == memory.corrections.gated
    if memory.corrections.gated:
        with pytest.raises(ValueError, match="A gated ridge map is not affine"):
            fold(net, replace(memory, parts="ridge"))


def test_a_closed_gate_leaves_the_corrected_to_the_codebook_and_the_rest_alone(net, taught, monkeypatch):
    monkeypatch.setattr("interventions.corrections.gate.LIMIT", 1e4)
    closed = Memory.new(taught.protected, 3.0)
    for number, entry in taught.entries.items():
        closed.add(number, entry)
    with torch.no_grad(), intervene(net, closed):
        for number in taught.entries:
            assert torch.equal(net(inputs(number)).argmax(-1)[0], labels(net, number))
    with torch.no_grad(), intervene(net, replace(closed, parts="ridge")):
        under = net(inputs(600))
    assert torch.equal(under, net(inputs(600)))


def test_taken_back_it_is_as_if_it_had_never_been(net, known, taught):
    for number in (0, 5, 11):
        without = Memory.new(known["second"], 3.0)
        for other, entry in taught.entries.items():
            if other != number:
                without.add(other, entry)
        entry = taught.remove(number)
        assert same(fitted(taught), fitted(without))
        assert torch.equal(taught.corrections.sums.keys, without.corrections.sums.keys)
        taught.add(number, entry)


def test_when_all_are_taken_back_nothing_is_left(net, taught):
    memory = Memory.new(taught.protected, 3.0)
    for number, entry in taught.entries.items():
        memory.add(number, entry)
    order = list(taught.entries)
    random.Random(0).shuffle(order)
    for number in order:
        memory.remove(number)
    assert not memory.corrections.sums.keys.any() and not memory.corrections.sums.values.any()
    x = inputs(3)
    with intervene(net, memory):
        under = net(x)
    assert not changed_bits(under, net(x)).any()


def test_the_order_of_adding_does_not_matter(taught):
    for seed in range(3):
        order = list(taught.entries.items())
        random.Random(seed).shuffle(order)
        memory = Memory.new(taught.protected, 3.0)
        for number, entry in order:
            memory.add(number, entry)
        assert same(fitted(memory), fitted(taught))


def test_a_memory_that_is_on_stays_current(net, taught):
    memory, x = Memory.new(taught.protected, 3.0), inputs(0)
    edits = Edits(net)
    edits.add(memory)
    try:
        bare = net(x)
        memory.add(0, taught.entries[0])
        assert changed_bits(net(x), bare).any()
        memory.remove(0)
        assert not changed_bits(net(x), bare).any()
    finally:
        edits.clear()


def test_what_cannot_be_fixed_leaves_the_memory_as_it_was(net, taught):
    before = fitted(taught)
    kept = correct_one(net, taught, 77, Search(steps=1, rate=1e-4, rounds=2))
    assert not kept.fixed and kept.entry is None and 77 not in taught.entries
    assert same(fitted(taught), before)


@pytest.mark.parametrize("name", LAYERS)
def test_the_ridge_map_folds_and_unfolds(known, name):
    net = Frames().eval()
    memory = Memory.new(known[name], 3.0, gated=False)
    for number in range(3):
        correct_one(net, memory, number)
    before, x = copy.deepcopy(net.state_dict()), inputs(1)
    with pytest.raises(ValueError, match="codebook is not an affine map"):
        fold(net, memory)
    with torch.no_grad():
        with intervene(net, memory):
            live = net(x)
        folded = fold(net, replace(memory, parts="ridge"))
        with intervene(net, replace(memory, parts="codebook")):
            torch.testing.assert_close(net(x), live, rtol=1e-4, atol=1e-4)
        # With what stands in the weights taken off, the whole memory says the same, and follows what is taken back.
        weight, bias, _, _ = memory.corrections.fitted()
        rest = replace(memory, folded=torch.cat([weight, bias[:, None]], 1))
        with intervene(net, rest):
            torch.testing.assert_close(net(x), live, rtol=1e-4, atol=1e-4)
        for number in range(3):
            rest.remove(number)
        with intervene(net, rest):
            gone = net(x)
    unfold(folded)
    assert not any(changed_bits(tensor, before[key]).any() for key, tensor in net.state_dict().items())
    torch.testing.assert_close(gone, net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_corrected_on_top_of_a_folded_map_holds_and_so_do_the_earlier_ones(known, name):
    net, bare = Frames().eval(), Frames().eval()
    memory = Memory.new(known[name], 3.0, gated=False)
    for number in range(3):
        assert correct_one(net, memory, number).fixed
    weight, bias, _, _ = memory.corrections.fitted()
    fold(net, replace(memory, parts="ridge"))
    rest = replace(memory, folded=torch.cat([weight, bias[:, None]], 1))
    for number in (7, 8):
        labels = wanted(bare, number)
        x = inputs(number)
        kept = correct(
            net, rest, number,
            lambda x=x, labels=labels: nn.functional.cross_entropy(net(x)[0], labels),
            lambda x=x, labels=labels: bool((net(x).argmax(-1)[0] == labels).all()),
            search=Search(steps=200, rate=0.02, residual_scale=5.0),
        )  # fmt: skip
        assert kept.fixed
    # On the weights that it was folded into, or on those it was not: the same corrections.
    plain = Memory.new(known[name], 3.0, gated=False)
    for number, entry in rest.entries.items():
        plain.add(number, entry)
    with torch.no_grad():
        for number in (0, 1, 2, 7, 8):
            with intervene(net, rest):
                own = net(inputs(number))
            with intervene(bare, plain):
                torch.testing.assert_close(own, bare(inputs(number)), rtol=1e-3, atol=1e-3)
            assert torch.equal(own.argmax(-1)[0], wanted(bare, number))


def test_more_strength_moves_protected_outputs_less(net, taught):
    moved = []
    for strength in (1.0, 30.0, 1000.0):
        memory = Memory.new(taught.protected, strength)
        for number, entry in taught.entries.items():
            memory.add(number, entry)
        with torch.no_grad(), intervene(net, replace(memory, parts="ridge")):
            under = net(inputs(600))
        moved.append(float((under - net(inputs(600))).norm()))
    assert moved[0] > moved[1] > moved[2] > 0


@pytest.mark.parametrize("name", LAYERS)
def test_keys_are_what_the_layers_output_is_made_of(net, name):
    layer = AffineLayer.at_site(net, site_at(net, name))
    module, time = net.get_submodule(name), 9
    given = torch.randn(2, *((layer.inputs, time) if layer.convolution else (time, layer.inputs)))
    put = module(given).mT if layer.convolution else module(given)
    weight = module.weight.flatten(1)
    torch.testing.assert_close(layer.map(given, weight, module.bias), put)
    own = layer.inputs_last(given)[0]
    torch.testing.assert_close(layer.keys(own) @ weight.T + module.bias, put[0])
    few = layer.keys(own[: layer.needed(4)])[:4]
    torch.testing.assert_close(few, layer.keys(own)[:4])


def test_layers_that_cannot_hold_corrections_are_refused():
    net = nn.ModuleList([nn.Conv1d(4, 4, 3, groups=2), nn.LayerNorm(4)])
    for site in (find_sites(net)[0], site_at(net, "1")):
        with pytest.raises(ValueError, match="cannot hold corrections"):
            AffineLayer.at_site(net, site)


def test_numbers_are_checked(taught):
    with pytest.raises(ValueError, match="a correction 3 already"):
        taught.add(3, taught.entries[3])
    with pytest.raises(ValueError, match="no correction 99. There are: 0, 1"):
        taught.remove(99)


def test_of_tokens_no_entry_reaches_a_position_of_its_own_example_that_needs_another_value(net, known):
    third = known["third"]
    site = replace(third.layer.site, step=TOKEN)
    memory = Memory.new(replace(third, layer=replace(third.layer, site=site)), 1e9)
    units, draw = site.units, torch.Generator().manual_seed(5)
    read, wanted = 40 * third.input_step * torch.randn(8, third.layer.inputs, generator=draw), torch.zeros(8, units)
    read[1] = read[0] + 8 * third.input_step  # all but the first's key, which needs the opposite
    wanted[0], wanted[1], wanted[4], wanted[5] = (
        third.output_scale,
        -third.output_scale,
        third.output_scale,
        third.output_scale,
    )
    memory.add(0, memory.entry(read, wanted))
    codebook, rounding = memory.corrections.fitted()[2], third.rounding
    keys = memory.corrections.projected[0]
    assert len(codebook) == 4
    apart = torch.cdist(codebook.keys, keys)
    differs = torch.cdist(codebook.values, wanted) > 0.5 * codebook.values.norm(dim=1, keepdim=True)
    within = apart < 2 * codebook.radii[:, None] - 1e-4
    assert not (differs & within & (codebook.radii[:, None] > 2.01 * rounding)).any()
    # What is found there is what each position needs, and as frames (which have no such bound) the first reach further.
    torch.testing.assert_close(codebook(keys), wanted, rtol=1e-2, atol=0.02 * third.output_scale)
    frames = Memory.new(third, 1e9)
    frames.add(0, memory.entries[0])
    assert (codebook.radii[:2] < frames.corrections.fitted()[2].radii[:2]).all()
    assert (codebook.radii >= 2 * rounding - 1e-6).all()  # so that a key which rounding moved is found


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_can_be_made_where_the_caller_takes_no_gradients(net, known, mode):
    usual, x, labels = Memory.new(known["second"], 30.0), inputs(3), wanted(net, 3)

    def fix(memory):
        return correct(
            net, memory, 3, lambda: torch.nn.functional.cross_entropy(net(x)[0], labels),
            lambda: bool((net(x).argmax(-1)[0] == labels).all()), search=Search(steps=200, rate=0.02,
                residual_scale=5.0),
        )  # fmt: skip

    with mode():
        memory = Memory.new(known["second"], 30.0)
        assert fix(memory).fixed
    assert fix(usual).fixed
    assert correct_one(net, memory, 4).fixed  # and added to outside
    assert torch.equal(memory.entries[3].values, usual.entries[3].values)


def test_interrupted_it_leaves_the_memory_as_it_was(net, known):
    memory = Memory.new(known["second"], 30.0)
    labels = wanted(net, 3)

    def right():
        if memory.entries:
            raise KeyboardInterrupt
        return bool((net(inputs(3)).argmax(-1)[0] == labels).all())

    with pytest.raises(KeyboardInterrupt):
        correct(
            net, memory, 1, lambda: torch.nn.functional.cross_entropy(net(inputs(3))[0], labels), right,
            search=Search(steps=200, rate=0.02, residual_scale=5.0),
        )  # fmt: skip
    assert not memory.entries and not memory.corrections.sums.values.any()


def test_a_loss_that_is_no_finite_number_ends_the_search(net, known):
    memory = Memory.new(known["second"], 30.0)
    found = correct(net, memory, 1, lambda: net(inputs(3)).sum() * torch.nan, lambda: True)
    assert not found.fixed and found.change.steps == 0 and not memory.entries
