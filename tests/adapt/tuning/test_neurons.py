"""`tuning=neurons`: who is chosen, what is refused, and what the adaptation then holds."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapt.errors import InputError
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.model import Model
from adapt.models.state import model_fingerprint
from adapt.tuning.layers import full
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but
from interventions.neurons import Neurons, Scores
from interventions.rows import merge_rows
from interventions.sites import site_at


@pytest.fixture
def model() -> Model:
    return load_model("us-english").model


def chosen(model, choose="random", **options):
    """What the tuning chooses, by the weight's name, and the names of the parameters that train."""
    names = neurons(model, choose=choose, **options).names
    parameters = dict(model.named_parameters())
    assert set(names) <= parameters.keys()
    return {name: rows for name, rows in merge_rows(model).items() if name.endswith(".weight")}, names


def test_by_default_those_of_the_largest_gradients_which_takes_examples(model):
    with pytest.raises(InputError, match="choose=rgn is measured on training examples, and there are none"):
        neurons(model)


def test_a_twentieth_of_each_site_at_random(model):
    rows, names = chosen(model, per_site=True)
    assert {name: len(own) for name, own in rows.items()} == {
        f"{site.name}.weight": max(1, int(0.05 * site.units + 0.5)) for site in model.sites
    }
    assert all(name.endswith((".rows", ".row_bias")) for name in names)
    assert chosen(model, per_site=True, seed=0)[0] == rows != chosen(model, per_site=True, seed=1)[0]


def test_by_the_size_of_the_weights_of_all_sites_together(model):
    site = model.sites[3]
    with torch.no_grad():
        model.get_submodule(site.name).weight[[4, 7]] *= 100
    assert chosen(model, choose="weight", top=2)[0] == {f"{site.name}.weight": (4, 7)}
    assert len(chosen(model, choose="weight", top=2, per_site=True)[0]) == len(model.sites)


def test_by_files(model, tmp_path):
    first, second = model.sites[1], model.sites[2]
    Neurons({first: [2, 5], second: [1]}).save(tmp_path / "n.safetensors")
    path = str(tmp_path / "n.safetensors")
    assert chosen(model, neurons=path)[0] == {f"{first.name}.weight": (2, 5), f"{second.name}.weight": (1,)}
    assert chosen(model, neurons=path, sites=second.name)[0] == {f"{second.name}.weight": (1,)}
    Scores({first: torch.arange(first.units).float()}).save(tmp_path / "s.safetensors")
    last = (first.units - 2, first.units - 1)
    assert chosen(model, choose=str(tmp_path / "s.safetensors"), top=2)[0] == {f"{first.name}.weight": last}


def test_the_opposite_trains_all_else(model, tmp_path):
    site = model.sites[1]
    Neurons({site: [0, 3]}).save(tmp_path / "n.safetensors")
    everything = full(model).names
    rows, names = chosen(model, neurons=str(tmp_path / "n.safetensors"), freeze=True)
    assert rows == {f"{site.name}.weight": tuple(set(range(site.units)) - {0, 3})}
    own = {f"{site.name}.weight", f"{site.name}.bias"}
    assert set(names) == (set(everything) - own) | {f"{site.name}.rows", f"{site.name}.row_bias"}
    assert set(chosen(model, sites=site.name, top=1.0, freeze=True)[1]) == set(everything) - own


