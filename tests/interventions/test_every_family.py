"""Every family under edits: forward, generate (greedy, sampling, beams), training; steps and positions are counted."""

import pytest
import small_models
import torch
from torch import nn

from interventions.ablate import Ablate
from interventions.capture import capture
from interventions.hooks import NeverRanError
from interventions.intervene import Edits, intervene
from interventions.intervention import Custom
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import GENERATED, PROMPT, Scope
from interventions.sites import find_sites, site_at
from interventions.steer import Steer

# Where to steer (the encoder, or the only stack) and where to ablate (the decoder, where there is one).
PLACES = {
    "wav2letter": ("acoustic_model.2", "acoustic_model.8"),
    "wav2vec2": ("wav2vec2.encoder.layers.0", "wav2vec2.encoder.layers.1.feed_forward.intermediate_dense"),
    "whisper": ("model.encoder.layers.0", "model.decoder.layers.1.fc1"),
    "marian": ("model.encoder.layers.0", "model.decoder.layers.1.fc1"),
    "musicgen": ("text_encoder.encoder.block.0", "decoder.model.decoder.layers.1.fc1"),
}
GENERATORS = ["whisper", "marian", "musicgen"]
BEAMS = {"greedy": {"num_beams": 1}, "beams": {"num_beams": 3}, "sampling": {"do_sample": True, "num_beams": 1}}


@pytest.fixture(scope="module")
def nets():
    return {name: getattr(small_models, name)() for name in PLACES}


def inputs(name, batch=2):
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 40, (batch, 5), generator=draw)
    if name == "wav2letter":
        return {"x": torch.randn(batch, 13, 30, generator=draw)}
    if name == "wav2vec2":
        return {"input_values": torch.randn(batch, 400, generator=draw)}
    if name == "whisper":
        return {"input_features": torch.randn(batch, 8, 32, generator=draw), "decoder_input_ids": tokens}
    if name == "marian":
        return {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)}
    return {"input_ids": tokens, "decoder_input_ids": torch.randint(0, 16, (2 * batch, 4), generator=draw)}


def forward(net, name, batch=2):
    output = net(**inputs(name, batch))
    return output if isinstance(output, torch.Tensor) else output.logits


def generate(net, name, batch=2, **how):
    """Tokens; or, with `output_scores`, the scores of all tokens at each step, `(steps, rows, vocabulary)`."""
    given = {key: value for key, value in inputs(name, batch).items() if key != "decoder_input_ids"}
    torch.manual_seed(0)
    if name == "musicgen":
        how = {"do_sample": False, "guidance_scale": 1.0, **how}
    if how.get("output_scores"):
        how["return_dict_in_generate"] = True
    how = {"max_new_tokens": 8, "min_new_tokens": 8, **how}
    found = net.generate(**given, **how)
    return torch.stack(found.scores) if how.get("output_scores") else found


def edits(net, name):
    first, second = (site_at(net, place) for place in PLACES[name])
    vector = 3 * torch.randn(first.units, generator=torch.Generator().manual_seed(1))
    return Steer(first, vector, 2.0), Ablate(Neurons({second: range(0, second.units, 2)}))


def by_hand(net, name, run):
    """The same by plain forward hooks, as one would write them."""
    steer, ablate = edits(net, name)

    def add(module, given, output):
        along = [1] * (output[0] if isinstance(output, tuple) else output).dim()
        along[steer.site.unit_axis] = -1
        delta = (2.0 * steer.vector).view(along)
        return (output[0] + delta, *output[1:]) if isinstance(output, tuple) else output + delta

    def zero(module, given, output):
        output = output.clone()
        output.index_fill_(ablate.sites[0].unit_axis, torch.tensor(ablate.neurons[ablate.sites[0]]), 0)
        return output

    handles = [net.get_submodule(steer.site.name).register_forward_hook(add)]
    handles.append(net.get_submodule(ablate.sites[0].name).register_forward_hook(zero))
    try:
        return run()
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", PLACES)
@torch.no_grad()
def test_forward_as_by_hand(nets, name):
    net = nets[name]
    plain, expected = forward(net, name), by_hand(net, name, lambda: forward(net, name))
    with intervene(net, *edits(net, name)):
        assert torch.equal(forward(net, name), expected)
    assert torch.equal(forward(net, name), plain) and not torch.equal(expected, plain)


