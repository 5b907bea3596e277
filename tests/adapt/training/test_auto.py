"""tuning=auto: what is tried, how data are divided, the choice by paired bounds, stored trials, and a whole search."""

import copy
import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from adapt import tunings
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.data.splits import read_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.training import auto_trials
from adapt.training.auto import Auto, fine_tune_auto, search
from adapt.training.auto_choice import Judged, choose, ranked
from adapt.training.auto_trials import Candidate, Trial, candidates, divided
from adapt.tuning.penalty import l2sp


def judged(name, cost, loss, wobble=0.0):
    draws = np.random.default_rng(0).normal(0, 1, 1000)
    trial = Trial(Candidate(name, 1e-3), 1, 0.0, {})
    return Judged(trial, 1.0, cost, None, cost, cost + wobble * draws, loss + 0 * draws)


def test_the_first_that_is_not_clearly_worse_is_chosen():
    clear = [judged("full", 0.30, 1.0), judged("lora", 0.20, 1.0)]
    assert choose(clear) == 1  # no noise: the difference is sure
    noisy = [replace(clear[0], costs=clear[0].costs + np.random.default_rng(1).normal(0, 0.2, 1000)), clear[1]]
    assert choose(noisy) == 0  # the simpler one is within noise
    assert choose([replace(noisy[0], losses=noisy[0].losses + 0.1), noisy[1]]) == 1  # but its loss is surely higher
    assert choose([judged("full", 0.2, 1.0), judged("lora", 0.2, 0.9)]) == 1
    assert ranked([judged("a", 0.3, 1.0), judged("b", 0.2, 2.0), judged("c", 0.2, 1.0)]) == [2, 1, 0]


def test_trials_are_paired_so_common_noise_does_not_matter():
    hard = np.random.default_rng(2).normal(0, 0.2, 1000)  # some resamples have more difficult examples, for all alike
    one, other = judged("full", 0.25, 1.0), judged("lora", 0.20, 1.0)
    assert choose([replace(one, costs=one.costs + hard), replace(other, costs=other.costs + hard)]) == 1


def speakers(counts):
    class Said(Pair):
        def group(self, key):
            return self.domain or "unknown"

    return tuple(Said(f"{name} {n}", "x", domain=name) for name, count in counts.items() for n in range(count))


def test_examples_for_the_choice_are_of_other_speakers_and_are_never_trained_on():
    inner, choice = divided(Splits(train=speakers({letter: 12 for letter in "abcdef"})))
    assert {one.domain for one in inner}.isdisjoint(one.domain for one in choice)
    assert len(inner) + len(choice) == 72 and len(choice) >= 20
    inner, choice = divided(Splits(train=speakers({"a": 100, "b": 20})))
    assert len(choice) == 30 and {id(one) for one in inner}.isdisjoint(map(id, choice))
    assert divided(Splits(train=speakers({"a": 1000})))[1][0].source == "a 0"
    assert len(divided(Splits(train=speakers({"a": 1000})))[1]) == 100
    with pytest.raises(InputError, match="at least 40 training examples, .* got 39"):
        divided(Splits(train=speakers({"a": 39})))


@pytest.mark.slow
def test_the_family_s_defaults_come_first_and_a_given_rate_is_not_varied(base):
    model = load_model(str(base)).model
    first, *others = candidates(model)
    assert (first.tuning, first.learning_rate, first.replay) == ("full", 1e-3, 0.0)
    assert {one.learning_rate for one in others if one.tuning == "full"} == {3e-3, 3.3e-4}
    assert {one.tuning for one in others} == {"full", "lora", "layers", "neurons"}
    given = candidates(model, 0.02, 0.3)
    assert {(one.learning_rate, one.replay) for one in given} == {(0.02, 0.3)} and len(given) == 4


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"minutes": "x"}, {"trials": 0}, {"trials": 2.5}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
        tunings.auto(**wrong)


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(
        train=speech["high_train"], validation=speech["high_validation"], source_train=speech["low_train"]
    )
    train = (found.train * 4)[:40]
    return replace(found, train=train, validation=found.validation[:4], source_train=found.source_train[:10])


OPTIONS = {"epochs": 1, "loader": Loader(batch_seconds=8)}


