"""What is done before the first training step grows as the number of layers does, not as its square."""

import cProfile
import pstats

import pytest
from small_hf import save_whisper

from adapt.models.checkpoint import load_model
from adapt.models.hf import submodules, submodules_of
from adapt.training.defaults import kind_of
from adapt.training.prefix import find_cut
from adapt.tuning.layers import full, layers
from adapt.tuning.lora import lora
from adapt.tuning.neurons import neurons
from adapt.tuning.rates import layer_rates
from interventions.freeze import freeze_all_but


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep")
    sizes = {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    return [
        save_whisper(folder / str(count), (), encoder_layers=count, decoder_layers=count, **sizes) for count in (3, 12)
    ]


def calls(folder, tuning):
    """The number of function calls of all that is linear in the layers; unlike seconds, it is always the same."""
    model = load_model(str(folder)).model
    watched = cProfile.Profile()
    watched.enable()
    names = tuning(model).names
    layer_rates(model, names, 0.9, {"last 2": 0.5, "last 1": 2.0})
    freeze_all_but(model, names)
    kind_of(model, names)
    model.train()
    if tuning is upper:
        find_cut(model)
    watched.disable()
    return pstats.Stats(watched).total_calls  # pyright: ignore[reportAttributeAccessIssue]


def upper(model):
    return layers(model, layers="last 2")


def some(model):
    return neurons(model, choose="random")


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [full, upper, some, lora])
def test_four_times_the_layers_cost_at_most_about_four_times_as_much(folders, tuning):
    few, many = (calls(folder, tuning) for folder in folders)
    assert many < 4.5 * few


def test_the_modules_of_all_blocks_are_those_of_each(folders):
    model = load_model(str(folders[0])).model
    names = [f"net.model.decoder.layers.{number}" for number in range(3)]
    assert submodules_of(model, names) == {name: submodules(model, name) for name in names}
    assert all(len(inside) > 10 for inside in submodules_of(model, names).values())
