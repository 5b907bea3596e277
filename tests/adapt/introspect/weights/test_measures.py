"""Planted changes are found by row and by column, and are distinguished from chance by a second run."""

import copy

import pytest
import torch

from adapt.introspect.weights.measures import WeightMeasures, weight_measures
from adapt.introspect.weights.readers import readers
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from interventions.files import FileError


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(inner=200, big=200, labels=" abcd"):
    """A model with 2,000 units, 200 in each of 10 layers, and the output units."""
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape(n_features=13, inner=inner, big=big), Labels.of(labels))


def conv(model, number):
    return model.get_submodule(model.layers[number].name)


@pytest.fixture(scope="module")
def before():
    return small()


def shaken(model, seed, size=0.01):
    """A copy with random changes of all weights, relative to their size."""
    after = copy.deepcopy(model)
    with torch.no_grad():
        for number, parameter in enumerate(after.parameters()):
            moved = noise(*parameter.shape, seed=1000 * seed + number)
            parameter.add_(size * parameter.std(correction=0).clamp(min=1e-3) * moved)
    return after


def planted(model, rows, size=0.05):
    with torch.no_grad():
        for layer, unit in rows:
            weight = conv(model, layer).weight
            weight[unit] += size * weight.std() * noise(*weight.shape[1:], seed=100 * layer + unit)
    return model


ROWS = [(layer, unit) for layer in (1, 4, 6, 8) for unit in (2, 30, 77, 111, 160)]


def test_the_20_rows_that_changed_most_have_the_highest_scores(before):
    assert sum(site.units for site in before.sites[:-1]) == 2000
    after = planted(shaken(before, 1), ROWS)
    found = weight_measures(before, after).incoming.top(20)
    expected = {(before.layers[layer].name, unit) for layer, unit in ROWS}
    assert len(expected & set(found)) >= 19


def test_changes_of_both_runs_are_flagged_and_random_ones_are_not(before):
    first, second = (planted(shaken(before, seed), ROWS) for seed in (1, 2))
    found = weight_measures(before, first, floor=second)
    expected = {(before.layers[layer].name, unit) for layer, unit in ROWS}
    assert set(found.flagged()) == expected == set(found.evidence.top(20))
    by_chance = weight_measures(before, shaken(before, 1), floor=shaken(before, 2))
    assert len(by_chance.flagged()) == 0
    for parameter in by_chance.parameters:
        if len(parameter.shape) > 1:
            assert parameter.relative == pytest.approx(parameter.floor, rel=0.3)
    site = by_chance.floor.sites[3]
    torch.testing.assert_close(by_chance.floor[site], by_chance.incoming[site], rtol=0.2, atol=0)


def test_an_unchanged_model(before, tmp_path):
    found = weight_measures(before, copy.deepcopy(before), floor=copy.deepcopy(before))
    assert len(found.flagged()) == 0
    for scores in (found.incoming, found.outgoing, found.cosine_distance, found.changed, found.floor, found.evidence):
        assert all(float(scores[site].abs().max()) == 0 for site in scores.sites)
    for parameter in found.parameters:
        assert (parameter.changed, parameter.relative, parameter.floor or 0) == (0, 0, 0)
        assert parameter.cosine == pytest.approx(1)
        if len(parameter.shape) > 1:
            assert (parameter.spectral, parameter.stable_rank, parameter.overlap) == (0, 0, 1)
    alone = weight_measures(before, before, outgoing=False)
    assert alone.incoming == found.incoming and alone.outgoing.sites == () and alone.floor is None
    with pytest.raises(ValueError, match="Pass it as floor="):
        alone.flagged()
    found.save(tmp_path)
    read = WeightMeasures.load(tmp_path)
    assert read.parameters == found.parameters and read.evidence == found.evidence and read.outgoing == found.outgoing
    assert read.cosine_distance == found.cosine_distance and read.changed == found.changed
    (tmp_path / "weights.json").unlink()
    with pytest.raises(FileError, match=r"weights\.json"):
        WeightMeasures.load(tmp_path)


