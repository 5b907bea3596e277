"""Edits compose in order, leave everything else alone, and never fail to happen in silence."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from interventions.ablate import Ablate
from interventions.capture import capture
from interventions.clamp import Clamp, Scale, Set
from interventions.erase import Erase
from interventions.hooks import NeverRanError
from interventions.intervene import Edits, intervene
from interventions.intervention import Custom, Intervention
from interventions.lowrank import LowRank
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import Scope
from interventions.sites import Site, find_sites
from interventions.steer import Steer


class Block(nn.Module):
    """Puts out a tuple, as transformer blocks did, with a tensor that is no hidden state behind."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.act, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.ReLU(True), nn.Linear(8, 6)

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x)))), x.mean()


class Net(nn.Module):
    """A convolution, an in-place ReLU, and two blocks."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv1d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.aside = nn.Linear(6, 6)

    def forward(self, x):
        x = self.relu(self.conv(x)).transpose(1, 2)
        for block in self.blocks:
            x, _ = block(x)
        return x


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


X = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
UP = Site("blocks.0.up", -1, 8, ())
CONV = Site("conv", 1, 6, ())
BLOCK = Site("blocks.1", -1, 6, ())


def vector(units, seed=0):
    return torch.randn(units, generator=torch.Generator().manual_seed(seed))


def run(net, *interventions, x=X):
    with torch.no_grad(), intervene(net, *interventions):
        return net(x)


def state_of(net):
    """All that an intervention has no business with."""
    hooks = [
        (name, list(module._forward_hooks), list(module._forward_pre_hooks), module.training)
        for name, module in net.named_modules()
    ]
    return hooks, [(name, p.requires_grad, p.clone()) for name, p in net.named_parameters()]


def same(before, after):
    assert before[0] == after[0]
    assert all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(before[1], after[1], strict=True))


@dataclass(frozen=True, eq=False)
class Breaks(Intervention):
    site: Site

    @property
    def sites(self):
        return (self.site,)

    def at(self, site):
        def edit(x, now):
            raise ZeroDivisionError

        return edit


LEFT = vector((8, 2)).double()
EDITS = {
    "steer": lambda site: Steer(site, vector(site.units), 2.0),
    "ablate": lambda site: Ablate(Neurons({site: [1, 3]})),
    "clamp": lambda site: Clamp(Neurons({site: [0, 1, 2]}), -0.1, 0.1),
    "set": lambda site: Set(Neurons({site: [2]}), 3.0),
    "scale": lambda site: Scale(Neurons({site: [0, 5]}), -2.0),
    "custom": lambda site: Custom(site, lambda x: x.roll(1, -1)),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("site", [CONV, UP, BLOCK], ids=lambda site: site.name)
def test_an_edit_does_to_the_units_of_a_site_what_it_says_whatever_the_layout(net, site, kind):
    edit = EDITS[kind](site)
    with torch.no_grad(), capture(net, site) as before:
        plain = net(X)
    with torch.no_grad(), intervene(net, edit), capture(net, site) as after:
        edited = net(X)
    expected = edit.at(site)(before[site], None)
    assert torch.equal(after[site], expected) and not torch.equal(after[site], before[site])
    assert not torch.equal(plain, edited)
    assert torch.equal(run(net), plain)


@given(st.lists(st.sampled_from(sorted(EDITS)), max_size=5), st.sampled_from([CONV, UP, BLOCK]))
def test_edits_of_a_site_compose_in_the_order_given(kinds, site):
    torch.manual_seed(0)
    net = Net().eval()
    edits = [EDITS[kind](site) for kind in kinds]
    with torch.no_grad(), capture(net, site) as before:
        net(X)
    with torch.no_grad(), intervene(net, *edits), capture(net, site) as after:
        net(X)
    expected = before[site]
    for edit in edits:
        expected = edit.at(site)(expected, None)
    assert torch.equal(after[site], expected)


def test_blocks_nest_and_compose_from_outside_in(net):
    first, second = Set(Neurons({UP: [0]}), 2.0), Scale(Neurons({UP: [0]}), 3.0)
    with torch.no_grad(), intervene(net, first), intervene(net, second), capture(net, UP) as acts:
        together = net(X)
    assert (acts[UP][..., 0] == 6).all()
    assert torch.equal(run(net, first, second), together)
    assert not torch.equal(run(net, second, first), together)


IDENTITIES = {
    "no interventions": [],
    "zero coefficient": [Steer(UP, torch.full((8,), float("inf")), 0.0), Steer(CONV, vector(6), 0)],
    "zero schedule": [Steer(UP, torch.full((8,), float("nan")), (0.0, 1.0))],
    "strength zero": [Set(Neurons.every(UP), float("nan")), ],
    "no neurons": [Ablate(Neurons({UP: []})), Clamp(Neurons.none([UP, CONV]), 0.0), Scale(Neurons({}), 0.0)],
    "factor one": [Scale(Neurons.every([UP, CONV]), 1)],
}  # fmt: skip
IDENTITIES["strength zero"] = [Set(Neurons.every(UP), float("nan"), strength=0.0)]


@pytest.mark.parametrize("what", IDENTITIES)
def test_what_changes_nothing_changes_no_bit(what):
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        net.blocks[0].up.bias.fill_(-0.0)
        net.blocks[0].up.weight.fill_(-0.0)  # a negative zero does not survive the addition of zero
    site = [UP, CONV]
    with torch.no_grad(), capture(net, site) as before:
        net(X)
    with torch.no_grad(), intervene(net, *IDENTITIES[what]), capture(net, site) as after:
        net(X)
    for one in site:
        assert torch.equal(before[one].view(torch.int32), after[one].view(torch.int32))


@given(st.floats(-3, 3), st.sampled_from(sorted(EDITS)))
def test_strength_goes_from_the_activation_towards_the_edited_one(strength, kind):
    torch.manual_seed(0)
    net = Net().eval()
    edit = EDITS[kind](UP)
    whole, plain = [], []
    for kept, edits in ((whole, [edit]), (plain, [])):
        with torch.no_grad(), intervene(net, *edits), capture(net, UP) as acts:
            net(X)
        kept.append(acts[UP])
    edits = Edits(net)
    name = edits.add(edit)
    edits.scale(name, strength)
    with torch.no_grad(), capture(net, UP) as acts:
        net(X)
    edits.clear()
    torch.testing.assert_close(acts[UP], plain[0] + strength * (whole[0] - plain[0]))


def test_only_the_scope_is_edited(net):
    scope = Scope(positions=(1, 3), examples=(1,), batch=2)
    with torch.no_grad(), capture(net, UP) as before:
        net(X)
    with torch.no_grad(), intervene(net, Set(Neurons.every(UP), 7.0, scope=scope)), capture(net, UP) as after:
        net(X)
    expected = before[UP].clone()
    expected[1, 1:3] = 7.0
    assert torch.equal(after[UP], expected)


def test_padding_is_left_as_it_is(net):
    lengths = torch.tensor([5, 2])
    with torch.no_grad(), capture(net, CONV) as before:
        net(X)
    put = Set(Neurons.every(CONV), 7.0)
    with torch.no_grad(), intervene(net, put, lengths=lambda site: lengths), capture(net, CONV) as after:
        net(X)
    expected = before[CONV].clone()
    expected[0], expected[1, :2] = 7.0, 7.0
    assert torch.equal(after[CONV], expected)
    with (
        pytest.raises(ValueError, match=r"'conv'.*lengths \(3,\)"),
        intervene(net, put, lengths=lambda _: torch.ones(3)),
    ):
        net(X)


def test_what_others_hold_is_not_written_into(net):
    held = []
    handle = net.blocks[0].up.register_forward_hook(lambda module, inputs, output: held.append(output))
    for kind in EDITS:
        held.clear()
        with torch.no_grad():
            net.blocks[0].act.inplace = False
            net(X)
            kept = held[0].clone()
            held.clear()
            run(net, EDITS[kind](UP))
            assert torch.equal(held[0], kept), kind
    handle.remove()


def test_what_others_hooks_changed_is_what_is_edited(net):
    handle = net.conv.register_forward_hook(lambda module, inputs, output: torch.full_like(output, 2.0))
    with torch.no_grad(), intervene(net, Scale(Neurons.every(CONV), 3.0)), capture(net, CONV) as acts:
        net(X)
    assert (acts[CONV] == 6).all()
    assert len(net.conv._forward_hooks) == 1
    handle.remove()


def others(net):
    """A user's hooks of every sort, and modes and gradients as a user sets them."""
    seen = []
    net.conv.register_forward_hook(lambda *_: seen.append("hook"))
    net.blocks[0].register_forward_pre_hook(lambda *_: seen.append("pre"))
    net.register_forward_hook(lambda *_: seen.append("root"))
    net.blocks[1].train()
    net.conv.weight.requires_grad_(False)
    return seen


