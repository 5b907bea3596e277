"""Results of `measure=bias` are the same after saving and loading, also from version 1 of the file."""

import json

import numpy as np
import pytest
import torch

from adapt.introspect.bias.bias_json import _RENAMED
from adapt.introspect.bias.group_results import GroupComparison, GroupRate
from adapt.introspect.bias.result import BiasResult
from adapt.introspect.bias.rows import ContentDifference, LayerDivergence, NeuronDivergence
from adapt.introspect.bias.shift import ShiftEffect
from adapt.introspect.topography.maps import TopographicMap
from adapt.metrics import WER
from adapt.report.bias import write_bias
from interventions.files import FileError
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

SITES = [Site(f"net.conv{number}", 1, 4, ()) for number in range(2)]
_NOT_IN_VERSION_1 = {"format", "metric", "example_name", "scores", "maps"}


@pytest.fixture
def result():
    """A group that is worse than its reference, with a neuron linked to errors, and one without any layer."""
    linked = NeuronDivergence(
        "net.conv1", 2, 0.9, (0.5, 1.2), 0.001, -0.4, (-0.6, -0.2), (ContentDifference("a", -0.8),),
        0.6, (0.3, 0.8), 0.002, True, 0.5, (0.1, 0.9),
    )  # fmt: skip
    other = NeuronDivergence("net.conv0", 1, 0.5, (0.2, 0.7), 0.004, 0.3, (0.1, 0.5), (ContentDifference("b", 0.4),))
    layers = tuple(
        LayerDivergence(site.name, 4, 1, int(site is SITES[1]), 0.3, (0.1, 0.4), 2, "aligned_letter", 0.9)
        for site in SITES
    )
    scores = Scores({site: torch.rand(4, generator=torch.Generator().manual_seed(0)) for site in SITES})
    shift = ShiftEffect("net.conv1", 1, {"wer": 0.3}, {"wer": (-0.2, 0.0)}, {"wer": 0.4}, {"wer": (-0.1, 0.1)})
    profiles = np.random.default_rng(0).normal(size=(4, 3))
    return BiasResult(
        group_by="accent", example_name="utterance", metric=WER, resampled="speaker", folds=24,
        false_discovery_rate=0.01, left_out={"tiny": 3},
        rates=(
            GroupRate("high-b", 30, 16, 0.4, (0.3, 0.5), "all others", 0.25, 0.15, (0.05, 0.25)),
            GroupRate("high b", 25, 16, 0.25, (0.2, 0.3), "all others", 0.4, -0.15, (-0.25, -0.05)),
        ),
        comparisons=(
            GroupComparison("high-b", "all others", layers, (linked, other), scores, "net.conv1", (shift,)),
            GroupComparison("high b", "all others"),
        ),
        maps=(TopographicMap("conv1, high-b", "abc", [[0, 0], [0, 1], [1, 0], [1, 1]], profiles, -profiles),),
    )  # fmt: skip


def test_neurons_follow_from_rows(result):
    worst = result.comparisons[0]
    assert set(worst.diverging) == {("net.conv1", 2), ("net.conv0", 1)} and set(worst.error_linked) == {
        ("net.conv1", 2)
    }
    assert not len(result.comparisons[1].diverging)


def test_the_summary(result):
    assert result.summary == (
        "high-b: WER 40.0 %, compared with 25.0 % for all others (difference +5.0 to +25.0). The divergence is largest "
        "at conv1: 1 of 4 neurons diverge, 1 of them linked to errors. In total, 2 of 8 neurons diverge, 1 of them "
        "linked to errors. 1 more comparison is on the page, without a significantly higher error rate."
    )


def test_a_loaded_result_is_the_same_and_so_is_its_page(result, tmp_path):
    files = result.save(tmp_path, {"model": "a base"})
    assert sorted(files) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    loaded = BiasResult.load(tmp_path)
    assert (loaded.rates, loaded.comparisons, loaded.metric) == (result.rates, result.comparisons, result.metric)
    assert loaded.figures == result.figures and loaded.summary == result.summary
    pages = [tmp_path / name for name in ("one.html", "other.html")]
    for path, each in zip(pages, (result, loaded), strict=True):
        write_bias(path, each, "Accents", "seed: 0")
    assert pages[0].read_bytes() == pages[1].read_bytes() and "nan" not in result.summary
    assert Neurons.load(tmp_path / "neurons" / "high-b-errors.safetensors") == result.comparisons[0].error_linked


def test_version_1_is_loaded(result, tmp_path):
    """As it was written: other keys, and without the metric, the maps and the rates of references."""
    result.save(tmp_path, {})
    stored = json.loads((tmp_path / "bias.json").read_text())
    old_names = {new: old for old, new in _RENAMED.items()}

    def old(value):
        return {
            old_names.get(name, name): one for name, one in value.items() if name not in ("reference_rate", "top_site")
        }

    stored = old({name: value for name, value in stored.items() if name not in _NOT_IN_VERSION_1})
    stored["groups"] = [old(row) for row in stored["groups"]]
    stored["comparisons"] = [
        old(row) | {"layers": [old(one) for one in row["layers"]]} for row in stored["comparisons"]
    ]
    stored["neurons"] = {group: [old(row) for row in rows] for group, rows in stored["neurons"].items()}
    assert stored["groups"][0]["against"] == "all others" and "parted" in stored["comparisons"][0]
    assert "further_where_wrong" in stored["neurons"]["high-b"][0]
    (tmp_path / "bias.json").write_text(json.dumps(stored))
    loaded = BiasResult.load(tmp_path)
    assert loaded.comparisons[0].neurons == result.comparisons[0].neurons and loaded.metric == result.metric
    assert loaded.comparisons[0].shifts == result.comparisons[0].shifts and loaded.maps == ()
    assert loaded.rate_of("high-b").reference_rate == pytest.approx(0.25)
    assert loaded.left_out == {"tiny": 3} and loaded.false_discovery_rate == 0.01
    write_bias(tmp_path / "bias.html", loaded, "Accents")


def test_damaged_and_newer_files_are_refused(result, tmp_path):
    with pytest.raises(FileError, match="There is no file"):
        BiasResult.load(tmp_path)
    result.save(tmp_path, {})
    text = (tmp_path / "bias.json").read_text()
    for content, message in (
        (text[:100], "not a complete JSON file"),
        (text.replace('"format": 2', '"format": 3'), "format 3, and this version reads up to 2"),
    ):
        (tmp_path / "bias.json").write_text(content)
        with pytest.raises(FileError, match=message):
            BiasResult.load(tmp_path)