def test_a_change_of_low_rank_has_that_rank_and_its_size(before):
    after = copy.deepcopy(before)
    weight = conv(after, 5).weight
    left, right = (torch.linalg.qr(noise(size, 3, seed=size))[0] for size in (200, weight[0].numel()))
    with torch.no_grad():
        weight += (0.5 * left @ right.T).view_as(weight)
    found = {parameter.name: parameter for parameter in weight_measures(before, after).parameters}
    own = found[f"{before.layers[5].name}.weight"]
    old = conv(before, 5).weight.detach().double().flatten(1)
    assert own.stable_rank == pytest.approx(3, rel=1e-3) and own.effective_rank == pytest.approx(3, rel=0.01)
    assert own.spectral == pytest.approx(0.5 / float(torch.linalg.matrix_norm(old, 2)), rel=1e-3)
    assert own.relative == pytest.approx(0.5 * 3**0.5 / float(old.norm()), rel=1e-3) and 0.9 < own.changed <= 1
    assert all(other.changed == 0 for name, other in found.items() if name != own.name)
    assert found[f"{before.layers[5].name}.bias"].spectral is None


def test_overlap_compares_the_leading_directions(before):
    turned, scaled = copy.deepcopy(before), copy.deepcopy(before)
    with torch.no_grad():
        weight = conv(turned, 5).weight
        u, s, vh = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        order = torch.cat([torch.arange(8, 16), torch.arange(8), torch.arange(16, len(s))])
        weight.copy_((u[:, order] * s @ vh).view_as(weight))
        conv(scaled, 5).weight.mul_(1.1)
    name = f"{before.layers[5].name}.weight"
    for after, overlap, cosine in ((turned, 0, None), (scaled, 1, 1)):
        found = next(own for own in weight_measures(before, after).parameters if own.name == name)
        assert found.overlap == pytest.approx(overlap, abs=1e-4)
        assert cosine is None or found.cosine == pytest.approx(1)


def test_a_column_is_found_at_the_unit_that_it_reads(before):
    after = copy.deepcopy(before)
    with torch.no_grad():
        conv(after, 5).weight[:, 17] *= 1.5
    found = weight_measures(before, after)
    site = before.sites[4]
    assert found.outgoing.top(1)[site] == (17,) and found.outgoing[site][17] == pytest.approx(0.5)
    assert all(float(found.incoming[own].max()) < 0.1 for own in found.incoming.sites)
    assert before.sites[-1] not in found.outgoing.sites and len(found.outgoing.sites) == 10


def test_new_output_units_have_changed_by_1(before):
    after = before.with_labels(Labels.of(" abcdx"))
    found = weight_measures(before, after)
    head = found.incoming.sites[-1]
    assert found.incoming[head].tolist() == [float(name == "x") for name in after.vocabulary]
    assert float(found.outgoing[after.sites[-2]].max()) == 0  # the weights to new units have no counterpart before
    assert next(own for own in found.parameters if own.name == f"{after.head}.weight").relative == 0
    with pytest.raises(ValueError, match="another alphabet"):
        weight_measures(before, after, floor=before)
    with pytest.raises(ValueError, match="one architecture"):
        weight_measures(before, small(inner=12))


def test_readers_in_each_family(wav2vec2, whisper, marian):
    found = {}
    for path in (wav2vec2, whisper, marian):
        found |= readers(load_model(str(path)).model)
    expected = {
        "net.wav2vec2.encoder.layers.0.feed_forward.intermediate_dense": ("feed_forward.output_dense",),
        "net.wav2vec2.encoder.layers.1.attention.v_proj": ("attention.out_proj",),
        "net.wav2vec2.encoder.layers.1.attention.q_proj": (),
        "net.model.encoder.conv1": ("conv2",),
        "net.model.decoder.layers.1.encoder_attn.v_proj": ("encoder_attn.out_proj",),
        "net.model.decoder.layers.0.fc1": ("fc2",),
        "net.model.decoder.layers.0.fc2": (),
    }
    for name, ends in expected.items():
        base = name.rpartition(".")[0].removesuffix(".feed_forward").removesuffix(".attention")
        base = base.removesuffix(".encoder_attn")
        assert found[name] == tuple(f"{base}.{end}.weight" for end in ends), name


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family_is_measured(request, family):
    model = load_model(str(request.getfixturevalue(family))).model
    after = copy.deepcopy(model)
    site = next(site for site in model.sites if site.name.endswith(("fc1", "intermediate_dense")))
    with torch.no_grad():
        after.get_submodule(site.name).weight[3] *= 1.2
    found = weight_measures(model, after)
    assert list(found.incoming.top(1)) == [(site.name, 3)] and site in found.outgoing.sites
    moved = [own.name for own in found.parameters if own.changed]
    assert moved == [f"{site.name}.weight"]
    assert next(own for own in found.parameters if own.changed).stable_rank == pytest.approx(1, rel=1e-3)