def test_nothing_else_is_touched_also_after_an_exception_in_the_middle(net):
    seen = others(net)
    before = state_of(net)
    run(net, *[EDITS[kind](site) for kind in EDITS for site in (CONV, UP, BLOCK)], Steer(UP, vector(8), (1.0, 2.0)))
    assert seen == ["hook", "pre", "root"]
    same(before, state_of(net))
    with pytest.raises(ZeroDivisionError):
        run(net, Steer(CONV, vector(6)), Breaks(UP), Steer(BLOCK, vector(6)))
    same(before, state_of(net))
    with pytest.raises(KeyboardInterrupt), intervene(net, Steer(net_site(net), vector(6))):
        raise KeyboardInterrupt
    same(before, state_of(net))
    with (
        pytest.raises(ValueError, match="no module 'nowhere'"),
        intervene(net, Steer(CONV, vector(6)), Steer(NOWHERE, vector(6))),
    ):
        raise AssertionError("the block must not begin")
    same(before, state_of(net))


NOWHERE = Site("nowhere", -1, 6, ())


def net_site(net):
    return next(site for site in find_sites(net) if site.name == "conv")


def test_the_permanent_form(net):
    plain, before = run(net), state_of(net)
    edits = Edits(net)
    one = edits.add(EDITS["set"](UP))
    two = edits.add(EDITS["scale"](UP), "two")
    assert (one, two, edits.enabled, list(edits.interventions)) == ("0", "two", ["0", "two"], ["0", "two"])
    both = run(net)
    edits.disable(one)
    assert torch.equal(run(net), run_bare(net, EDITS["scale"](UP)))
    edits.enable(one)
    assert torch.equal(run(net), both) and not torch.equal(both, plain)
    edits.scale(two, 0.0)
    assert torch.equal(run(net), run_bare(net, EDITS["set"](UP)))
    assert edits.interventions["two"].strength == 0 and EDITS["scale"](UP).strength == 1
    edits.scale(two, 1.0)
    assert torch.equal(run(net), both)
    removed = edits.remove(one)
    assert isinstance(removed, Set) and torch.equal(run(net), run_bare(net, EDITS["scale"](UP)))
    three = edits.add(removed)
    assert three == "0" and torch.equal(run(net), run_bare(net, EDITS["scale"](UP), EDITS["set"](UP)))
    edits.clear()
    assert torch.equal(run(net), plain)
    same(before, state_of(net))


