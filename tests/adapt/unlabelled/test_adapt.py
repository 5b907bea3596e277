"""Adaptation without labels: labels are not used, noise changes nothing, and every step is judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapt import tunings
from adapt.blending.choice import Budget
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.introspect.weights.change import weight_change
from adapt.models.checkpoint import load_model
from adapt.models.state import model_fingerprint
from adapt.training.adapted import Adapted
from adapt.unlabelled.adapt import adapt_without_labels, divide
from adapt.unlabelled.criterion import Judge, gain
from adapt.unlabelled.fine_tune import fine_tune_without_labels
from adapt.unlabelled.options import WithoutLabels, without_labels


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def target(speech):
    return tuple(read_manifest(speech["high_train"])[0][:24])


def no_training(base, splits, folder):
    raise AssertionError("This must not train.")


def test_divide_keeps_all_parts_apart(target):
    data = divide(Splits(train=target, source_train=target), 60)
    assert len(data.held_out) == 6 and len(data.train) == 18
    assert not {one.name for one in data.train} & {one.name for one in data.held_out}
    assert len(data.source) == 7 and len(data.replay) == 17
    assert divide(Splits(train=target, validation=target[:2]), 60).train == target
    with pytest.raises(InputError, match="at least 8"):
        divide(Splits(train=target[:3]), 60)


@pytest.mark.slow
def test_labels_are_not_used(loaded, target):
    """Wrong transcripts and none at all give the same weights, and the base stays as it was."""
    how = WithoutLabels(rounds=1, blend=0.5, test_time=False, agreement=0.0)
    results = []
    for text in ("", "eee eee"):
        splits = Splits(train=tuple(with_text(one, text) for one in target))
        adapted, found = fine_tune_without_labels(loaded, splits, how=how, epochs=1)
        results.append((adapted.loaded.fingerprint, [replace(one) for one in found.trials]))
        assert found.trials[0].name == "base" and found.chosen in {one.name for one in found.trials}
        assert any("which were not used" in note for note in found.notes) == bool(text)
        assert "round 1" in {one.name for one in found.trials}
    assert results[0] == results[1]
    assert model_fingerprint(loaded.model) == loaded.fingerprint


def test_noise_leaves_the_base_as_it_is(loaded, tmp_path):
    draw = np.random.default_rng(0)
    noise = tuple(Recording(draw.normal(0, 0.1, 6_000), 16_000, name=f"noise {n}") for n in range(12))
    how = WithoutLabels(agreement=0.95, test_time=False)
    adapted, found = adapt_without_labels(loaded, Splits(train=noise), no_training, how, Loader(), tmp_path)
    kept = [one.name for one in found.trials if one.verdict == "kept"]
    assert not any(name.startswith("round") for name in kept)
    if found.chosen == "base":
        assert adapted.loaded.fingerprint == loaded.fingerprint and adapted.trained == ()


def test_a_step_that_hurts_is_not_kept(loaded, target, tmp_path):
    """A model with random weights in its last layer agrees less with itself, or writes too much or too little."""
    import copy

    import torch

    def destroy(base, splits, folder):
        model = copy.deepcopy(base.model)
        with torch.no_grad():
            list(model.net.parameters())[-2].normal_()
        return Adapted(base, replace(base, model=model), ("net.everything",), {}, (), {}, {"topographic": "x"}, [])

    how = WithoutLabels(norms=False, entropy=False, test_time=False, agreement=0.0)
    low = Splits(train=target)
    adapted, found = adapt_without_labels(loaded, low, destroy, how, Loader(), tmp_path)
    assert [one.name for one in found.trials] == ["base", "round 1"]  # the second round does not begin
    assert found.chosen == "base" and adapted.loaded.fingerprint == loaded.fingerprint
    assert any("the result is the base" in note for note in found.notes)
    assert not adapted.grids  # nothing of a round that was not kept


def test_the_limit_of_forgetting_is_kept(loaded, target):
    judge = Judge(target[:2], target[:4], Loader(), forget=Budget(1.0))
    base = judge.measure(loaded.model, "base")
    worse = replace(base, cost=base.cost + 1.1)
    assert judge.forgets(worse, base) and not judge.forgets(replace(base, cost=base.cost + 1.0), base)
    uneven = tuple(edit + more for edit, more in zip(base.edits, (1.1, 0, 0, 0), strict=True))  # in points of the whole
    assert judge.forgets(replace(worse, edits=uneven), base)  # a limit that is given is kept strictly
    usual = replace(judge, forget=None)
    assert not usual.forgets(replace(worse, edits=uneven), base)  # one example alone: within the standard error
    even = tuple(edit + 0.275 for edit in base.edits)
    assert usual.forgets(replace(worse, edits=even), base)
    assert sum(base.edits) == pytest.approx(base.cost)
    assert judge.objection(replace(base, trial=replace(base.trial, length=0.5)), base)
    assert judge.objection(base, base) is None
    rise, error = gain(replace(base, agreements=[1.0, 0.8]), replace(base, agreements=[0.5, 0.5]))
    assert (rise, error) == (pytest.approx(0.4), pytest.approx(0.1))


def test_the_steps_name_a_model_without_batch_norms(whisper, speech, tmp_path):
    base = load_model(str(whisper))
    examples = tuple(read_manifest(speech["high_test"])[0][:8])
    how = WithoutLabels(entropy=False, rounds=0)
    adapted, found = adapt_without_labels(base, Splits(train=examples), no_training, how, Loader(), tmp_path)
    assert any("no batch norms" in note for note in found.notes)
    assert found.chosen == "base" and adapted.loaded.fingerprint == base.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"blend": 2}, "blend"), ({"blend": "all"}, "blend"), ({"rounds": -1}, "rounds"), ({"held_out": 1}, "held_out"),
     ({"target_texts": ("a",)}, "target_texts needs reverse"), ({"norms": 1}, "norms")],
)  # fmt: skip
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        WithoutLabels(**wrong)


def test_files_of_options_are_read_or_named(tmp_path, loaded, target):
    (tmp_path / "words.txt").write_text("abc\n\n  dea \n")
    assert without_labels(words=str(tmp_path / "words.txt")).words == ("abc", "dea")
    for content, message in ((b"", "is empty"), (b"\xff\xfe\xfa", "UTF-8")):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            without_labels(words=str(tmp_path / "bad.txt"))
    with pytest.raises(InputError, match="words"):
        without_labels(words=str(Path(tmp_path) / "none.txt"))
    with pytest.raises(InputError, match="reverse is for translation"):
        how = WithoutLabels(reverse=loaded)
        adapt_without_labels(loaded, Splits(train=target), no_training, how, Loader(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [tunings.neurons(choose="random", top=4), tunings.lora(r=2)])
def test_what_trains_in_part_is_counted_in_part(loaded, target, tuning, monkeypatch):
    monkeypatch.setattr("adapt.unlabelled.adapt.gain", lambda *_: (1.0, 0.0))  # every step is kept
    monkeypatch.setattr(Judge, "objection", lambda *_: None)
    monkeypatch.setattr("adapt.unlabelled.adapt._Steps._pick", lambda _, allowed: allowed[-1])
    how = WithoutLabels(norms=False, entropy=False, test_time=False, agreement=0.0, rounds=1, blend=1.0)
    splits = Splits(train=target)
    adapted, found = fine_tune_without_labels(loaded, splits, tuning, how=how, epochs=1)
    assert found.chosen == "blend 1"
    counts = dict(adapted.rows) or dict(adapted.factor_counts)
    assert counts.keys() == set(adapted.trained)
    change = weight_change(loaded.model, adapted.loaded.model, adapted.trained, adapted.rows, adapted.factor_counts)
    assert 0 < change.parameters < 0.2 * change.total