@pytest.mark.parametrize(
    ("name", "how"), [(name, how) for name in GENERATORS for how in BEAMS if (name, how) != ("musicgen", "beams")]
)  # MusicGen has no beam search
@torch.no_grad()
def test_generate_as_by_hand(nets, name, how):
    net, how = nets[name], {**BEAMS[how], "output_scores": True}
    plain = generate(net, name, **how)
    expected = by_hand(net, name, lambda: generate(net, name, **how))
    with intervene(net, *edits(net, name)):
        assert torch.equal(generate(net, name, **how), expected)
        assert torch.equal(generate(net, name, **how), expected)
    assert torch.equal(generate(net, name, **how), plain)
    assert not torch.equal(expected, plain)


@pytest.mark.parametrize("name", PLACES)
def test_training_as_by_hand(nets, name):
    net = nets[name]
    net.train()

    def gradients():
        net.zero_grad()
        forward(net, name).square().mean().backward()
        return {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}

    plain, expected = gradients(), by_hand(net, name, gradients)
    with intervene(net, *edits(net, name)):
        found = gradients()
    net.zero_grad()
    net.eval()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert any(not torch.equal(found[key], plain[key]) for key in found)


@pytest.mark.parametrize("name", ["whisper", "marian", "wav2vec2"])
def test_what_is_computed_again_for_the_gradient_is_edited_again(name):
    net = getattr(small_models, name)().train()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            net.gradient_checkpointing_enable()
        net.zero_grad()
        steer, ablate = edits(net, name)
        delta = steer.vector.requires_grad_()
        with intervene(net, Steer(steer.site, delta, 2.0, scope=Scope(positions=(1, None))), ablate):
            forward(net, name).square().mean().backward()
        found.append([delta.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    assert float(found[0][0].abs().sum()) > 0 and len(found[0]) == len(found[1])
    for without, with_ in zip(*found, strict=True):
        torch.testing.assert_close(without, with_)


@pytest.mark.parametrize("name", PLACES)
@torch.no_grad()
def test_patching_its_own_activations_changes_no_bit(nets, name):
    net = nets[name]
    sites = [site_at(net, place) for place in PLACES[name]]
    with capture(net, sites) as acts:
        plain = forward(net, name)
    with intervene(net, *(Patch(site, acts[site]) for site in sites)), capture(net, sites) as again:
        assert torch.equal(forward(net, name), plain)
    assert all(torch.equal(acts[site], again[site]) for site in sites)
    with intervene(net, *(Patch(site, torch.zeros_like(acts[site])) for site in sites)):
        assert not torch.equal(forward(net, name), plain)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("how", ["greedy", "sampling"])
@torch.no_grad()
def test_patching_a_generation_with_itself_changes_nothing(nets, name, how):
    net = nets[name]
    sites = [site_at(net, place) for place in PLACES[name]]
    with capture(net, sites) as acts:
        plain = generate(net, name, **BEAMS[how])
    encoder, *steps = acts.calls(sites[0]), *acts.calls(sites[1])
    # MusicGen reads its first position twice: its cache begins at the second call.
    steps = steps[1:] if name == "musicgen" else steps
    with intervene(net, Patch(sites[0], encoder[0]), Patch(sites[1], torch.cat(steps, dim=1))):
        assert torch.equal(generate(net, name, **BEAMS[how]), plain)
    other = torch.cat(steps, dim=1) + 5
    with intervene(net, Patch(sites[1], other)), capture(net, sites[1]) as found:
        generate(net, name, **BEAMS[how])
    here = found.calls(sites[1])[1 if name == "musicgen" else 0 :]
    assert torch.equal(torch.cat(here, dim=1), other)


# ---------------------------------------------------------------------------------------------- steps and positions


def edited_steps(net, name, scope, site, value=100.0, **how):
    """For each call of a site in a generation, whether it was edited."""
    put = Custom(site, lambda x: torch.full_like(x, value), scope=scope)
    with intervene(net, put), capture(net, site) as acts:
        generate(net, name, **how)
    return [bool((call == value).all()) for call in acts.calls(site)]


@pytest.mark.parametrize("how", ["greedy", "beams"])
@pytest.mark.parametrize("name", ["whisper", "marian"])
@torch.no_grad()
def test_steps_of_a_generation(nets, name, how):
    net, site = nets[name], site_at(nets[name], PLACES[name][1])
    how = BEAMS[how]
    assert edited_steps(net, name, Scope(steps=PROMPT), site, **how) == [True] + [False] * 7
    assert edited_steps(net, name, Scope(steps=GENERATED), site, **how) == [False] + [True] * 7
    assert edited_steps(net, name, Scope(steps=(2, 5)), site, **how) == [False] * 2 + [True] * 3 + [False] * 3
    assert edited_steps(net, name, Scope(positions=(3, None)), site, **how) == [False] * 3 + [True] * 5
    encoder = site_at(net, PLACES[name][0])
    assert edited_steps(net, name, Scope(steps=PROMPT), encoder, **how) == [True]
    with pytest.raises(NeverRanError, match="never within"):
        edited_steps(net, name, Scope(steps=GENERATED), encoder, **how)


@torch.no_grad()
def test_a_longer_prompt_is_one_step_and_positions_go_on_behind_it(nets):
    net = nets["whisper"]
    site = site_at(net, PLACES["whisper"][1])
    prompt = torch.tensor([[2, 7, 8]] * 2)
    put = Custom(site, lambda x: torch.full_like(x, 100.0), scope=Scope(positions=(2, 4)))
    with intervene(net, put), capture(net, site) as acts:
        generate(net, "whisper", decoder_input_ids=prompt)
    edited = [(call[0] == 100).all(-1).tolist() for call in acts.calls(site)]
    assert edited[:3] == [[False, False, True], [True], [False]] and not any(sum(edited[2:], []))


@torch.no_grad()
def test_two_generations_in_one_block_begin_anew_each(nets):
    net, site = nets["marian"], site_at(nets["marian"], PLACES["marian"][1])
    put = Custom(site, lambda x: torch.full_like(x, 100.0), scope=Scope(steps=PROMPT))
    with intervene(net, put), capture(net, site) as acts:
        generate(net, "marian")
        generate(net, "marian")
    assert [bool((call == 100).all()) for call in acts.calls(site)] == ([True] + [False] * 7) * 2


@torch.no_grad()
def test_an_encoder_is_at_step_0_also_after_a_generation_that_failed(nets):
    net = nets["marian"]
    encoder, decoder = (site_at(net, place) for place in PLACES["marian"])
    calls = []

    def fail(module, given, output):
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError

    handle = net.get_submodule(decoder.name).register_forward_hook(fail)
    with intervene(net, Custom(encoder, lambda x: x * 0 + 9, scope=Scope(steps=PROMPT))), capture(net, encoder) as acts:
        with pytest.raises(ZeroDivisionError):
            generate(net, "marian")
        generate(net, "marian")
    handle.remove()
    assert [bool((call == 9).all()) for call in acts.calls(encoder)] == [True, True]


@torch.no_grad()
def test_a_schedule_has_a_coefficient_a_step(nets):
    net, site = nets["marian"], site_at(nets["marian"], PLACES["marian"][1])
    vector = torch.ones(site.units)
    silent = Custom(site, torch.zeros_like)
    with intervene(net, silent, Steer(site, vector, (1.0, 0.0, 5.0, 7.0))), capture(net, site) as acts:
        generate(net, "marian")
    assert [float(call.max()) for call in acts.calls(site)] == [1, 0, 5, 7, 7, 7, 7, 7]


@torch.no_grad()
def test_a_vector_for_each_position_goes_on_where_a_cache_hides_the_others(nets):
    net, site = nets["marian"], site_at(nets["marian"], PLACES["marian"][1])
    along = torch.arange(1.0, 6.0).unsqueeze(1).expand(5, site.units)
    with intervene(net, Custom(site, torch.zeros_like), Steer(site, along)), capture(net, site) as acts:
        generate(net, "marian")
    assert [float(call.max()) for call in acts.calls(site)] == [1, 2, 3, 4, 5, 0, 0, 0]
    with intervene(net, Custom(site, torch.zeros_like), Steer(site, along)), capture(net, site) as acts:
        net(input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[0, 5, 6, 7, 8, 9, 10]]))
    assert acts[site][0, :, 0].tolist() == [1, 2, 3, 4, 5, 0, 0]