def run_bare(net, *interventions):
    bare = Net().eval()
    bare.load_state_dict(net.state_dict())
    return run(bare, *interventions)


def test_names_that_are_taken_or_unknown_are_refused_and_change_nothing(net):
    edits = Edits(net)
    edits.add(EDITS["set"](UP), "one")
    kept = run(net)
    with pytest.raises(ValueError, match="There is an intervention 'one' already"):
        edits.add(EDITS["scale"](UP), "one")
    for act in (edits.remove, edits.enable, edits.disable, lambda name: edits.scale(name, 1.0)):
        with pytest.raises(ValueError, match="There is no intervention 'two'. There are: one"):
            act("two")
    with pytest.raises(ValueError, match="'nowhere'"):
        edits.add(Steer(NOWHERE, vector(6)))
    with pytest.raises(ValueError, match="disagree about 'blocks.0.up': 8 units on axis -1, and 8 on axis 2"):
        edits.add(Set(Neurons.every(Site("blocks.0.up", 2, 8, ())), 1.0))
    assert list(edits.interventions) == ["one"] and torch.equal(run(net), kept)
    edits.clear()


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site("conv", -1, 6, ()), r"'conv' returned \(2, 6, 5\); expected a batch with 6 units on axis -1"),
        (Site("conv", 1, 7, ()), "7 units on axis 1"),
        (Site("conv", 3, 6, ()), "6 units on axis 3"),
        (Site("blocks", -1, 6, ()), None),
    ],
)
def test_a_site_that_is_not_as_it_says_is_refused_at_the_first_call(net, site, message):
    if message is None:
        with pytest.raises(NeverRanError, match="did not call 'blocks'"):
            run(net, Steer(site, vector(6)))
    else:
        with pytest.raises(ValueError, match=message):
            run(net, Steer(site, vector(site.units)))


