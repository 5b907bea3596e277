"""A saved result of a measure can be loaded again, and its page is the same."""

import copy
import pickle
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.data.pairs import read_pairs
from adapt.introspect.attribution.measure import attribution
from adapt.introspect.attribution.result import AttributionResult
from adapt.introspect.probes.measure import probes
from adapt.introspect.probes.result import ProbesResult
from adapt.introspect.similarity.measure import similarity
from adapt.introspect.similarity.result import SimilarityResult
from adapt.introspect.weights.measure import weights
from adapt.introspect.weights.result import WeightsResult
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.report.attribution import write_attribution
from adapt.report.probes import write_probes
from adapt.report.similarity import write_similarity
from adapt.report.weights import write_weights

FACTS = {"model": {"reference": "base", "fingerprint": "0"}, "command": "innertune introspect", "data": {}}


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    high, low = (
        [replace(own, speaker=f"s{n % 3}-{name}") for n, own in enumerate(read_manifest(speech[f"{name}_test"])[0])]
        for name in ("high", "low")
    )
    return Splits(test=tuple(high), source_test=tuple(low))


@pytest.fixture(scope="module")
def runs(base, loaded, tmp_path_factory):
    """Two runs from the base, with random changes of all weights."""
    folder = tmp_path_factory.mktemp("adapted")
    for seed in (1, 2):
        model, draw = copy.deepcopy(loaded.model), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn(parameter.shape, generator=draw))
        save_adaptation(folder / str(seed) / "adaptation", loaded, model)
    return folder


def check_round_trip(result, load, write, folder):
    """Save and load a result, and compare its figures, its summary and its page."""
    files = result.save(folder, FACTS)
    assert files and all(path.is_file() for path in files)
    assert sorted(files) == sorted(path for path in folder.rglob("*") if path.is_file())
    loaded = load(folder)
    assert loaded.figures == result.figures and loaded.summary == result.summary
    for name, own in (("before", result), ("after", loaded)):
        write(folder / f"{name}.html", own, "Title", "option: 1")
    page = (folder / "before.html").read_text()
    assert "option: 1" in page and page == (folder / "after.html").read_text()
    assert not any(isinstance(own, (nn.Module, ModuleType)) for own in contents(result))
    pickle.dumps(result)  # plain data


def contents(value):
    """Yield a value and everything in it."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if hasattr(value, "__dataclass_fields__"):
        inner = [getattr(value, name) for name in value.__dataclass_fields__]
    for own in inner:
        yield from contents(own)


@pytest.mark.parametrize("reference", [False, True])
def test_probes(loaded, splits, runs, tmp_path, reference):
    result = probes(
        loaded, splits, Loader(), ["accent", "speaker"], str(runs / "1") if reference else None, sites="*.conv[34]"
    )
    check_round_trip(result, ProbesResult.load, write_probes, tmp_path)
    assert len(result.references) == 2 * reference


@pytest.mark.parametrize("options", [{}, {"sample_by": "example"}, {"method": "rsa", "target": "speaker"}])
def test_similarity(loaded, splits, runs, tmp_path, options):
    result = similarity(loaded, splits, reference_model=str(runs / "1"), sites="*.conv[2-4]", **options)
    check_round_trip(result, SimilarityResult.load, write_similarity, tmp_path)


@pytest.mark.parametrize("floor", [False, True])
def test_weights(runs, tmp_path, floor):
    result = weights(load_model(str(runs / "1")), floor=str(runs / "2") if floor else None, level=0.05)
    check_round_trip(result, WeightsResult.load, write_weights, tmp_path)


@pytest.mark.parametrize("neurons", [False, True])
def test_attribution(loaded, splits, tmp_path, neurons):
    result = attribution(loaded, splits, max_examples=2, steps=8, neurons=neurons, sites="*.conv[2-4]")
    check_round_trip(result, AttributionResult.load, write_attribution, tmp_path)
    for before, after in zip(result.words, AttributionResult.load(tmp_path).words, strict=True):
        assert torch.equal(before.attribution.values, after.attribution.values)
        assert before.attribution.word == after.attribution.word
        if neurons:
            assert before.conductance.influence == after.conductance.influence


def test_attribution_of_a_translation(marian, language, tmp_path):
    splits = read_pairs(test=str(language["test"]))
    result = attribution(load_model(str(marian)), splits, max_examples=1, max_words=2, steps=4, sites="*layers.1.fc1")
    check_round_trip(result, AttributionResult.load, write_attribution, tmp_path)


def test_two_arguments_are_a_complete_call(loaded, splits):
    """The remaining arguments have defaults."""
    few = Splits(test=splits.test[:5], source_test=splits.source_test[:5])
    assert set(probes(loaded, few).probes) == {"accent"}
    assert similarity(loaded, few).similarity.method == "cka"
    assert attribution(loaded, Splits(test=splits.test[:1]), steps=4).words
