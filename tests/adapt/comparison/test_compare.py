"""Comparing models: counts are validated, and a failing measurement does not lose the comparison."""

import logging

import pytest

from adapt.comparison import compare as module
from adapt.comparison.compare import check_counts, compare_hypotheses, measure_or_warn
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model


@pytest.mark.parametrize("count", [-1, 2.5, True, "all", None])
def test_counts_must_be_integers_of_at_least_zero(count):
    with pytest.raises(InputError, match="causes must be a whole number of at least 0; got"):
        check_counts(0, compare_neurons=0, causes=count)


@pytest.mark.parametrize(
    ("error", "level"), [(InputError("no examples"), "WARNING"), (RuntimeError("broken"), "ERROR")]
)
def test_an_error_of_a_measurement_is_logged(error, level, caplog):
    def measure(value: int) -> int:
        raise error

    assert measure_or_warn("the result", measure, 1) is None
    (record,) = caplog.records
    assert record.levelname == level and "The report does not include the result" in record.getMessage()
    assert measure_or_warn("a number", abs, -1) == 1


def test_equal_models_have_no_causes_and_no_changed_neurons(base, speech, caplog, monkeypatch):
    """Neurons and causes are measured only if a weight changed."""

    def unexpected(*arguments):
        raise AssertionError("measured without a change")

    for name in ("find_causes", "compare_all_neurons"):
        monkeypatch.setattr(module, name, unexpected)
    loaded = load_model(str(base))
    sets = {"target": read_manifest(speech["high_test"])[0]}
    texts = {"target": [example.text for example in sets["target"]]}
    with caplog.at_level(logging.WARNING):
        comparison = compare_hypotheses(loaded, loaded, sets, texts, texts, causes=3, compare_neurons=3, audio_clips=3)
    assert comparison.causes is None and comparison.neurons is None and comparison.audio_clips == {}
    assert comparison.weights is not None and comparison.weights.changed == 0 and not caplog.records