def test_what_cannot_train_alone_is_left_out_or_refused(wav2vec2, marian, tmp_path, caplog):
    model, tied = load_model(str(wav2vec2)).model, load_model(str(marian)).model
    with caplog.at_level("INFO"):
        rows, _ = chosen(model, per_site=True)
    normed = next(site.name for site in model.sites if "pos_conv_embed" in site.name)
    assert normed in caplog.text and f"{normed}.weight" not in rows and len(rows) == len(model.sites) - 1
    assert "net.lm_head.weight" not in chosen(tied)[0]
    with pytest.raises(InputError, match=r"tuning=neurons: .*weight norm"):
        neurons(model, sites="*pos_conv*", choose="random")
    with pytest.raises(InputError, match=r"tuning=neurons: .*tied to 'net\.model"):
        neurons(tied, sites="net.lm_head", choose="random")
    Neurons({site_at(tied.net, "model.encoder.layers.0.fc1"): [1]}).save(tmp_path / "n.safetensors")
    with pytest.raises(InputError, match=r"no module 'model\.encoder\.layers\.0\.fc1'.*'net\.model\.encoder"):
        neurons(tied, neurons=str(tmp_path / "n.safetensors"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sites": "*.no"}, "No site matches '\\*.no'"), ({"top": 1.5}, "a share .* from 0 to 1"),
        ({"top": 0}, "There are no neurons"), ({"per_site": "layer"}, "per_site must be true or false"),
        ({"neurons": "gone.safetensors"}, "gone.safetensors"), ({"choose": "largest"}, "largest"),
        ({"neurons": 3}, "neurons must be a file"), ({"choose": ["rgn"]}, "choose must be a measure"),
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_an_input_error(model, options, said):
    with pytest.raises(InputError, match=said):
        neurons(model, **{"choose": "random"} | options)


def trained(model, **options):
    """Some steps of anything, as the commands would do them; returns which rows could train."""
    freeze_all_but(model, neurons(model, **{"choose": "random", "per_site": True} | options).names)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    return merge_rows(model)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.9])
def test_an_adaptation_is_as_large_as_the_share_that_trained(model, tmp_path, share):
    base = load_model("us-english")
    rows = trained(model, top=share)
    save_adaptation(tmp_path / "adaptation", base, model)
    parameters = dict(model.named_parameters())
    own = sum(len(units) * parameters[name][0].numel() for name, units in rows.items())
    whole = sum(parameter.nbytes for parameter in model.parameters())
    part = own / sum(parameter.numel() for parameter in model.parameters())
    assert (tmp_path / "adaptation" / "weights.safetensors").stat().st_size <= 1.1 * part * whole
    loaded = load_model(str(tmp_path))
    assert loaded.fingerprint == model_fingerprint(model) != base.fingerprint
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert facts["format"] == 2 and facts["tensors"] == sorted(name.removeprefix("net.") for name in rows)


def test_rows_that_are_another_bases_or_damaged_are_refused(model, tmp_path):
    base = load_model("us-english")
    trained(model)
    save_adaptation(tmp_path / "adaptation", base, model)
    path = tmp_path / "adaptation" / "weights.safetensors"
    whole = load_file(path)
    for spoil in (
        lambda stored: stored.pop(":rows"), lambda stored: stored[":rows"].add_(10_000),
        lambda stored: stored[":rows"].add_(1), lambda stored: stored.update({":rows": stored[":rows"][:-1]}),
        lambda stored: stored.pop(next(name for name in stored if name != ":rows")),
    ):  # fmt: skip
        stored = {name: tensor.clone() for name, tensor in whole.items()}
        spoil(stored)
        save_file(stored, path)
        with pytest.raises(InputError, match="changed or damaged"):
            load_model(str(tmp_path))
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    (tmp_path / "adaptation" / "adaptation.json").write_text(json.dumps(facts | {"format": 9}))
    with pytest.raises(InputError, match="has format 9; this version reads formats 1, 2, 3"):
        load_model(str(tmp_path))


def test_what_differs_in_most_rows_is_written_as_ever(model, tmp_path):
    base = load_model("us-english")
    with torch.no_grad():
        model.get_parameter("net.acoustic_model.conv1.weight").add_(1)
    save_adaptation(tmp_path / "adaptation", base, model)
    facts = json.loads((tmp_path / "adaptation" / "adaptation.json").read_text())
    assert facts["format"] == 1 and not facts["rows"]
    assert list(load_file(tmp_path / "adaptation" / "weights.safetensors")) == ["acoustic_model.conv1.weight"]
