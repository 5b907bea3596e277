"""`topographic=grid` in whole runs: layers are laid out, off is off bit for bit, runs resume, and grids are known."""

import json

import pytest
import torch

from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.topography.grid import grid_points
from adapt.introspect.topography.loss import Neighbours
from adapt.introspect.topography.maps import TopographicMap
from adapt.models.checkpoint import load_model
from adapt.training.module import AdaptationModule

SITES = "topographic.sites=['*.conv3','*.conv5','*.conv9']"


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.validation={speech['low_validation']}", f"data.test={speech['high_test']}",
        f"data.source_test={speech['low_train']}", "loader.batch_seconds=3.4",
        "optimizer.lr=0.003", "trainer.max_epochs=3",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(options, innertune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("topographic") / "run"
    return innertune("adapt", *options, "topographic=grid", "topographic.strength=100", SITES, f"output={folder}")


@pytest.fixture(scope="module")
def twin(options, innertune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("topographic") / "twin"
    return innertune("adapt", *options, "topographic=grid", "topographic.strength=0", SITES, f"output={folder}")


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_neighbours_come_together_and_those_of_the_twin_do_not(run, twin):
    ordered, loose = (metrics(folder)["topographic"] for folder in (run, twin))
    assert ordered["group_by"] == "aligned_letter" and len(ordered["sites"]) == 3
    model, cells = load_model(str(run)).model, cells_of_model(load_model(str(run)).header, "")
    for name, site in ordered["sites"].items():
        assert site["neighbour_cosine"]["before"] == loose["sites"][name]["neighbour_cosine"]["before"]
        assert site["neighbour_cosine"]["after"] > loose["sites"][name]["neighbour_cosine"]["after"] + 0.01
        assert abs(loose["sites"][name]["neighbour_cosine"]["after"] - site["neighbour_cosine"]["before"]) < 0.05
        weight = model.get_submodule(name).weight.detach()
        assert site["neighbour_cosine"]["after"] == pytest.approx(
            float(Neighbours(len(weight), cells=cells[name])(weight))
        )
        assert site["morans_i"].keys() == {"before", "after"}
    losses = [row["topographic_loss"] for row in metrics(run)["history"]]
    assert losses == sorted(losses, reverse=True)
    assert json.loads((run / "card.json").read_text())["results"]["topographic"] == ordered
    assert "Topographic layers" in (run / "report.html").read_text()


def test_off_and_strength_0_are_the_same_bit_for_bit(options, twin, innertune, tmp_path):
    off = innertune("adapt", *options, f"output={tmp_path / 'off'}")
    assert load_model(str(off)).fingerprint == load_model(str(twin)).fingerprint
    assert "topographic" not in metrics(off) and "topographic_loss" not in metrics(off)["history"][0]
    assert not cells_of_model(load_model(str(off)).header, "")


def test_interrupted_and_resumed_it_ends_with_the_same_bits(options, run, innertune, tmp_path, monkeypatch):
    started = AdaptationModule.on_train_epoch_start

    def interrupted(module):
        if module.current_epoch == 2:
            raise RuntimeError("pulled the plug")
        started(module)

    given = [*options, "topographic=grid", "topographic.strength=100", SITES, f"output={tmp_path / 'run'}"]
    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", interrupted)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        innertune("adapt", *given)
    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", started)
    again = innertune("adapt", *given, "resume=true")
    assert load_model(str(again)).fingerprint == load_model(str(run)).fingerprint
    assert metrics(again)["topographic"] == metrics(run)["topographic"]
    rows = ([{**row, "seconds": 0} for row in metrics(folder)["history"]] for folder in (again, run))
    assert next(rows) == next(rows)


def test_later_commands_know_the_grids(options, run, base, speech, innertune, tmp_path):
    cells = cells_of_model(load_model(str(run)).header, "")
    assert len(cells) == 3
    # An adaptation of it stays on them, laid out further or not.
    short = [*options, f"model.pretrained={run}", "trainer.max_epochs=1"]
    plain = innertune("adapt", *short, f"output={tmp_path / 'plain'}")
    assert cells_of_model(load_model(str(plain)).header, "") == cells
    chosen = ["tuning=neurons", "tuning.top=0.3", "tuning.per_site=true"]  # some of every layer
    more = [*short, "topographic=grid", "topographic.start=number", *chosen]
    further = cells_of_model(load_model(str(innertune("adapt", *more, f"output={tmp_path / 'more'}"))).header, "")
    assert {name: further[name] for name in cells} == cells and len(further) == 10
    # Maps are drawn on them.
    drawn = [
        "data=manifest",
        f"data.test={speech['high_test']}",
        "measure=topography",
        "measure.layout=learned",
        "measure.min_steps=2",
    ]
    found = innertune("introspect", f"model.pretrained={base}", *drawn, f"measure.reference_model={run}",
                      f"output={tmp_path / 'maps'}")  # fmt: skip
    maps = [TopographicMap.load(path) for path in sorted((found / "maps").glob("*.safetensors"))]
    assert [one.name for one in maps] == list(cells) and all(one.after is not None for one in maps)
    for one in maps:
        assert (one.points == grid_points(len(one.points))[cells[one.name]]).all()
    for pretrained, sites, says in ((base, "*", "topographic=grid"), (run, "*.conv4", "There are grids at .*conv3")):
        with pytest.raises(InputError, match=f"no grids were learned at these sites. .*{says}"):
            innertune("introspect", f"model.pretrained={pretrained}", *drawn, f"measure.sites='{sites}'",
                      f"output={tmp_path / 'none'}")  # fmt: skip


def test_a_pretrained_model_knows_its_grids_and_its_order(speech, innertune, tmp_path):
    from tone_speech import TINY

    given = [*TINY, "data=manifest", f"data.train={speech['low_validation']}", f"data.test={speech['low_test']}"]
    more = ["trainer.max_epochs=2", "loader.batch_seconds=3.4", "topographic=grid", "topographic.strength=100"]
    made = innertune("pretrain", *given, *more, f"output={tmp_path / 'run'}")
    loaded, order = load_model(str(made)), metrics(made)["topographic"]
    cells = cells_of_model(loaded.header, "")
    assert cells.keys() == order["sites"].keys() and len(cells) == 10
    for name, site in order["sites"].items():
        with torch.no_grad():
            alike = float(Neighbours(site["units"], cells=cells[name])(loaded.model.get_submodule(name).weight))
        assert site["neighbour_cosine"]["after"] == pytest.approx(alike) and alike > site["neighbour_cosine"]["before"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("topographic.strength=-1", "topographic.strength must be"),
        ("topographic.sites='*.nowhere'", "topographic.sites"),
        ("tuning=head", "no convolution below the output layer"), ("tuning=lora", "and a weight that trains"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_folder_is_claimed(options, innertune, tmp_path, option, says):
    with pytest.raises(InputError, match=says):
        innertune("adapt", *options, "topographic=grid", option, f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
