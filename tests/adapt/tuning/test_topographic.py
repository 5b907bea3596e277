"""`topographic=grid`: which sites are laid out, where their units start, and what is refused."""

import pytest
import torch

from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_of_model, cells_to_text
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.model_files import save_model
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.tuning.bias_norm import norm
from adapt.tuning.layers import full, head, layers
from adapt.tuning.neurons import neurons
from adapt.tuning.topographic import grid, none
from adapt.tuning.unfreeze import gradual
from interventions.freeze import freeze_all_but


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 12, 16, "batch"), Labels.of(" abcdefghij")).eval()


def laid_out(model, folder, **options):
    made = grid(model, **options)
    made.prepare(folder)
    return made


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        (full, [f"conv{number}" for number in range(10)]),  # 12 output units are enough, but are the letters
        (lambda model: layers(model, layers=["*conv2", "*conv9", "*conv10"]), ["conv2", "conv9"]),
        (
            lambda model: neurons(model, choose="random", per_site=True, top=3, sites=["*conv4", "*conv5"]),
            ["conv4", "conv5"],
        ),
    ],
)
def test_of_the_convolutions_those_that_train_are_laid_out(model, tmp_path, tuning, expected):
    freeze_all_but(model, tuning(model).names)
    made = laid_out(model, tmp_path)
    assert [site.name.rpartition(".")[2] for site in made.sites] == expected
    made().backward()
    pulled = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert pulled and all(name.endswith((".weight", ".rows")) for name in pulled)
    assert {name.split(".")[-2] for name in pulled} == set(expected)
    assert none(model) is None


def test_units_start_where_their_weights_put_them_where_the_base_says_or_by_number(model, tmp_path):
    freeze_all_but(model, full(model).names)
    with torch.no_grad():  # weights of many dimensions, when random, are all equally unlike
        for site in model.sites:
            weight = model.get_submodule(site.name).weight
            weight.copy_((torch.randn(site.units, 2) @ torch.randn(2, weight[0].numel())).view_as(weight))
    by = {start: laid_out(model, tmp_path / start, start=start) for start in ("weights", "number")}
    assert all(cells == list(range(len(cells))) for cells in by["number"].cells.values())
    for name, alike in by["weights"].neighbour_cosines.items():
        assert alike > by["number"].neighbour_cosines[name] + 0.2
    first, second, *_ = by["weights"].cells
    learned = {first: by["weights"].cells[first][::-1]}
    again = laid_out(model, tmp_path / "again", start="number", learned=learned)
    assert again.cells[first] == learned[first] and again.cells[second] == list(range(12))


def test_a_resumed_run_finds_the_cells_that_it_gave(model, tmp_path):
    freeze_all_but(model, full(model).names)
    cells = laid_out(model, tmp_path).cells
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert laid_out(model, tmp_path).cells == cells != laid_out(model, tmp_path / "other").cells


def test_layers_that_wait_are_pulled_when_they_train(model, tmp_path):
    unfreeze = gradual(model, full(model).names, 1)
    made = laid_out(model, tmp_path, sites="*.conv9")
    conv = model.get_submodule(made.sites[0].name)
    unfreeze(model, 0)
    assert not made().requires_grad
    unfreeze(model, 1)
    made().backward()
    assert conv.weight.grad.any()


def test_linear_maps_of_transformers_are_laid_out_by_name(marian, wav2vec2, tmp_path):
    text, speech = (load_model(str(folder)).model for folder in (marian, wav2vec2))
    for model in (text, speech):
        freeze_all_but(model, full(model).names)
    with pytest.raises(InputError, match="no convolution below the output layer has 9 units"):
        grid(text)
    made = laid_out(text, tmp_path / "text", sites=["*.fc1", "*.fc2", "*lm_head"])
    assert len(made.sites) == 8 and {name.rpartition(".")[2] for name in made.cells} == {"fc1", "fc2"}
    (tmp_path / "saved").mkdir()
    save_model(tmp_path / "saved" / "model.safetensors", text, topographic=cells_to_text(made.cells))
    assert cells_of_model(load_model(str(tmp_path / "saved")).header, "saved") == made.cells
    # Not the convolution of positions, whose weight is computed from others (weight norm).
    made = laid_out(speech, tmp_path / "speech")
    assert made.sites and all("conv_layers" in name for name in made.cells)
    made().backward()


@pytest.mark.parametrize("tuning", [head, norm, lambda model: layers(model, layers="*conv10")])
def test_where_no_site_trains_it_says_so(model, tuning):
    freeze_all_but(model, tuning(model).names)
    with pytest.raises(InputError, match="no convolution below the output layer has 9 units or more"):
        grid(model)
    with pytest.raises(InputError, match=r"no site that '\*conv3' names"):
        grid(model, sites="*conv3")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": -1}, "strength must be a number of at least 0"), ({"strength": "much"}, "strength must be"),
        ({"strength": float("nan")}, "strength must be"), ({"radius": 0.5}, "radius must be a number of at least 1"),
        ({"radius": True}, "radius must be"), ({"start": "anyhow"}, "start must be one of weights, number"),
        ({"sites": 3}, "sites must be a glob"), ({"sites": "*.nowhere"}, "sites: No site matches"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(model, options, says):
    freeze_all_but(model, full(model).names)
    with pytest.raises(InputError, match=says):
        grid(model, **options)
