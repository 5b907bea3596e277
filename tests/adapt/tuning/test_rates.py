"""Learning rates by layer, and layers that wait: which factor each parameter has, and what moves in which epoch."""

import pytest
import torch

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.tuning.layers import full, layers
from adapt.tuning.neurons import neurons
from adapt.tuning.rates import layer_numbers, layer_rates
from adapt.tuning.unfreeze import gradual
from interventions.freeze import freeze_all_but


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab"))


def by_layer(model, rates):
    found = {}
    for name, factor in rates.items():
        found.setdefault(layer_numbers(model, [name])[name], set()).add(factor)
    return found


def test_each_layer_has_a_part_of_the_rate_of_the_one_above(model):
    rates = layer_rates(model, full(model).names, decay=0.5)
    assert by_layer(model, rates) == {number: {0.5 ** (10 - number)} for number in range(11)}
    assert set(layer_rates(model, full(model).names).values()) == {1.0}


def test_the_top_layer_that_trains_has_all_of_it(model):
    rates = layer_rates(model, layers(model, layers=[2, 5, 6]).names, decay=0.5)
    assert by_layer(model, rates) == {2: {0.5**4}, 5: {0.5}, 6: {1.0}}
    some = neurons(model, choose="random", per_site=True, sites="*.conv[34]").names
    assert by_layer(model, layer_rates(model, some, 0.5)) == {3: {0.5}, 4: {1.0}}


def test_factors_by_layers_and_by_parameters_the_last_counts(model):
    rates = layer_rates(model, full(model).names, 1.0, {"*": 0.5, "last 1": 2, 0: 0.25, "*.bias": 3.0})
    prefix = "net.acoustic_model"
    assert rates[f"{prefix}.conv0.weight"] == 0.25 and rates[f"{prefix}.conv10.weight"] == 2
    assert rates[f"{prefix}.conv5.weight"] == 0.5 and rates[f"{prefix}.norm3.bias"] == 3
    assert layer_rates(model, full(model).names, 0.5, {"last 2": 3})[f"{prefix}.conv9.weight"] == 1.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"decay": -1}, "layer_decay must be a number of at least 0"), ({"decay": None}, "layer_decay must be"),
        ({"rates": {"last 1": float("inf")}}, "rates.last 1 must be a number"),
        ({"rates": {"*.gone": 1}}, "matches no layer"),
        ({"rates": {0: 1}}, "0 matches no layer and no parameter that trains"),
    ],
)  # fmt: skip
def test_what_is_no_factor_or_fits_nothing_is_refused(model, options, says):
    with pytest.raises(InputError, match=says):
        layer_rates(model, layers(model, layers="last 2").names, **options)


def test_layers_wait_from_the_top_down(model):
    names = layers(model, layers=[2, 5, 10]).names
    unfreeze = gradual(model, names, every=2)
    assert unfreeze.epochs == 5
    freeze_all_but(model, names)
    trains = []
    for epoch in range(6):
        unfreeze(model, epoch)
        trains.append({layer_numbers(model, [name])[name] for name, p in model.named_parameters() if p.requires_grad})
    assert trains == [{10}, {10}, {10, 5}, {10, 5}, {10, 5, 2}, {10, 5, 2}]
    unfreeze(model, 1)  # whatever was before
    assert {layer_numbers(model, [name])[name] for name, p in model.named_parameters() if p.requires_grad} == {10}
    for every in (0, 1.5, "soon", True):
        with pytest.raises(InputError, match="unfreeze must be a whole number"):
            gradual(model, names, every)


def test_rows_wait_too(model):
    names = neurons(model, choose="random", per_site=True, top=0.3).names
    freeze_all_but(model, names)
    gradual(model, names, 1)(model, 1)
    waiting = {layer_numbers(model, [name])[name] for name in names if not model.get_parameter(name).requires_grad}
    assert waiting == set(range(9))


def test_every_family_has_a_layer_for_every_parameter(wav2vec2, whisper, marian):
    for folder in (wav2vec2, whisper, marian):
        model = load_model(str(folder)).model
        rates = layer_rates(model, full(model).names, 0.5)
        assert rates.keys() == set(full(model).names) and max(rates.values()) == 1
        assert len(gradual(model, full(model).names, 1).groups) == len(set(rates.values()))
