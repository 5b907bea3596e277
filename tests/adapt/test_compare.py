"""`innertune compare`: two models that already exist."""

import json


def test_a_model_with_itself_changes_nothing(base, speech, innertune, tmp_path):
    data = ["data=manifest", f"data.test={speech['low_test']}", "data.group_by=speaker"]
    run = innertune("compare", f"before={base}", f"after={base}", *data, f"output={tmp_path / 'run'}")
    comparison = json.loads((run / "comparison.json").read_text())
    assert comparison["weights"]["changed"] == 0 and comparison["transcripts"] == []
    assert comparison["sets"]["target"]["before"] == comparison["sets"]["target"]["after"]
    assert comparison["sets"]["target"]["difference"] == {"wer": [0, 0], "cer": [0, 0]}
    assert {group["key"] for group in comparison["groups"]} == {"speaker"}


def test_compare_repeats_what_adapt_reported(base, speech, innertune, tmp_path):
    data = ["data=manifest", f"data.test={speech['high_test']}", f"data.source_test={speech['low_test']}"]
    adapted = innertune("adapt", f"model.pretrained={base}", *data, f"data.train={speech['high_train']}", "tuning=head",
                        "trainer.max_epochs=1", f"output={tmp_path / 'adapted'}")  # fmt: skip
    compared = innertune("compare", f"before={base}", f"after={adapted}", *data, f"output={tmp_path / 'compared'}")
    first, second = (json.loads((run / "comparison.json").read_text()) for run in (adapted, compared))
    for key in ("sets", "groups", "transcripts", "weights"):
        assert first[key] == second[key]
    assert (compared / "report.html").stat().st_size > 10_000
