"""The room Change: answers of a changed model, controls, saving, and that the model is as before whatever happens."""

import copy
import json
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio_page import CHROMIUM, act, browser, client, served, workspace

from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.evaluation.steering_fit import fit_vectors
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.state import model_fingerprint
from adapt.studio.changed import Changed
from adapt.studio.changes import Change
from adapt.studio.jobs import CancelledError, Job
from interventions import Ablate, Neurons, Steer, intervene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(base, speech, tmp_path_factory):
    """A workspace whose other model differs in all weights of two layers."""
    found = workspace(base, speech, tmp_path_factory.mktemp("studio"))
    other = copy.deepcopy(found.loaded.model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    found.against = replace(found.loaded, model=other, reference="other", fingerprint=model_fingerprint(other))
    return found


@pytest.fixture
def changed(shown, tmp_path):
    return Changed(shown, tmp_path / "changes")


@pytest.fixture
def job():
    return Job(1, "a test", lambda job: None)


def whole(model, example):
    return decode_examples(model, model.task, [example], Loader())[0]


def test_neurons_and_their_control(shown, changed, job):
    item, model = shown.items.get("e5"), shown.loaded.model
    site = model.sites[1]
    pairs = [[site.name, unit] for unit in range(site.units - 1)]
    found = changed.answer(item, Change.read({"neurons": pairs, "seed": 7}), job)
    chosen = Neurons({site: range(site.units - 1)})
    with intervene(model, Ablate(chosen)):
        assert found["changed"]["text"] == whole(model, item.example)
    with intervene(model, Ablate(chosen.random(7))):
        assert found["control"]["text"] == whole(model, item.example)
    assert found["unmodified"]["text"] == whole(model, item.example) != found["changed"]["text"]
    assert found["seed"] == 7 and found["changed"]["changed"] > 0 == found["unmodified"]["changed"]


def test_a_factor_of_one_changes_nothing(shown, changed, job):
    item, name = shown.items.get("e1"), shown.loaded.model.sites[0].name
    change = Change.read({"neurons": [[name, 0], [name, 1]], "how": "scale", "value": 1})
    found = changed.answer(item, change, job)
    assert found["changed"] == found["unmodified"] == found["control"]
    assert changed.answer(item, Change(), job)["control"] is None


def test_a_vector_is_that_of_the_library(shown, changed, job):
    model, item = shown.loaded.model, shown.items.get("e1")
    site = model.sites[0]
    asked = {"site": site.name, "away": "set: data", "toward": "set: source", "strength": 2.5}
    found = changed.answer(item, Change.read(asked), job)
    groups = tuple([one.example for one in shown.items if one.set == name] for name in ("data", "source"))
    vector = fit_vectors(model, [site], groups, "mean", Loader())[site.name]
    with intervene(model, Steer(site, vector, 2.5)):
        assert found["changed"]["text"] == whole(model, item.example)
    (control,) = changed._control(changed.interventions(Change.read(asked)), Change.read(asked))[0]
    assert float(control.vector.norm()) == pytest.approx(float(vector.norm()), rel=1e-5)
    assert torch.cosine_similarity(control.vector, vector, dim=0) < 0.9


def test_a_blend_ends_at_both_models(shown, changed, job):
    item, layers = shown.items.get("e5"), changed.blendable()[0]
    zero = changed.answer(item, Change.read({"blend": dict.fromkeys(layers, 0)}), job)
    assert zero["changed"]["text"] == whole(shown.against.model, item.example)
    one = changed.answer(item, Change.read({"blend": dict.fromkeys(layers, 1)}), job)
    assert one["changed"] == one["unmodified"] and one["control"] is None
    assert zero["same"] and zero["changes"] and not one["changes"]  # one factor for all layers has no other order
    partly = Change.read({"blend": {layers[0]: 0.0}, "seed": 3})
    assert sorted(changed._control([], partly)[1].values()) == [0.0] + [1.0] * (len(layers) - 1)
    assert not changed.answer(item, partly, job)["same"]


def test_patching_the_first_site_gives_the_other_answer(shown, changed, job):
    model, item, other = shown.loaded.model, shown.items.get("e5"), shown.items.get("e6")
    longer = max((item, other), key=lambda one: model.reader.length(one.example))
    shorter = other if longer is item else item
    asked = {"patch": longer.id, "patch_site": changed.builder.patchable[-1]}  # decides all that is written
    found = changed.answer(shorter, Change.read(asked), job)
    whole_other = whole(model, longer.example)
    assert found["changed"]["text"].split()[:1] == whole_other.split()[:1]
    assert found["control"]["text"] != found["changed"]["text"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "an object"),
        ({"path": "/etc/passwd"}, "has no 'path'"),
        ({"how": "explode"}, "how must be"),
        ({"strength": 4}, "from -3 to 3"),
        ({"strength": True}, "must be a number"),
        ({"value": float("nan")}, "must be a number"),
        ({"neurons": [["x"]]}, "pairs of a site"),
        ({"neurons": [["x", True]]}, "pairs of a site"),
        ({"neurons": [["x", 0]]}, "no site 'x'"),
        ({"blend": {"x": 2}}, "from -1 to 1"),
        ({"blend": {"x": -0.5}}, "from 0 to 1"),
        ({"blend": {"x": 0.5}}, "differ in a layer 'x'"),
        ({"seed": -1}, "seed must be"),
        ({"patch": "e99", "patch_site": "x"}, "no such recording"),
        ({"saved": "../../x"}, "no such saved change"),
    ],
)
def test_wrong_changes_are_refused(shown, changed, job, asked, said):
    with pytest.raises(InputError, match=said):
        changed.answer(shown.items.get("e1"), Change.read(asked), job)
    with pytest.raises(InputError, match="has units 0 to"):
        changed.answer(shown.items.get("e1"), Change(neurons=((shown.loaded.model.sites[0].name, 10_000),)), job)