@torch.no_grad()
def test_without_a_cache_steps_cannot_be_told_apart_but_positions_can(nets):
    net, site = nets["marian"], site_at(nets["marian"], PLACES["marian"][1])
    for timed in (
        Steer(site, torch.ones(site.units), (1.0, 2.0)),
        Steer(site, torch.ones(site.units), scope=Scope(PROMPT)),
    ):
        with pytest.raises(ValueError, match="use_cache=True"), intervene(net, timed):
            generate(net, "marian", use_cache=False)
    by_positions = Steer(site, 9 * torch.ones(site.units), scope=Scope(positions=(2, 4)))
    with intervene(net, by_positions):
        found = generate(net, "marian", use_cache=False)
    with intervene(net, by_positions):
        assert torch.equal(generate(net, "marian"), found)


@pytest.mark.parametrize("name", ["whisper", "marian"])
@torch.no_grad()
def test_one_example_of_a_batch_under_beams(nets, name):
    net = nets[name]
    for place in PLACES[name]:
        site = site_at(net, place)
        steer = Steer(site, torch.arange(0.0, site.units), scope=Scope(examples=(1,), batch=2, beams=3))
        with capture(net, site) as before, intervene(net, steer), capture(net, site) as after:
            generate(net, name, num_beams=3)
        for was, now in zip(before.calls(site), after.calls(site), strict=True):
            rows = len(was) // 2
            assert torch.equal(now[:rows], was[:rows]) and torch.equal(now[rows:], was[rows:] + steer.vector)
    one_beam = Steer(site, torch.ones(site.units), scope=Scope(examples=(1,), batch=2))
    with pytest.raises(ValueError, match="ran on 6 rows, expected 2 .batch=2"), intervene(net, one_beam):
        generate(net, name, num_beams=3)


