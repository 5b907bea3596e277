"""`innertune choose`: its files agree, `tuning=neurons` trains its selection, and all processes train the same one."""

import json
import re

import pytest
import torch
from processes import end, start

from adapt.errors import InputError
from adapt.evaluation.selection import SelectionResult, choose
from adapt.models.checkpoint import load_model
from adapt.report.selection import write_selection
from adapt.tuning.neurons import neurons
from adapt.tuning.overlap import overlap
from adapt.tuning.selection import tunable
from interventions.files import read_tensors
from interventions.neurons import Neurons, Scores
from interventions.rows import merge_rows


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_test']}",
        f"data.source_train={speech['low_test']}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def chosen(innertune, options, tmp_path_factory):
    return innertune(
        "choose", *options, "choose=[rgn,activation_gap,random]", "weight_share=0.1", "per_site=false", "examples=4",
        f"output={tmp_path_factory.mktemp('runs') / 'choose'}",
    )  # fmt: skip


def test_writes_scores_a_selection_and_figures(chosen, base):
    names = ["rgn", "activation_gap", "random"]
    files = [chosen / f"scores{ending}.safetensors" for ending in ("", "-activation_gap", "-random")]
    scores, choice = [Scores.load(path) for path in files], Neurons.load(chosen / "selection.safetensors")
    values = json.loads((chosen / "selection.json").read_text())
    assert list(values["measures"]) == names and len(values["pairs"]) == 3
    model = load_model(str(base)).model
    for name, own in zip(names, scores, strict=True):
        assert own.sites == tuple(tunable(model))
        best = values["measures"][name]["top"][0]
        highest = max(float(own[site].max()) for site in own.sites)
        assert best["score"] == pytest.approx(highest) == pytest.approx(float(own[best["site"]][best["unit"]]))
        assert best["rank"] == 1 and best["other_ranks"].keys() == set(names) - {name}
    by_measure = [
        Neurons(
            {site: row["chosen"] for site, row in zip(choice.sites, values["measures"][name]["sites"], strict=True)}
        )
        for name in names
    ]
    assert by_measure[0] == choice
    pair = values["pairs"][0]
    assert (pair["one"], pair["other"], pair["both"]) == ("rgn", "activation_gap", len(choice & by_measure[1]))
    assert pair["overlap"] == overlap(choice, by_measure[1])
    summary = read_tensors(chosen / "selection.safetensors", "neurons")[0]["summary"]
    assert (
        summary == values["measures"]["rgn"]["summary"] == json.loads((chosen / "card.json").read_text())["selection"]
    )
    assert re.fullmatch(
        r"Selected by rgn, measured on 4 examples of the target: \d+ of \d+ neurons, 10.0 % .*", summary
    )  # noqa: E501


def test_the_page_shows_every_neuron_and_frames_the_chosen(chosen):
    page, values = (chosen / "selection.html").read_text(), json.loads((chosen / "selection.json").read_text())
    assert "<script" not in page and "src=" not in page and "default-src 'none'" in page
    strips = re.findall(r'<svg class="strip".*?</svg>', page, re.DOTALL)
    sites = [site for measure in values["measures"].values() for site in measure["sites"]]
    assert len(strips) == len(sites)
    for strip, site in zip(strips, sites, strict=True):
        frames = re.search(r'class="chosen" d="(.*?)"', strip)[1]
        assert frames.count("z") == len(site["chosen"])
        cells = "".join(re.findall(r'<path stroke="[^"]*" d="([^"]*)"', strip))
        assert cells.count("m") == site["units"]
    assert page.count(values["measures"]["rgn"]["summary"].replace(" %", "\u00a0%")) == 1


def test_what_was_chosen_can_be_trained_and_scores_used_again(chosen, base):
    model = load_model(str(base)).model
    names = neurons(model, neurons=str(chosen / "selection.safetensors")).names
    rows = merge_rows(model)
    assert neurons(model, choose=str(chosen / "scores.safetensors"), weight_share=0.1).names == names
    assert merge_rows(model) == rows


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["choose=[]"], "^choose must be one or more different measures"), (["choose=[rgn,rgn]"], "different measures"),
        (["choose=guess"], "no such measure"), (["top=1.5"], "^top: .*a share"),
        (["weight_share=2"], "^weight_share: .*share of the model's weights"), (["sites=nothing"], "No site matches"),
        (["examples=0"], "^examples must be a whole number"),
        (["choose=activation_gap", "data.source_train=null"], "source_train"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(innertune, options, tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        innertune("choose", *options, *given, f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_a_saved_result_is_drawn_again(chosen, tmp_path):
    result = SelectionResult.load(chosen)
    assert [measure.name for measure in result.measures] == ["rgn", "activation_gap", "random"]
    write_selection(tmp_path / "again.html", result.measures, result.pairs, "Selected neurons")
    first, again = (path.read_text() for path in (chosen / "selection.html", tmp_path / "again.html"))
    assert again.partition("<details>")[0] == first.partition("<details>")[0]
    result.save(tmp_path / "copy")
    copy = SelectionResult.load(tmp_path / "copy")
    assert copy.figures() == result.figures() and copy.measures[0].chosen == result.measures[0].chosen
    with pytest.raises(InputError, match="does not hold a selection"):
        SelectionResult.load(tmp_path)


def test_from_a_notebook_it_is_a_function(base):
    from adapt.data.manifest import Splits

    result = choose(load_model(str(base)), Splits(), "weight", top=3, per_site=True)
    assert {len(units) for units in result.measures[0].chosen.units} == {3}
    with pytest.raises(InputError, match="^per_site must be true or false"):
        choose(load_model(str(base)), Splits(), "weight", per_site=3)


def test_every_process_trains_the_choice_that_is_kept(innertune, base, speech, tmp_path):
    """Processes that measured by themselves might select different neurons."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from adapt.commands.show import config_folder

    options = [
        "trainer=ddp", "tuning=neurons", "tuning.choose=rgn", "tuning.top=0.2", f"model.pretrained={base}",
        "data=manifest", f"data.train={speech['high_validation']}", f"data.test={speech['high_test']}",
        "loader.batch_seconds=2", "trainer.max_epochs=1", f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("adapt", options)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    site = load_model(str(base)).model.sites[3]
    Neurons({site: [2, 9]}).save(tmp_path / "run" / "choice.safetensors", said="Chosen by a test.")
    status, out, err = end(start(tmp_path, "adapt", *options, "resume=true"))
    assert status == 0, err
    before, after = (load_model(str(path)).model.state_dict() for path in (base, tmp_path / "run"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(site.rows)
    rows = (before[site.rows[0]] != after[site.rows[0]]).flatten(1).any(1).nonzero().flatten().tolist()
    assert rows == [2, 9]