def test_the_effect_counts_words_and_errors(shown, changed, job):
    site = shown.loaded.model.sites[2]
    nothing = changed.effect(Change(), None, job)
    assert nothing["changed"] == 0 and nothing["before"] == nothing["after"] and nothing["examples"] <= 20
    everything = changed.effect(Change(neurons=tuple((site.name, unit) for unit in range(site.units))), None, job)
    assert everything["changed"] > 0 and everything["after"] > everything["before"] == nothing["before"]


@pytest.mark.parametrize("blends", [False, True])
def test_the_shown_command_answers_as_the_room_does(shown, tmp_path, job, innertune, capsys, blends):
    from adapt.studio.change import code

    changed, item = Changed(shown, tmp_path / "changes"), shown.items.get("e5")
    site = shown.loaded.model.sites[1]
    blend = dict.fromkeys(changed.blendable()[0], 0.6) if blends else {}
    change = Change(neurons=tuple((site.name, unit) for unit in range(site.units - 1)), blend=blend)
    found = changed.answer(item, change, job)
    answer = found["changed"]["text"]
    assert answer != found["unmodified"]["text"]
    name = changed.save("my change / 1", change, False)
    assert name == "my-change-1" and changed.saved()[0]["applies"] is not blends
    folder = changed.folder
    model = str(folder / name) if blends else shown.loaded.reference
    shown_code = code(model, str(folder / f"{name}.safetensors"), item)
    import shlex

    verb, *options = shlex.split(shown_code["command"])[1:]
    capsys.readouterr()
    innertune(verb, *options)
    assert capsys.readouterr().out.strip() == answer.strip()
    exec(compile(shown_code["python"], "shown", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert printed in (answer.strip(), str([answer]))
    if not blends:
        assert changed.answer(item, Change(saved=name), job)["changed"]["text"] == answer
    with pytest.raises(InputError, match="already"):
        changed.save("my change / 1", change, False)


def test_folding_writes_a_model_that_answers_the_same(shown, changed, job):
    item, site = shown.items.get("e5"), shown.loaded.model.sites[1]
    neurons = tuple((site.name, unit) for unit in range(site.units - 1))
    change = Change(neurons=neurons)
    before = model_fingerprint(shown.loaded.model)
    folded = load_model(str(changed.folder / changed.save("folded", change, True)))
    assert whole(folded.model, item.example) == changed.answer(item, change, job)["changed"]["text"]
    with pytest.raises(InputError, match="cannot be folded"):
        changed.save("clamped", replace(change, how="at most", value=0.1), True)
    assert [one["name"] for one in changed.saved()] == ["folded"] and model_fingerprint(shown.loaded.model) == before
    for name in ("", "..", "/"):
        with pytest.raises(InputError, match="letters or digits"):
            changed.save(name, change, False)
    with pytest.raises(InputError, match="Choose another name"):  # it would be replaced by the next commands
        changed.save("Draft", change, False)
    with pytest.raises(InputError, match="changes nothing"):
        changed.save("nothing", Change(), False)


class _Stopped(Job):
    """A job that is cancelled at its n-th check."""

    def __init__(self, checks):
        super().__init__(1, "a test", lambda job: None)
        self.left = checks

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise CancelledError


@given(seed=st.integers(0, 10_000))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_models_stay_bit_identical(shown, tmp_path, seed):
    draw = random.Random(seed)
    models = [shown.loaded.model, shown.against.model]
    prints = [model_fingerprint(model) for model in models]
    hooks = [sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) for model in models]
    changed, item = Changed(shown, tmp_path / f"{seed}"), shown.items.get("e5")
    plain, sites = whole(models[0], item.example), [site.name for site in models[0].sites]
    layers = changed.blendable()[0]
    for _ in range(4):
        asked = {
            "neurons": [[draw.choice([*sites, "nowhere"]), draw.randrange(8)] for _ in range(draw.randrange(4))],
            "how": draw.choice(["ablate", "scale", "set", "at most"]), "value": draw.choice([0.0, 2.0, 1e4]),
            "site": draw.choice(["", *sites]), "away": "set: data", "toward": draw.choice(["set: source", "none"]),
            "strength": draw.choice([0.0, 3.0]), "patch": draw.choice(["", "e6"]), "patch_site": draw.choice(sites),
            "blend": {layer: draw.choice([0.0, 0.3, 1.0]) for layer in layers if draw.random() < 0.3},
        }  # fmt: skip
        job = _Stopped(draw.choice([0, 2, 4, 7, 1000]))
        act = draw.choice(["answer", "effect", "save", "fold"])
        try:
            change = Change.read(asked)
            if act == "answer":
                changed.answer(item, change, job)
            elif act == "effect":
                changed.effect(change, item, job)
            else:
                changed.save(f"n{draw.randrange(10**6)}", change, act == "fold")
        except (InputError, CancelledError):
            pass
        assert [model_fingerprint(model) for model in models] == prints
        now = [sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) for model in models]
        assert now == hooks
    assert whole(models[0], item.example) == plain


