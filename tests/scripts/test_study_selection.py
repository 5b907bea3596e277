"""`scripts/study_selection.py`: its runs are what they say, what is done is not done again, and its means are right."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from adapt.commands.show import config_folder
from adapt.models.checkpoint import load_model
from adapt.tuning.neurons import neurons
from interventions.neurons import Scores
from interventions.rows import merge_rows

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "study_selection.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("study_selection", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study_selection", module)
    spec.loader.exec_module(module)
    return module


def found(way, share, seed, target, source=10.0, rate=None, validation=0.5):
    wer = {"target": {"before": 0.5, "after": target / 100}, "source": {"before": 0.05, "after": source / 100}}
    return {
        "data": "accents", "way": way, "share": share, "seed": seed, "rate": rate, "wer": wer, "trained": share or 1.0,
        "selection": "", "seconds": 60.0, "training_seconds": 40.0, "validation_wer": validation,
    }  # fmt: skip


@pytest.mark.slow
def test_every_way_is_a_config_that_there_is(study, tmp_path):
    from hydra import compose, initialize_config_dir

    ways = [way for way in study.WAYS if way != "lora" or (config_folder() / "tuning" / "lora.yaml").is_file()]
    runs = study.plan(["accents", "fsdd"], ways, [0.05], 1, [0.003])
    assert len({run.name for run in runs}) == len(runs) == 2 * len(ways) and runs[0].way == "full"
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for run in runs:
            cfg = compose("adapt", study.overrides(run, tmp_path, "us-english"))
            assert cfg.optimizer.lr == 0.003 and cfg.data.source_train > 0, run


def test_layers_near_an_end_come_first(study, tmp_path):
    run = study.Run("accents", "top layers", 0.05, 0)
    model = load_model("us-english").model
    for from_top, place in ((True, -1), (False, 0)):
        path = study.depth(tmp_path, "us-english", run, from_top)
        neurons(model, choose=str(path), weight_share=0.08)
        ends = tuple(f"{name}.weight" for name in (("conv8", "conv9", "conv10") if from_top else ("conv0",)))
        rows = merge_rows(model)
        away = [name for name in rows if name.endswith(".weight") and not name.endswith(ends)]
        # With what is left in the end, too little for one more row there.
        assert sum(len(rows[name]) * model.get_parameter(name)[0].numel() for name in away) < 3073
        assert Scores.load(path).top(1).used == (model.sites[place],)


def test_a_rank_as_large_as_the_share(study):
    model = load_model("us-english").model
    total = sum(parameter.numel() for parameter in model.parameters())
    factors = 0
    for site in model.sites:
        weight = model.get_submodule(site.name).weight
        factors += weight[0].numel() + len(weight)
    ranks = [study.rank("us-english", share) for share in (0.001, 0.05, 0.2)]
    assert (
        ranks[0] == 1
        and abs(ranks[1] * factors - 0.05 * total) <= factors / 2
        and ranks[2] == round(0.2 * total / factors)
    )


def test_means_intervals_and_shares_of_full(study):
    results = [found("full", None, 0, 20, 15), found("full", None, 1, 24, 17)]
    results += [found("rgn", 0.05, 0, 30, 8), found("rgn", 0.05, 1, 34, 10), found("rgn", 0.05, 2, 32, 9)]
    (full, own) = study.summary(results)
    assert full["gain_of_full"] == pytest.approx(1) and own["seeds"] == 3
    assert own["target"][0] == pytest.approx(32) and own["target"][1] == pytest.approx(4.30265273 * 2 / 3**0.5)
    # On the seeds that full fine-tuning has too: 20 + 16 of 30 + 26 points, 3 + 5 of 10 + 12.
    assert own["gain_of_full"] == pytest.approx(36 / 56) and own["forgetting_of_full"] == pytest.approx(8 / 22)
    text = study.table([full, own], results)
    assert "| 5 % | rgn | 5.0 % | 32.0 ± 5.0 | 9.0 ± 2.5 | 64 % | 36 % | — | 40 | 3 |" in text


def test_the_learning_rate_is_chosen_on_validation_data(study):
    results = [found("rgn", 0.05, seed, 30, rate=0.001, validation=0.4) for seed in (0, 1)]
    results += [found("rgn", 0.05, seed, 20, rate=0.003, validation=0.6) for seed in (0, 1)]
    results += [found("rgn", 0.05, 0, 10, rate=0.01, validation=0.1)]  # not tried on every seed
    assert {own["rate"] for own in study.best_rates(results, study.way_of)} == {0.001}


def test_what_is_done_is_not_done_again_and_what_fails_is_left_out(study, tmp_path, monkeypatch, capsys):
    calls = []

    def innertune(command, *options, log):
        (output,) = (option.partition("=")[2] for option in options if option.startswith("output="))
        calls.append(Path(output).name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("innertune adapt: it cannot be done")
        if "weight" in output:
            return 2
        Path(output, "checkpoints").mkdir(parents=True)
        (Path(output) / "checkpoints" / "last.ckpt").touch()
        sets = {name: {when: {"wer": 0.3} for when in ("before", "after")} for name in ("target", "source")}
        weights = {"trained": 90, "parameters": 5, "total": 100}
        facts = {"weights": weights, "seconds": 9.0, "history": [{"val_wer": 0.2, "seconds": 4.0}]}
        (Path(output) / "metrics.json").write_text(json.dumps(sets | facts))
        (Path(output) / "card.json").write_text("{}")
        return 0

    monkeypatch.setattr(study, "innertune", innertune)
    arguments = ["--ways", "random", "weight", "--shares", "0.05", "--seeds", "2", "--folder", str(tmp_path)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["study_selection", *arguments])
        study.main()
    assert calls == ["random-5-0", "weight-5-0", "random-5-1", "weight-5-1", "weight-5-0", "weight-5-1"]
    out = capsys.readouterr().out
    assert "weight-5-0: failed, left out. innertune adapt: it cannot be done" in out and "4 runs, 2 finished" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["runs"]) == 2 and result["rows"][0]["target"] == [30.0, 0.0]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_estimate_costs_nothing(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study_selection", "--estimate", "--folder", str(tmp_path / "new")])
    study.main()
    assert "the others take about" in capsys.readouterr().out and not (tmp_path / "new").exists()
