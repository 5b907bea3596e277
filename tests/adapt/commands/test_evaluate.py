"""`innertune evaluate`: error rates by group, with intervals."""

import json

import pytest

from adapt.errors import InputError


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
    pretrained = json.loads((base / "metrics.json").read_text())
    assert metrics["target"]["wer"] == pretrained["target"]["after"]["wer"]


def test_a_key_that_no_line_has_makes_no_group_and_is_named(base, speech, innertune, tmp_path, caplog):
    caplog.set_level("INFO")
    run = innertune("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "data.group_by=[age]",
                    f"output={tmp_path / 'run'}")  # fmt: skip
    assert json.loads((run / "metrics.json").read_text())["target"]["groups"] == {}
    assert "target: not grouped by age, which no utterance has." in caplog.text


def test_nothing_to_evaluate_on(base, innertune, tmp_path):
    with pytest.raises(InputError, match="data.test"):
        innertune("evaluate", f"model.pretrained={base}", f"output={tmp_path / 'run'}")