@pytest.fixture(scope="module")
def address(shown):
    with served(shown) as (_, url):
        yield url


@pytest.fixture
def page(address):
    with client(address) as made:
        yield made


def test_the_routes_of_the_room(page, shown):
    can = act(page, "/api/change/open")["result"]
    assert [site["name"] for site in can["sites"]] == [site.name for site in shown.loaded.model.sites]
    assert can["groups"] == {"set: data": 4, "set: source": 2} | {
        name: count for name, count in can["groups"].items() if not name.startswith("set")
    }
    assert can["layers"] and not can["no_blend"]
    site = can["sites"][1]["name"]
    change = {"neurons": [[site, 0]], "how": "scale", "value": 3, "seed": 5}
    job = act(page, "/api/items/e1/change", change=change)
    assert job["state"] == "done" and job["result"]["seed"] == 5
    assert act(page, "/api/items/e1/change/effect", change=change)["result"]["examples"] > 0
    found = act(page, "/api/items/e1/change/code", change=change)["result"]
    assert "interventions=" in found["command"] and "corrections=off" in found["command"]
    assert act(page, "/api/items/e1/change", change={"neurons": [[site, 10_000]]})["state"] == "failed"
    for body, said in (({}, "'change'"), ({"change": {"x": 1}}, "has no 'x'")):
        answer = page.post("/api/items/e1/change", content=json.dumps(body))
        assert answer.status_code == 400 and said in answer.json()["problem"]
    assert page.post("/api/items/e1/change/save", json={"change": change, "name": 1, "fold": False}).status_code == 400
    assert page.post("/api/items/e1/change", content=b"[" * 50_000).status_code == 400


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium")
def test_change_in_the_page(address, shown):
    start = address.replace("/?", "/change/e5?")
    with browser() as seen:
        page = seen.page
        page.goto(start)
        page.wait_for_selector("#controls fieldset")
        page.wait_for_selector("#answer-unmodified")
        assert page.locator("#answer-control").count() == 0
        page.get_by_label("Units, such as").fill("0-20")
        page.get_by_role("button", name="Add", exact=True).click()
        page.wait_for_selector("#answer-control")
        assert "change=" in page.url and page.locator(".chips button").count() > 10
        assert len(page.evaluate("JSON.parse(localStorage['innertune.neurons'])")) == 21
        page.get_by_label("What is done").select_option("scale")
        slider = page.get_by_role("slider", name="Value")
        slider.focus()
        for _ in range(5):  # by keys alone
            page.keyboard.press("ArrowRight")
        page.wait_for_selector("#three:not([aria-busy])")
        page.get_by_text("words change").wait_for()
        page.reload()  # the address says it all
        page.wait_for_selector("#answer-control")
        assert page.get_by_label("What is done").input_value() == "scale"
        page.get_by_role("button", name="Command line and Python").click()
        page.wait_for_selector("#code[open]")
        assert "interventions=" in page.locator("#code-command").inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Change nothing").click()
        page.wait_for_selector("#answer-control", state="detached")
        for width in (400, 2000):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.errors == [] and seen.foreign == []