@pytest.mark.parametrize(
    "function", [lambda x: x[:1], lambda x: x.double(), lambda x: x.sum(-1)], ids=["rows", "dtype", "units"]
)
def test_a_function_that_gives_something_else_is_refused(net, function):
    with pytest.raises(ValueError, match=r"Custom returned .* for 'blocks.0.up'.*\(2, 5, 8\) torch.float32"):
        run(net, Custom(UP, function))


# ---------------------------------------------------------------------------------------------- what never ran

ASIDE = Site("aside", -1, 6, ())


def test_an_intervention_that_the_model_goes_past_is_an_error_in_the_call(net):
    with pytest.raises(NeverRanError, match="Steer did not run: Net was called, but did not call 'aside'"):
        run(net, Steer(UP, vector(8)), Steer(ASIDE, vector(6)))
    edits = Edits(net)
    edits.add(Steer(ASIDE, vector(6)), "aside")
    with pytest.raises(NeverRanError, match="'aside'"):
        net(X)
    edits.disable("aside")
    net(X)
    edits.clear()


def test_a_call_that_runs_everything_is_no_excuse_for_one_that_does_not(net):
    net.blocks[1].register_forward_hook(lambda module, inputs, output: None)
    edits = Edits(net)
    edits.add(Steer(BLOCK, vector(6)))
    net(X)
    net.blocks = net.blocks[:1]
    with pytest.raises(NeverRanError, match=r"'blocks\.1'"):
        net(X)
    edits.clear()


def test_a_block_that_ends_without_a_call_is_an_error(net):
    with (
        pytest.raises(NeverRanError, match="'blocks.0.up' while the intervention was attached"),
        intervene(net, Steer(UP, vector(8))),
    ):
        pass


def test_a_scope_that_never_came_is_an_error_and_says_which(net):
    scope = Scope(positions=(90, None))
    with pytest.raises(NeverRanError, match=r"'blocks.0.up' ran, but never within Scope\(.*positions=\(90, None\)"):
        run(net, Steer(UP, vector(8), scope=scope))


def test_an_error_in_the_block_is_not_replaced_by_ours(net):
    with pytest.raises(KeyError, match="theirs"), intervene(net, Steer(ASIDE, vector(6))):
        raise KeyError("theirs")


def test_while_training_a_layer_may_be_dropped_for_a_while(net):
    net.train()
    dropped = net.blocks[1].register_forward_pre_hook(lambda *_: None)
    dropped.remove()
    steer = Steer(ASIDE, vector(6))
    edits = Edits(net)
    edits.add(steer)
    for _ in range(29):
        net(X)
    with pytest.raises(NeverRanError, match="'aside'"):
        net(X)
    edits.clear()
    with intervene(net, steer):
        for _ in range(20):
            net(X)
        net.aside(torch.zeros(1, 6))
        for _ in range(29):
            net(X)


# ---------------------------------------------------------------------------------------------- gradients, precision


def test_gradients_flow_through_an_edit_to_what_is_before_it_and_to_what_it_is_made_of(net):
    delta = torch.zeros(8, requires_grad=True)
    with intervene(net, Steer(UP, delta, 2.0), Scale(Neurons({CONV: [0]}), 3.0), Ablate(Neurons({BLOCK: [1]}))):
        net(X).square().sum().backward()
    assert delta.grad.abs().sum() > 0
    assert net.conv.weight.grad.abs().sum() > 0
    shifted = Steer(UP, delta, 2.0)
    assert shifted.parameters() == [delta] and Steer(UP, vector(8)).parameters() == []
    # as by finite differences
    with torch.no_grad():
        e = torch.zeros(8)
        e[3] = 1e-2
        kept = [Scale(Neurons({CONV: [0]}), 3.0), Ablate(Neurons({BLOCK: [1]}))]
        up, down = (run(net, Steer(UP, sign * e, 2.0), *kept).square().sum() for sign in (1, -1))
    torch.testing.assert_close(delta.grad[3], (up - down) / 2e-2, rtol=2e-2, atol=1e-3)


