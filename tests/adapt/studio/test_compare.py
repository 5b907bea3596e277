"""The room Compare: two models on one example and on all, the front between them, and causes by layer."""

import copy
import time
from dataclasses import replace

import pytest
import studio_page
import torch
from studio_page import CHROMIUM, browser, client, finished, served, workspace

from adapt.data.loader import Loader
from adapt.metrics import paired_intervals
from adapt.models.inference import decode_examples
from adapt.models.state import model_fingerprint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(base, speech, tmp_path_factory):
    """The base against a noisy copy of it, which makes more errors."""
    found = workspace(base, speech, tmp_path_factory.mktemp("studio"))
    other = copy.deepcopy(found.loaded.model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for site in other.sites[1:4]:
            weight = other.get_submodule(site.name).weight
            weight.add_(2.5 * weight.std() * torch.randn(weight.shape, generator=generator))
    found.against = replace(found.loaded, model=other, reference="other", fingerprint=model_fingerprint(other))
    return found


@pytest.fixture(scope="module")
def address(shown):
    with served(shown) as (_, url):
        yield url


@pytest.fixture(scope="module")
def page(address):
    with client(address) as made:
        yield made


def act(page, path, **body):
    job = studio_page.act(page, path, **body)
    assert job["state"] == "done", job["problem"]
    return job["result"]


def test_one_example_has_both_answers_aligned(page, shown):
    found = act(page, "/api/items/e5/compare")
    item = shown.items.get("e5")
    for side, loaded in (("before", shown.against), ("after", shown.loaded)):
        assert found[side]["text"] == decode_examples(loaded.model, loaded.model.task, [item.example], Loader())[0]
    assert " ".join(pair["hypothesis"] for pair in found["aligned"]).split() == found["after"]["text"].split()
    assert " ".join(pair["reference"] for pair in found["aligned"]).split() == found["before"]["text"].split()


def test_totals_points_and_words_are_those_of_the_library(page, shown):
    found = act(page, "/api/compare/all")
    items = list(shown.items)
    examples, task = [item.example for item in items], shown.loaded.model.task
    scores = [
        task.score(examples, decode_examples(one.model, task, examples, Loader()))
        for one in (shown.against, shown.loaded)
    ]
    assert [found["before"], found["after"]] == [one.values()["wer"] for one in scores]
    assert found["interval"] == list(paired_intervals(*scores)["wer"])
    assert [point["id"] for point in found["points"]] == [item.id for item in items]
    words = [len(example.text.split()) for example in examples]
    for side in ("before", "after"):
        total = sum(point[side] * count for point, count in zip(found["points"], words, strict=True)) / sum(words)
        assert total == pytest.approx(found[side])
    assert all(one["after"] > one["before"] for one in found["fixed"]) and found["fixed"]
    assert all(one["after"] < one["before"] for one in found["broken"])


def test_the_front_and_the_causes(page, shown):
    prints = [model_fingerprint(one.model) for one in (shown.loaded, shown.against)]
    groups = {"target": "set: source", "source": "set: data"}
    front = act(page, "/api/compare/front", **groups)
    assert [point["factor"] for point in front["points"]] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert front["points"][0]["target"] > front["points"][-1]["target"] and 0 <= front["chosen"] < 7
    causes = act(page, "/api/compare/causes", **groups)
    layers = [one for one in causes["parts"] if one["kind"] == "layer"]
    assert len(layers) == 3 and all(set(one["reverted"]) == {"target", "source"} for one in layers)
    assert causes["ends"]["target"] == [front["points"][0]["target"], front["points"][-1]["target"]]
    assert [model_fingerprint(one.model) for one in (shown.loaded, shown.against)] == prints


@pytest.fixture
def slow(shown):
    """Both models take a while for each step, so that work can be cancelled before its end."""
    handles = [one.model.register_forward_pre_hook(lambda *_: time.sleep(0.1)) for one in (shown.loaded, shown.against)]
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("what", ["front", "causes"])
def test_long_work_is_cancelled_between_two_steps_and_leaves_the_models_as_they_are(page, shown, what, slow):
    prints = [model_fingerprint(one.model) for one in (shown.loaded, shown.against)]
    hooks = [sum(len(part._forward_pre_hooks) for part in one.model.modules()) for one in (shown.loaded, shown.against)]
    groups = {"target": "set: source", "source": "set: data"}
    number = page.post(f"/api/compare/{what}", json=groups).json()["number"]
    while page.get(f"/api/jobs/{number}").json()["state"] == "waiting":
        pass
    page.post(f"/api/jobs/{number}/cancel")
    assert finished(page, number)["state"] == "cancelled"
    assert [model_fingerprint(one.model) for one in (shown.loaded, shown.against)] == prints
    now = [sum(len(part._forward_pre_hooks) for part in one.model.modules()) for one in (shown.loaded, shown.against)]
    assert now == hooks


def test_what_cannot_be_compared_is_said(page, base, speech, tmp_path):
    number = page.post("/api/compare/front", json={"target": "accent: none", "source": "set: data"}).json()["number"]
    assert "No example of 'accent: none'" in finished(page, number)["problem"]
    assert "Expected 'source'" in page.post("/api/compare/causes", json={"target": "x"}).json()["problem"]
    with served(workspace(base, speech, tmp_path)) as (_, url), client(url) as other:
        for path in ("items/e1/compare", "compare/all", "compare/front"):
            answer = other.post(f"/api/{path}", json={"target": "set: data", "source": "set: source"})
            assert answer.status_code == 400 and "no model 'against'" in answer.json()["problem"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium")
def test_compare_in_the_page(address):
    with browser() as seen:
        page = seen.page
        page.goto(address.replace("/?", "/compare/e5?"))
        page.wait_for_selector("#before .diff, #before .hint")
        page.get_by_role("button", name="Compare all").click()
        page.wait_for_selector("#totals")
        assert "95 % interval" in page.locator("#totals").inner_text() and page.locator("circle.point").count() == 6
        page.locator('circle[data-id="e6"]').focus()
        page.keyboard.press("Enter")  # by keys alone
        page.wait_for_url("**/compare/e6*")
        page.get_by_role("combobox", name="Target", exact=True).select_option("set: source")
        page.get_by_role("combobox", name="Source", exact=True).select_option("set: data")
        page.locator("#run-front").click()
        page.wait_for_selector("#front .plot")
        page.locator("#run-causes").click()
        page.wait_for_selector("#causes table")
        assert "target=set" in page.url and page.get_by_text("chosen", exact=True).count() == 1
        for width in (400, 2000):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.errors == [] and seen.foreign == []