@pytest.mark.slow
def test_a_search_is_deterministic_resumes_and_says_what_it_found(loaded, splits, tmp_path, caplog, monkeypatch):
    with caplog.at_level(logging.INFO, "adapt"):
        found = search(loaded, splits, Auto(trials=2), tmp_path, **OPTIONS)
    assert "2 short trials on 20 examples, compared on 20 others and on 2 of the source." in caplog.text
    assert found.summary in caplog.text and sum(row["chosen"] for row in found.rows) == 1
    assert any(row["replay"] == 0.5 for row in found.rows) and {row["blend"] for row in found.rows} == {1.0, 0.8, 0.6}
    assert found.blend is None  # it is searched for again at the end of training
    assert json.loads(json.dumps(found.figures()))["tried"] == found.rows
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 1 + 2 + 2 + 1  # the base, short trials, finalists, replay

    files[-1].unlink()  # as after a kill: only this trial runs again
    trained = []
    real = auto_trials.fine_tune
    monkeypatch.setattr(auto_trials, "fine_tune", lambda *a, **o: trained.append(o["replay"]) or real(*a, **o))
    again = search(loaded, splits, Auto(trials=2), tmp_path, **OPTIONS)
    assert trained == [0.5] and again.summary == found.summary
    assert [row["cost"] for row in again.rows] == [row["cost"] for row in found.rows]

    with pytest.raises(InputError, match="is of other options or data"):
        search(loaded, splits, Auto(trials=2), tmp_path, **{**OPTIONS, "seed": 1})
    for other in ({"warmup": 0.5}, {"loader": Loader(batch_seconds=6)}, {"penalty": partial(l2sp, strength=0.1)}):
        with pytest.raises(InputError, match="is of other options or data"):
            search(loaded, splits, Auto(trials=2), tmp_path, **{**OPTIONS, **other})
    files[0].write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        search(loaded, splits, Auto(trials=2), tmp_path, **OPTIONS)


@pytest.mark.slow
def test_trials_are_compared_as_the_result_is(loaded, splits, tmp_path):
    """A difference of style is no error of a trial, unless it is one of the result."""
    few = replace(splits, source_train=(), validation=())
    styled = replace(few, train=tuple(replace(one, text=f"{one.text}.") for one in few.train))
    model = replace(loaded, model=copy.deepcopy(loaded.model))
    model.model.target = lambda example: loaded.model.target(replace(example, text=example.text.rstrip(".")))
    model.model.rejection_reason = lambda *_: None
    found = {
        name: search(model, styled, Auto(trials=1), tmp_path / name, **OPTIONS, blend="off", normalise=name).rows[0]
        for name in ("basic", "none")
    }
    plain = search(loaded, few, Auto(trials=1), tmp_path / "plain", **OPTIONS, blend="off").rows[0]
    assert found["basic"]["target"] == plain["target"] < found["none"]["target"]


@pytest.mark.slow
def test_when_the_time_is_over_the_defaults_are_kept(loaded, splits, tmp_path):
    few = replace(splits, source_train=(), validation=())
    found = search(loaded, few, Auto(minutes=1e-6, trials=4), tmp_path, **OPTIONS)
    assert found.candidate == candidates(loaded.model)[0] and "The time was over before 3 more" in found.summary


@pytest.mark.slow
def test_what_diverges_loses_and_is_no_error(loaded, splits, tmp_path):
    few = replace(splits, source_train=(), validation=())
    bench = {"epochs": 1, "loader": Loader(batch_seconds=8), "learning_rate": 1e30, "blend": "off"}
    found = search(loaded, few, Auto(trials=1), tmp_path, **bench)
    assert found.rows[0]["target"] == 1.0  # nothing is answered


@pytest.mark.slow
def test_fine_tune_trains_with_what_was_found(loaded, splits):
    few = replace(splits, source_train=())
    adapted = fine_tune_auto(loaded, few, tunings.auto(trials=1), **OPTIONS)
    assert len(adapted.history) == 1 and adapted.loaded.fingerprint != loaded.fingerprint
    with pytest.raises(InputError, match="optimizer= does not go with"):
        fine_tune_auto(loaded, few, tunings.auto(), optimizer=None)
