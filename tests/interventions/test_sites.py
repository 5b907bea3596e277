"""Sites point at the rows that make each unit, and a choice of layers means one set of layers in the model's order."""

from collections import OrderedDict

import pytest
import small_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from interventions.sites import TOKEN, Layer, Site, Step, choose_layers, choose_sites, find_sites, length_mask, site_at

LAYERS = [
    Layer(f"net.{name}", (f"net.{name}",)) for name in ("conv0", "conv1", "conv2", "mix", "out_a", "out_b", "head")
]


@pytest.fixture
def mixed():
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv1d(3, 5, 7),
            norm=nn.BatchNorm1d(5),
            block=nn.Sequential(OrderedDict(up=nn.Linear(5, 8, bias=False), act=nn.ReLU(), down=nn.Linear(8, 4))),
            grid=nn.Conv2d(1, 2, 3),
        )
    )


def test_sites_are_the_linear_and_conv1d_modules_in_order(mixed):
    sites = find_sites(mixed)
    assert [(site.name, site.unit_axis, site.units) for site in sites] == [
        ("conv", 1, 5), ("block.up", -1, 8), ("block.down", -1, 4),
    ]  # fmt: skip
    assert [site.rows for site in sites] == [
        ("conv.weight", "conv.bias"), ("block.up.weight",), ("block.down.weight", "block.down.bias"),
    ]  # fmt: skip


def test_a_weight_that_is_computed_has_no_rows(mixed):
    nn.utils.parametrizations.weight_norm(mixed.conv, dim=2)
    found = find_sites(mixed)[0]
    assert (found.name, found.unit_axis, found.units, found.rows) == ("conv", 1, 5, ())


def test_rows_are_parameters_with_a_row_per_unit(mixed):
    parameters = dict(mixed.named_parameters())
    for site in find_sites(mixed):
        assert {parameters[row].shape[0] for row in site.rows} == {site.units}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("conv", ["conv"]),
        ("block.*", ["block.up", "block.down"]),
        ("*.down", ["block.down"]),
        ("*o*", ["conv", "block.up", "block.down"]),
        ("block.[ud]*", ["block.up", "block.down"]),
        ("CONV", []),
        ("down", []),
    ],
)
def test_globs(mixed, pattern, names):
    assert [site.name for site in find_sites(mixed, pattern)] == names


def test_the_root_module_may_be_a_site():
    (site,) = find_sites(nn.Linear(2, 3))
    assert site.units == 3


def test_what_only_a_wrapper_knows_is_not_made_up(mixed):
    assert {(site.part, site.step) for site in find_sites(mixed)} == {(None, None)}


PLACES = [
    Site("encoder.conv", 1, 4, (), "encoder", Step(0.01, "s")),
    Site("encoder.fc", -1, 4, (), "encoder", Step(0.02, "s")),
    Site("decoder.cross.k", -1, 4, (), "cross-attention", Step(0.02, "s")),
    Site("decoder.fc", -1, 4, (), "decoder", TOKEN),
]


@pytest.mark.parametrize(
    ("pattern", "part", "numbers"),
    [
        ("*", None, [0, 1, 2, 3]),
        ("*", "encoder", [0, 1]),
        ("*", "decoder", [3]),
        ("*", "cross-attention", [2]),
        ("*.fc", None, [1, 3]),
        ("*.fc", "decoder", [3]),
        (["decoder.fc", "*.conv", "encoder.*"], None, [0, 1, 3]),
    ],
)
def test_sites_are_chosen_by_name_and_part_in_their_order(pattern, part, numbers):
    assert choose_sites(PLACES, pattern, part) == [PLACES[number] for number in numbers]


@pytest.mark.parametrize(
    ("pattern", "part", "message"),
    [
        ("fc", None, "'fc'.*encoder.conv, encoder.fc, decoder.cross.k, decoder.fc"),
        ("*.conv", "decoder", "'[*].conv'.*over: decoder.fc"),
        ([], None, "nothing.*encoder.conv"),
        ("*", "middle", "'middle'.*encoder, decoder, cross-attention; this model has encoder, cross-attention"),
    ],
)
def test_what_names_no_site_is_refused_with_those_there_are(pattern, part, message):
    with pytest.raises(ValueError, match=message):
        choose_sites(PLACES, pattern, part)


