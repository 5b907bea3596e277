"""`innertune sites`: shapes, weights and FLOPs of each site, and the errors for wrong options."""

import json

import pytest
import torch

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.costs import site_costs
from adapt.models.state import model_fingerprint
from interventions.sites import choose_sites, find_sites


@pytest.fixture(params=["base", "wav2vec2", "whisper"])
def model(request):
    return load_model(str(request.getfixturevalue(request.param))).model


def test_each_weight_costs_a_multiplication_and_an_addition_at_each_step(model):
    costs = site_costs(model, tokens=7)
    assert [row.site for row in costs.sites] == model.sites
    for row in costs.sites:
        module = model.get_submodule(row.site.name)
        batch, steps = row.shape[0], row.shape[3 - (row.site.unit_axis % 3)]
        assert (batch, row.shape[row.site.unit_axis]) == (1, row.site.units)
        assert row.flops == 2 * module.weight.numel() * steps
        assert 0 < row.valid_lengths <= steps
        assert row.weights == sum(parameter.numel() for parameter in module.parameters())
        if row.site.step.unit == "token":
            assert row.valid_lengths == steps == 7
        else:
            assert abs(row.valid_lengths * row.site.step.length - 1) < 0.05


def test_totals(model):
    costs = site_costs(model)
    assert costs.flops == sum(row.flops for row in costs.sites) < costs.model_flops
    assert costs.weights == sum(row.weights for row in costs.sites) < costs.model_weights
    assert costs.model_weights == sum(parameter.numel() for parameter in model.parameters())
    few = site_costs(model, model.sites[:2])
    assert few.sites == costs.sites[:2] and few.model_flops == costs.model_flops


def test_attention_is_counted_in_the_whole_pass(wav2vec2):
    model = load_model(str(wav2vec2)).model
    costs = site_costs(model)
    steps, config = costs.sites[-1].valid_lengths, model.net.config
    # Besides the sites, each layer has two matrix products: queries with keys, and the result with the values.
    assert costs.model_flops - costs.flops == config.num_hidden_layers * 2 * 2 * steps**2 * config.hidden_size


def test_cost_grows_with_the_audio_but_not_where_a_window_is_read(model):
    short, long = site_costs(model, seconds=1), site_costs(model, seconds=2)
    same = [a.flops == b.flops for a, b in zip(short.sites, long.sites, strict=True)]
    assert all(same) if model.header()["family"] == "hf_speech_seq2seq" else not any(same)
    assert all(
        abs(b.valid_lengths - 2 * a.valid_lengths) <= 3 or a.site.step.unit == "token"
        for a, b in zip(short.sites, long.sites, strict=True)
    )


def test_the_mode_is_restored(model):
    model.train()
    resting = next(module for module in model.net.modules() if not list(module.children()))
    resting.training = False
    modes, before = [module.training for module in model.modules()], model_fingerprint(model)
    state = torch.get_rng_state()
    site_costs(model)
    assert [module.training for module in model.modules()] == modes
    assert model_fingerprint(model) == before and torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_default_sites_are_those_of_find_sites(model):
    found = {site.name: site for site in find_sites(model)}
    for site in model.sites:
        generic = found[site.name]
        assert (site.unit_axis, site.units, site.rows) == (generic.unit_axis, generic.units, generic.rows)
        assert site.part is not None and site.step is not None


def test_sites_are_selected_by_globs_and_part(innertune, whisper, capsys, tmp_path):
    file = tmp_path / "sites.json"
    innertune("sites", f"model.pretrained={whisper}", "part=cross-attention", "sites=['*.0.*.q_proj','*.v_proj']",
              "tokens=5", "seconds=0.5", f"json={file}")  # fmt: skip
    told = json.loads(file.read_text())
    prefix = "net.model.decoder.layers"
    assert [(row["site"]["name"], row["valid_lengths"]) for row in told["sites"]] == [
        (f"{prefix}.0.encoder_attn.v_proj", 25), (f"{prefix}.0.encoder_attn.q_proj", 5),
        (f"{prefix}.1.encoder_attn.v_proj", 25),
    ]  # fmt: skip
    assert told["sites"][1]["site"]["step"] == {"length": 1, "unit": "token"}
    page = capsys.readouterr().out
    assert "0.5 s of audio, 5 tokens" in page and "3 sites" in page and "self_attn" not in page


def test_the_default_is_the_embedded_base(innertune, capsys):
    innertune("sites", "sites='*.conv[89]'")
    page = capsys.readouterr().out
    assert page.splitlines()[0].strip() == "us-english: 1 s of audio"
    assert [line.split()[1] for line in page.splitlines() if "net." in line] == [
        "net.acoustic_model.conv8", "net.acoustic_model.conv9",
    ]  # fmt: skip
    assert "1,499,165" in page


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("sites=conv", "No site matches 'conv'.*net.acoustic_model.conv0"),
        ("part=decoder", "part 'decoder'.*this model has encoder"),
        ("seconds=0", "seconds must be a number above 0; got 0"),
        ("seconds=inf", "seconds must be a number above 0; got inf"),
        ("seconds=long", "seconds must be a number above 0; got 'long'"),
        ("seconds=0.001", "seconds=0.001: the audio lasts 0.001 s, shorter than"),
        ("tokens=2.5", "tokens must be a whole number of at least 1; got 2.5"),
        ("tokens=true", "tokens must be a whole number of at least 1; got True"),
        ("json=.", "json=. cannot be written"),
    ],
)
def test_errors_name_what_was_expected(innertune, option, message):
    with pytest.raises(InputError, match=message):
        innertune("sites", option)


def test_more_than_the_network_reads(whisper):
    model = load_model(str(whisper)).model
    with pytest.raises(InputError, match="seconds=3: the audio lasts 3.00 s, longer than the 2 s"):
        site_costs(model, seconds=3)
    with pytest.raises(InputError, match="reads 1 to 24 tokens, got 25"):
        site_costs(model, tokens=25)


def test_a_site_that_is_never_called(tmp_path):
    from small_hf import save_ctc

    model = load_model(str(save_ctc(tmp_path / "model", "WavLM"))).model
    site_costs(model)
    with pytest.raises(InputError, match="never calls '.*attention.k_proj'"):
        site_costs(model, choose_sites(find_sites(model), "*.0.attention.k_proj"))