def test_a_trained_vector_learns(net):
    with torch.no_grad():
        target = run(net, Steer(UP, vector(8), 1.0))
    delta = torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=0.1)
    losses = []
    with intervene(net, Steer(UP, delta)):
        for _ in range(60):
            optimizer.zero_grad()
            loss = (net(X) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("kind", [kind for kind in EDITS])
def test_half_precision_stays_half(net, kind):
    half = Net().eval()
    half.load_state_dict(net.state_dict())
    half = half.bfloat16()
    edited = run(half, EDITS[kind](UP), EDITS[kind](CONV), x=X.bfloat16())
    assert edited.dtype == torch.bfloat16 and edited.isfinite().all()
    wide = run(net, EDITS[kind](UP), EDITS[kind](CONV))
    torch.testing.assert_close(edited.float(), wide, atol=0.3, rtol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert run(net, EDITS[kind](UP)).isfinite().all()


@pytest.mark.parametrize("kind", EDITS)
def test_what_was_made_in_inference_mode_trains(net, kind):
    """As in Lightning, which validates in inference mode before it trains."""
    scope = Scope(examples=(1,), batch=2)
    half = net.bfloat16()
    edits = Edits(half)
    with torch.inference_mode():
        edits.add(replace(EDITS[kind](UP), scope=scope))
        edits.add(EDITS[kind](CONV))
        edits.add(Patch(BLOCK, torch.ones(1, 5, 6), Neurons({BLOCK: [0]})))
        neurons = Neurons({UP: [0]})
        neurons.mask(UP)
        edits.add(Scale(neurons, 2.0, scope=scope))
        edits.add(LowRank(UP, vector((2, 8)), vector((2, 8)), vector(2)))
        # In double, so that it is cast, and of tensors that are no inference tensors.
        edits.add(Erase(UP, LEFT, LEFT.T, LEFT[:, 0]))
        half(X.bfloat16())
    half(X.bfloat16()).square().sum().backward()
    edits.clear()
    assert half.conv.weight.grad.abs().sum() > 0


# ---------------------------------------------------------------------------------------------- torch.compile


@pytest.fixture
def compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_edited_as_a_plain_one(net, backend, compiler):
    plain = run(net)
    fast = torch.compile(net, backend=backend)
    edits = [
        EDITS["steer"](CONV),
        EDITS["set"](UP),
        EDITS["ablate"](BLOCK),
        Ablate(Neurons({UP: [1]}), "resample", {UP.name: torch.ones(4, 8)}),
    ]
    scoped = Steer(UP, vector(8), scope=Scope(positions=(1, 3)))
    with torch.no_grad():
        assert torch.equal(fast(X), plain)  # compiled before there was any hook
        for _ in range(2):
            with intervene(net, *edits):
                assert torch.equal(fast(X), run_bare(net, *edits))
                assert torch.equal(fast(X), run_bare(net, *edits))
            assert torch.equal(fast(X), plain)
        with intervene(fast._orig_mod, scoped):
            assert torch.equal(fast(X), run_bare(net, scoped))
        kept = Edits(net)
        kept.add(edits[0], "one")
        assert torch.equal(fast(X), run_bare(net, edits[0]))
        kept.add(edits[1], "two")
        assert torch.equal(fast(X), run_bare(net, *edits[:2]))
        kept.disable("one")
        assert torch.equal(fast(X), run_bare(net, edits[1]))
        kept.clear()
        assert torch.equal(fast(X), plain)
        with capture(net, [CONV, UP]) as acts:
            assert torch.equal(fast(X), plain)
        with capture(net, [CONV, UP]) as expected:
            net(X)
        assert all(torch.equal(acts[name], expected[name]) for name in acts)


@pytest.mark.slow
def test_a_compiled_model_in_half_precision(net, compiler):
    half = net.bfloat16()
    fast, x, edits = torch.compile(half, backend="aot_eager"), X.bfloat16(), [EDITS[kind](UP) for kind in EDITS]
    expected = run(half, *edits, x=x)
    for edit in edits[:1], edits:
        with torch.no_grad(), intervene(half, *edit):
            for _ in range(3):
                found = fast(x)
    assert torch.equal(found, expected)


def test_a_compiled_model_that_goes_past_a_site_is_an_error(net, compiler):
    fast = torch.compile(net, backend="eager")
    fast(X)
    with pytest.raises(NeverRanError, match="'aside'"), intervene(net, Steer(ASIDE, vector(6))):
        fast(X)