def test_a_mask_has_as_many_own_steps_as_are_said_the_first_ones():
    mask = length_mask(torch.tensor([0, 2, 5]), 4)
    assert mask.tolist() == [[False] * 4, [True, True, False, False], [True] * 4]


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (0, [0]),
        (6, [6]),
        (-1, [6]),
        (-7, [0]),
        ("0", [0]),
        ("-1", [6]),
        ("first 3", [0, 1, 2]),
        ("first 7", list(range(7))),
        ("last 2", [5, 6]),
        ("last 7", list(range(7))),
        ("middle", [2, 3]),
        ("net.mix", [3]),
        ("net.conv*", [0, 1, 2]),
        ("*out_?", [4, 5]),
        ("net.conv[12]", [1, 2]),
        (["last 1", 0, "net.conv0", "net.out_*"], [0, 4, 5, 6]),
        ((-1, -1, 6), [6]),
    ],
)
def test_every_documented_form(choice, numbers):
    assert choose_layers(LAYERS, choice) == [LAYERS[number] for number in numbers]


def numbered(*names):
    return [Layer(name, ()) for name in names]


TWO = numbered(
    "net.shared", *(f"net.model.encoder.layers.{n}" for n in range(4)), "net.model.decoder.embed_positions",
    *(f"net.model.decoder.layers.{n}" for n in range(3)), "net.lm_head",
)  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        ("encoder last 2", [3, 4]), ("decoder first 1", [6]), (["encoder last 2", "decoder first 1"], [3, 4, 6]),
        ("encoder", [1, 2, 3, 4]), ("decoder", [5, 6, 7, 8]), ("decoder middle", [7]), ("decoder -1", [8]),
        ("encoder 0", [1]), (["decoder last 1", "net.lm_head"], [8, 9]),
    ],
)  # fmt: skip
def test_encoder_and_decoder_are_chosen_apart(choice, numbers):
    assert choose_layers(TWO, choice) == [TWO[number] for number in numbers]


def test_a_part_is_the_one_that_comes_first_in_a_name():
    layers = numbered("net.encoder.conv.0", "net.encoder.encoder.layers.0", "net.decoder.bert.encoder.layer.0")
    assert choose_layers(layers, "encoder") == layers[:2]
    assert choose_layers(layers, "decoder last 1") == layers[2:]


@pytest.mark.parametrize(
    "choice", ["encoder last 5", "decoder first", "decoder middle 1", "encoder net.shared", "coder 1"]
)
def test_a_part_without_such_a_layer_is_refused(choice):
    with pytest.raises(ValueError, match="or these after 'encoder' or 'decoder'"):
        choose_layers(TWO, choice)
    with pytest.raises(ValueError, match="No layer matches 'encoder last 1'"):
        choose_layers(LAYERS, "encoder last 1")


@pytest.mark.parametrize("total", range(1, 13))
def test_middle_is_a_third_around_the_centre(total):
    chosen = choose_layers([Layer(str(n), ()) for n in range(total)], "middle")
    numbers = [int(layer.name) for layer in chosen]
    before, behind = numbers[0], total - 1 - numbers[-1]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert abs(len(numbers) - total / 3) < 0.7 and abs(before - behind) <= 1


@pytest.mark.parametrize(
    "choice",
    [
        "first 0", "last 0", "first 99", "first", "first 1 2", "first -1", "last x", "unknown", "conv0", "", "-", "--1",
        "\u00b2", "first \u00b2", 7, -8, "7", "-8", True, False, None, 1.0, [True], [0, "unknown"], [],
    ],
)  # fmt: skip
def test_what_names_no_layer_is_refused_with_the_layers_there_are(choice):
    with pytest.raises(ValueError, match="net.conv0.*net.head"):
        choose_layers(LAYERS, choice)


