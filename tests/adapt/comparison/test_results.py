"""A saved comparison loads completely: the report drawn from it is the same, byte for byte."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch

from adapt.comparison.compare import compare
from adapt.comparison.results import Comparison, SetResult
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.data.pairs import read_pairs
from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_to_text
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.report.page import write_report
from interventions.files import FileError


def changed(loaded: Loaded, **header) -> Loaded:
    """Return a copy with small random changes of all matrices."""
    model = copy.deepcopy(loaded.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.add_(0.4 * torch.randn_like(weight) * weight.std())
    return replace(loaded, model=model, reference="after", header={**loaded.header, **header})


@pytest.fixture(scope="module")
def spoken(base, speech):
    before = load_model(str(base))
    sites = before.model.sites[:2]
    cells = cells_to_text({site.name: range(site.units) for site in sites})
    (low, _), (high, _) = (read_manifest(speech[f"{accent}_train"]) for accent in ("low", "high"))
    splits = Splits(test=tuple(high[:24]), source_test=tuple(low[:24]))
    after = changed(before, topographic=cells, trained=[sites[0].rows[0]])
    return compare(before, after, splits, causes=2, compare_neurons=24, audio_clips=2)


@pytest.fixture(scope="module")
def translated(marian, language):
    before = load_model(str(marian))
    splits = Splits(test=tuple(read_pairs(test=str(language["train"])).test[:12]))
    return compare(before, changed(before), splits, loader=Loader(batch_tokens=200), causes=2, compare_neurons=12)


def test_a_speech_comparison_has_every_part(spoken):
    assert spoken.words["target"].words and spoken.transcripts and len(spoken.audio_clips) == 2
    assert spoken.causes is not None and spoken.causes.patched
    assert spoken.neurons is not None and spoken.neurons.maps and spoken.neurons.probes
    assert spoken.smoothness is not None and spoken.smoothness.sites[0].morans_i
    assert spoken.weights.trained > 0 and {group.key for group in spoken.groups} == {"accent", "speaker"}
    assert spoken.seconds > 0


def test_a_translation_comparison_has_no_audio(translated):
    assert translated.example_name == "sentence" and not translated.words["target"].aligned
    assert translated.audio_clips == {} and translated.smoothness is None and translated.neurons is not None


@pytest.mark.parametrize("kind", ["spoken", "translated"])
def test_the_report_of_a_loaded_comparison_is_identical(kind, request, tmp_path):
    comparison = request.getfixturevalue(kind)
    comparison.save(tmp_path / "comparison.json")
    loaded = Comparison.load(tmp_path / "comparison.json")
    for name, one in (("first", comparison), ("again", loaded)):
        write_report(tmp_path / f"{name}.html", one)
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "again.html").read_bytes()
    assert loaded.figures() == comparison.figures()
    # Saving again gives the same files, so nothing was lost that the page does not show.
    loaded.save(tmp_path / "copy.json")
    for ending in ("json", "safetensors"):
        assert (tmp_path / f"copy.{ending}").read_bytes() == (tmp_path / f"comparison.{ending}").read_bytes()


def test_values_that_are_not_finite_are_stored_as_json(tmp_path):
    values = {"wer": math.nan, "wer_interval": (0.0, math.inf), "examples": 1}
    comparison = Comparison(
        "a", "b", {"target": SetResult(values, values, {})}, [], [], None, history=[{"x": -math.inf}]
    )
    comparison.save(tmp_path / "comparison.json")
    json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    loaded = Comparison.load(tmp_path / "comparison.json")
    assert math.isnan(loaded.sets["target"].before["wer"]) and loaded.history == [{"x": -math.inf}]
    assert loaded.sets["target"].before["wer_interval"] == (0.0, math.inf)


def test_a_comparison_without_optional_parts_is_equal_after_loading(tmp_path):
    comparison = Comparison("a", "b", {}, [], [], None, skipped=["one"])
    comparison.save(tmp_path / "comparison.json")
    assert Comparison.load(tmp_path / "comparison.json") == comparison


def test_files_that_do_not_match_are_rejected(tmp_path):
    path = tmp_path / "comparison.json"
    with pytest.raises(FileError, match="Cannot read the comparison"):
        Comparison.load(path)
    comparison = Comparison("a", "b", {}, [], [], None)
    comparison.save(path)
    stored = path.read_text()
    path.write_text(stored.replace('"format": 1', '"format": 0'))
    with pytest.raises(FileError, match="not a comparison that this version"):
        Comparison.load(path)
    path.write_text(stored.replace('"before_name"', '"name"'))
    with pytest.raises(FileError, match="not a complete comparison"):
        Comparison.load(path)
    path.write_text(stored)
    (tmp_path / "comparison.safetensors").write_bytes(b"")
    with pytest.raises(FileError, match="safetensors"):
        Comparison.load(path)


def test_models_of_different_tasks_and_missing_test_sets_are_rejected(base, marian):
    speech, text = load_model(str(base)), load_model(str(marian))
    with pytest.raises(InputError, match="they perform different tasks"):
        compare(speech, text, Splits())
    with pytest.raises(InputError, match="no test examples"):
        compare(speech, speech, Splits())
    with pytest.raises(InputError, match="audio_clips must be a whole number of at least 0; got True"):
        compare(speech, speech, Splits(), audio_clips=True)