# ---------------------------------------------------------------------------------------------- what never ran


@torch.no_grad()
def test_an_encoder_that_a_generation_does_not_run_is_an_error(nets):
    net = nets["marian"]
    encoder, decoder = edits(net, "marian")
    made = net.get_encoder()(inputs("marian")["input_ids"])
    with pytest.raises(NeverRanError, match="'model.encoder.layers.0'"), intervene(net, encoder):
        net.generate(encoder_outputs=made, max_new_tokens=4)
    with intervene(net, decoder):
        net.generate(encoder_outputs=made, max_new_tokens=4)
    kept = Edits(net)
    kept.add(encoder)
    with pytest.raises(NeverRanError, match="'model.encoder.layers.0'"):
        net.generate(encoder_outputs=made, max_new_tokens=4)
    generate(net, "marian")
    forward(net, "marian")
    generate(net, "marian")
    kept.clear()


class Wrapper(nn.Module):
    """As the framework's own models are: around a network, with a `generate` of its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def generate(self, **given):
        return self.net.generate(**given, max_new_tokens=4, min_new_tokens=4)


@torch.no_grad()
def test_steps_and_checks_are_those_of_a_wrapped_network(nets):
    model = Wrapper(nets["marian"])
    names = [site.name for site in find_sites(model)]
    assert "net.model.decoder.layers.1.fc1" in names
    site = site_at(model, "net.model.decoder.layers.1.fc1")
    put = Custom(site, lambda x: torch.full_like(x, 100.0), scope=Scope(steps=(1, 3)))
    with intervene(model, put), capture(model, site) as acts:
        model.generate(input_ids=inputs("marian")["input_ids"])
    assert [bool((call == 100).all()) for call in acts.calls(site)] == [False, True, True, False]


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_generation_counts_its_steps_without_compiling_each(nets):
    net, site = small_models.marian(), site_at(nets["marian"], PLACES["marian"][1])
    steer, how = Steer(site, torch.ones(site.units), tuple(range(1, 15))), {"max_new_tokens": 15, "min_new_tokens": 15}
    with intervene(nets["marian"], steer):
        expected = generate(nets["marian"], "marian", output_scores=True, **how)
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    net.forward = torch.compile(net.forward, backend="eager")
    with intervene(net, steer):
        assert torch.equal(generate(net, "marian", output_scores=True, **how), expected)
    assert not any("recompile limit" in reason for reason in counters["unimplemented"])
    torch.compiler.reset()