PARTS = st.one_of(
    st.integers(-7, 6),
    st.integers(-7, 6).map(str),
    st.integers(1, 7).map("first {}".format),
    st.integers(1, 7).map("last {}".format),
    st.just("middle"),
    st.sampled_from(LAYERS).map(lambda layer: layer.name),
    st.sampled_from(["*", "net.c*", "*out*"]),
)


@given(st.lists(PARTS, min_size=1))
def test_a_choice_is_the_union_of_its_parts_in_order_without_doubles(parts):
    numbers = [LAYERS.index(layer) for layer in choose_layers(LAYERS, parts)]
    assert numbers == sorted(set(numbers))
    alone = {LAYERS.index(layer) for part in parts for layer in choose_layers(LAYERS, part)}
    assert set(numbers) == alone


# ---------------------------------------------------------------------------------------------- a site at any module


@pytest.fixture(scope="module")
def networks():
    return {name: getattr(small_models, name)() for name in ("wav2letter", "wav2vec2", "whisper", "marian", "musicgen")}


@pytest.mark.parametrize(
    ("network", "name", "axis", "units"),
    [
        ("wav2letter", "acoustic_model.2", 1, 12),
        ("wav2vec2", "wav2vec2.feature_extractor.conv_layers.0", 1, 8),
        ("wav2vec2", "wav2vec2.feature_extractor.conv_layers.0.layer_norm", 1, 8),
        ("wav2vec2", "wav2vec2.feature_extractor.conv_layers.1", 1, 8),
        ("wav2vec2", "wav2vec2.encoder.layers.1", -1, 16),
        ("wav2vec2", "wav2vec2.encoder.layer_norm", -1, 16),
        ("whisper", "model.encoder.conv2", 1, 16),
        ("whisper", "model.decoder.layers.0", -1, 16),
        ("whisper", "model.decoder.embed_tokens", -1, 16),
        ("marian", "model.decoder.layers.1.fc1", -1, 24),
        ("musicgen", "text_encoder.encoder.block.0", -1, 16),
        ("musicgen", "text_encoder.encoder.block.0.layer.0.layer_norm", -1, 16),
        ("musicgen", "decoder.model.decoder.layers.0", -1, 16),
    ],
)
def test_a_module_says_where_its_units_are(networks, network, name, axis, units):
    site = site_at(networks[network], name)
    assert (site.name, site.unit_axis, site.units, site.part, site.step) == (name, axis, units, None, None)
    linear = isinstance(networks[network].get_submodule(name), (nn.Conv1d, nn.Linear))
    assert site.rows == ((f"{name}.weight", f"{name}.bias") if linear else ())
    if linear:
        assert site in find_sites(networks[network])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acoustic_model.3", "ReLU.*cannot be inferred. Give unit_axis"),
        ("acoustic_model", "number of units.*cannot be inferred"),
        ("acoustic_model.33", "no module 'acoustic_model.33'. Similar names: 'acoustic_model.3'"),
        ("zzz", "no module 'zzz'. Some of its modules: 'acoustic_model'"),
    ],
)
def test_what_no_module_says_is_asked_for(networks, name, message):
    with pytest.raises(ValueError, match=message):
        site_at(networks["wav2letter"], name)


def test_what_is_never_called_and_what_mixes_layouts_is_not_guessed(networks):
    with pytest.raises(ValueError, match="'wav2vec2.encoder.layers' is a list of modules.*'wav2vec2.encoder.layers.0'"):
        site_at(networks["wav2vec2"], "wav2vec2.encoder.layers")
    with pytest.raises(ValueError, match="Wav2Vec2Encoder.*cannot be inferred"):
        site_at(networks["wav2vec2"], "wav2vec2.encoder")


def test_what_is_said_is_taken(networks):
    step = Step(0.02, "s")
    site = site_at(networks["wav2letter"], "acoustic_model.3", unit_axis=1, units=12, part="encoder", step=step)
    assert site == Site("acoustic_model.3", 1, 12, (), "encoder", step)
