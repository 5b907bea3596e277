"""`innertune evaluate`: error rates by group, with intervals."""

import json

import pytest

from adapt.data.loader import Loader
from adapt.data.splits import read_splits
from adapt.errors import InputError
from adapt.evaluation.conditions import ablate
from adapt.evaluation.evaluate import EvaluationResult, evaluate
from adapt.evaluation.sweep import summarise
from adapt.models.checkpoint import load_model
from adapt.report.sweep import write_sweep


def test_by_group_as_from_the_transcripts(base, speech, innertune, tmp_path):
    import jiwer

    data = [f"data.test={speech['low_test']}", f"data.source_test={speech['high_test']}", "data.group_by=accent"]
    run = innertune("evaluate", f"model.pretrained={base}", "data=manifest", *data, f"output={tmp_path / 'run'}")
    metrics = json.loads((run / "metrics.json").read_text())
    lines = [json.loads(line) for line in (run / "transcripts.jsonl").read_text().splitlines()]
    for name, accent in (("target", "low"), ("source", "high")):
        own = [line for line in lines if line["set"] == name]
        assert metrics[name]["wer"] == pytest.approx(jiwer.wer([o["text"] for o in own], [o["pred_text"] for o in own]))
        assert metrics[name]["wer_interval"][0] <= metrics[name]["wer"] <= metrics[name]["wer_interval"][1]
        assert metrics[name]["groups"] == {
            "accent": {accent: {k: v for k, v in metrics[name].items() if k != "groups"}}
        }
    assert metrics["target"]["wer"] < 0.1 < metrics["source"]["wer"]  # trained on the lower accent alone


def test_a_key_that_no_line_has_makes_no_group_and_is_named(base, speech, innertune, tmp_path, caplog):
    caplog.set_level("INFO")
    run = innertune("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "data.group_by=[age]",
                    f"output={tmp_path / 'run'}")  # fmt: skip
    assert json.loads((run / "metrics.json").read_text())["target"]["groups"] == {}
    assert "target: not grouped by age, because no utterance has it." in caplog.text


def test_nothing_to_evaluate_on(base, innertune, tmp_path):
    with pytest.raises(InputError, match="give data.test="):
        innertune("evaluate", f"model.pretrained={base}", f"output={tmp_path / 'run'}")


def test_from_a_notebook_it_is_a_function_whose_result_is_saved_and_drawn_again(base, speech, tmp_path):
    loaded, splits = load_model(str(base)), read_splits(test=str(speech["low_test"]))
    conditions = ablate(loaded, splits, Loader(), sizes=[0.05, 0.5])
    result = evaluate(loaded, splits, group_by=["accent"], interventions=conditions)
    assert result.sets["target"]["groups"]["accent"].keys() == {"low"} and len(result.points) == 4
    result.save(tmp_path / "saved")
    again = EvaluationResult.load(tmp_path / "saved")
    assert again.figures() == json.loads(json.dumps(result.figures())) and again.transcripts == result.transcripts
    pages = []
    for number, own in enumerate((result, again)):
        path = tmp_path / f"{number}.html"
        write_sweep(
            path, own.points, own.metrics, own.example_name, "T", summarise(own.points, own.metrics[0]), own.setting
        )
        pages.append(path.read_text())
    assert pages[0] == pages[1] and "number of neurons" in pages[0]


def test_a_runs_result_is_read_back(base, speech, innertune, tmp_path):
    data = [f"data.test={speech['low_test']}", f"data.source_test={speech['high_test']}"]
    run = innertune("evaluate", f"model.pretrained={base}", *data, f"output={tmp_path / 'run'}")
    result = EvaluationResult.load(run)
    assert result.sets.keys() == {"target", "source"} and not result.points
    assert result.metrics[0].key == "wer" and len(result.transcripts) == 24
    for folder in (base, tmp_path):
        with pytest.raises(InputError, match="does not hold the result of an evaluation"):
            EvaluationResult.load(folder)


def test_missing_groups_are_named_only_if_they_were_asked_for(innertune, base, speech, tmp_path, caplog):
    caplog.set_level("INFO")
    given = ("evaluate", f"model.pretrained={base}", f"data.test={speech['high_test']}")
    innertune(*given, f"output={tmp_path / 'default'}")
    assert "not grouped" not in caplog.text
    innertune(*given, "data.group_by=domain", f"output={tmp_path / 'asked'}")
    assert "target: not grouped by domain, because no utterance has it." in caplog.text


def test_interventions_are_not_compared_while_the_weights_drift(base, speech, innertune, tmp_path):
    options = [f"model.pretrained={base}", f"data.test={speech['low_test']}", "intervention=ablate",
               "intervention.sizes=[0.1]", "test_time=continual", f"output={tmp_path / 'run'}"]  # fmt: skip
    with pytest.raises(InputError, match="Give test_time=utterance with intervention="):
        innertune("evaluate", *options)
