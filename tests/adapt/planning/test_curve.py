"""The learning curve trains on nested subsets, keeps finished runs, and is measured on the test data."""

import json
from dataclasses import replace

import pytest
import torch

from adapt import Loader, Splits, forecast, learning_curve, load_model, read_manifest, tunings
from adapt.errors import InputError
from adapt.planning.curve import subsets
from adapt.planning.estimate import curve_seconds, measuring_seconds
from adapt.report.plan import write_plan

OPTIONS = {"shares": [0.25, 0.5], "orders": 2, "epochs": 1}


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    read = {name: tuple(read_manifest(speech[f"high_{name}"])[0]) for name in ("train", "test")}
    return Splits(train=read["train"][:16], test=read["test"][:6])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("curve")


@pytest.fixture(scope="module")
def curve(loaded, splits, folder):
    return learning_curve(loaded, splits, tunings.head(), folder=folder, **OPTIONS)


def test_subsets_are_nested_and_have_their_shares(loaded, splits):
    runs = subsets(loaded.model, splits, [0.125, 0.5], 3, 2, 0)
    assert [(run.order, run.share) for run in runs] == [(o, s) for o in range(3) for s in (0.125, 0.5, 1.0)]
    minutes = sum(one.duration for one in splits.train) / 60
    for smaller, larger in zip(runs, runs[1:], strict=False):
        if smaller.order == larger.order:
            assert larger.train[: len(smaller.train)] == smaller.train
    for run in runs:
        assert run.size == pytest.approx(run.share * minutes, rel=0.5)
        assert run.size == pytest.approx(sum(one.duration for one in run.train) / 60)
    names = [tuple(one.name for one in run.train) for run in runs]
    assert {tuple(sorted(own)) for own in names[2::3]} == {tuple(sorted(one.name for one in splits.train))}
    assert len(set(names[1::3])) == 3  # each order has other halves
    assert [run.epochs for run in runs[:3]] == [8, 4, 2]  # the same steps, but at most four times the epochs
    assert runs == subsets(loaded.model, splits, [0.125, 0.5], 3, 2, 0)
    assert runs[0].train != subsets(loaded.model, splits, [0.125, 0.5], 3, 2, 1)[0].train


@pytest.mark.slow
def test_measures_each_model_on_the_test_data(curve, loaded, splits):
    assert (curve.unit, curve.orders, len(curve.points)) == ("minutes", 2, 6)
    assert curve.before == loaded.evaluate(splits.test).sets["target"]["wer"]
    for point, scores in zip(curve.points, curve.scores, strict=True):
        assert len(scores) == 6 and point.value == scores.values()["wer"]
    assert curve.size == pytest.approx(sum(one.duration for one in splits.train) / 60)


@pytest.mark.slow
def test_finished_runs_are_used_again(curve, loaded, splits, folder):
    (folder / "order-1-share-0.5.json").unlink()
    again = learning_curve(loaded, splits, tunings.head(), folder=folder, **OPTIONS)
    assert [point.value for point in again.points] == [point.value for point in curve.points]
    same = [one.seconds == other.seconds for one, other in zip(again.points, curve.points, strict=True)]
    assert same == [True, True, True, True, False, True]
    with pytest.raises(InputError, match="holds a learning curve with epochs=1, not 2"):
        learning_curve(loaded, splits, tunings.head(), folder=folder, **{**OPTIONS, "epochs": 2})
    with pytest.raises(InputError, match="with tuning="):
        learning_curve(loaded, splits, folder=folder, **OPTIONS)
    with pytest.raises(InputError, match="with loader="):
        learning_curve(loaded, splits, tunings.head(), folder=folder, loader=Loader(batch_seconds=3), **OPTIONS)
    with pytest.raises(InputError, match="with options="):
        learning_curve(loaded, splits, tunings.head(), folder=folder, augment=torch.nn.Dropout(0.5), **OPTIONS)
    with pytest.raises(InputError, match="with data="):
        shorter = (replace(splits.train[0], duration=0.9 * splits.train[0].duration), *splits.train[1:])
        learning_curve(loaded, replace(splits, train=shorter), tunings.head(), folder=folder, **OPTIONS)
    with pytest.raises(InputError, match="with data="):
        more = replace(splits, source_train=splits.test)
        learning_curve(loaded, more, tunings.head(), folder=folder, **OPTIONS)


def test_style_is_no_error(loaded, splits, monkeypatch):
    def trained(_base, splits, *_):
        return {"hypotheses": [one.text.rstrip(".") for one in splits.test], "seconds": 0.0}

    monkeypatch.setattr("adapt.planning.curve._trained", trained)
    styled = replace(splits, test=tuple(replace(one, text=f"{one.text}.") for one in splits.test))
    curve = learning_curve(loaded, styled, **OPTIONS)
    assert {point.value for point in curve.points} == {0.0}


@pytest.mark.slow
def test_the_page_shows_curve_and_forecast(curve, tmp_path):
    found = forecast(curve, 1, resamples=20)
    write_plan(tmp_path / "plan.html", curve, found, None, "Plan")
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<tr>") == 7 and "What would more data give?" in page and "Test of the method" in page
    assert json.dumps(curve.figures()) and json.dumps(found.figures())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": [2]}, "shares must be"),
        ({"shares": [1]}, "at least one share below 1"),
        ({"shares": [0.01, 0.02]}, "too few for the shares"),
        ({"orders": 0}, "orders must be"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_refuses_what_gives_no_curve(loaded, splits, options, said):
    with pytest.raises(InputError, match=said):
        learning_curve(loaded, splits, **options)
    with pytest.raises(InputError, match="needs examples"):
        learning_curve(loaded, Splits(train=splits.train))


def test_estimates_grow_with_the_work(loaded, splits):
    few, many = (subsets(loaded.model, splits, [0.5], orders, 50, 0) for orders in (1, 40))
    assert 0 < curve_seconds(loaded, splits, few, Loader()) < curve_seconds(loaded, splits, many, Loader())
    assert 0 < measuring_seconds(loaded, splits.train, ("confusion",), Loader()) < 60
