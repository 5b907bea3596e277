"""Results of `measure=profiles` are the same after saving and loading, also from version 1 of the file."""

import json

import pytest
import torch

from adapt.introspect.profiles.fitter import ProfilesFitter
from adapt.introspect.profiles.result import ProfilesResult
from adapt.report.profiles import drawn_sites, write_profiles
from interventions.neurons import Scores
from interventions.sites import Site

SITES = [Site(f"net.conv{number}", 1, 6, ()) for number in range(3)]
GROUPS = ("g:a", "g:b", "h:x", "h:y", "h:z")


@pytest.fixture
def result():
    """Noise in five groups of two keys, with neurons that differ between g:a and g:b."""
    draw = torch.Generator().manual_seed(0)
    fitter = ProfilesFitter(SITES, ["all", *GROUPS], folds=4)
    for number in range(40):
        members = torch.zeros(1, 1 + len(GROUPS), 10)
        members[0, [0, 1 + number % 2, 3 + number % 3]] = 1
        for site in SITES:
            x = torch.randn(1, 10, 6, generator=draw)
            x[..., 2] += 4 * (number % 2)
            fitter.update(site, fitter.membership(members, torch.tensor([number % 4])), x, torch.ones_like(x))
    return ProfilesResult(
        fitter.fit(), 40, "utterance", ("net.conv0", "net.conv2"), 20, (("h:x", None), ("h:x", "h:y"))
    )


def test_the_planted_neuron_is_the_most_selective(result):
    rows = result.top_neurons["g"]["g:b"]["net.conv1"]
    low, high = rows[0]["interval"]
    assert rows[0]["unit"] == 2 and 1 < low < rows[0]["contrast"] < high
    assert set(result.contrast_scores()) == {"gap-g", "gap-g-adjusted", "h-x", "h-x-h-y"}
    assert "explained by g: conv" in result.summary and "40 utterances" in result.summary
    assert [site.name for site in drawn_sites(result)] == ["net.conv0", "net.conv2"]


def test_a_loaded_result_is_the_same_and_so_is_its_page(result, tmp_path):
    files = result.save(tmp_path, {"model": "a base"})
    assert sorted(files) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    loaded = ProfilesResult.load(tmp_path)
    assert (loaded.layers, loaded.min_steps, loaded.scores) == (result.layers, result.min_steps, result.scores)
    assert loaded.figures == result.figures and loaded.top_neurons == result.top_neurons
    assert Scores.load(tmp_path / "scores" / "h-x.safetensors") == result.profiles.contrast("h:x")
    pages = [tmp_path / name for name in ("one.html", "other.html")]
    for path, each in zip(pages, (result, loaded), strict=True):
        write_profiles(path, each, "Profiles", "seed: 0")
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert "<code>conv0</code>" in pages[0].read_text() and "utterances" in pages[0].read_text()


def test_version_1_is_loaded(result, tmp_path):
    """It had other keys, and no options."""
    result.save(tmp_path, {})
    stored = {"examples": 40, "selective": {}, "order": {}, "explained": {}}
    (tmp_path / "profiles.json").write_text(json.dumps(stored))
    loaded = ProfilesResult.load(tmp_path)
    assert loaded.examples == 40 and loaded.top_neurons == result.top_neurons
    assert drawn_sites(loaded) == SITES
