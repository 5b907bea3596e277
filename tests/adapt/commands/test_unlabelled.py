"""`innertune adapt labels=none`, end to end on tone speech and on sentences without translations."""

import json
import shutil

import pytest

from adapt.comparison.results import Comparison
from adapt.errors import InputError
from adapt.models.checkpoint import load_model

SMALL = ["labels=none", "trainer.max_epochs=1", "unlabelled.rounds=1", "unlabelled.test_time=false"]


@pytest.fixture(scope="module")
def recordings(speech, tmp_path_factory):
    """A folder of audio, and nothing else."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = [json.loads(line) for line in speech["high_train"].read_text().splitlines()[:16]]
    for row in rows:
        shutil.copy(speech["high_train"].parent / row["audio_filepath"], folder)
    return folder


@pytest.fixture(scope="module")
def bare(recordings, base, innertune, tmp_path_factory):
    """A run on a folder of audio without any labels."""
    output = tmp_path_factory.mktemp("runs") / "bare"
    options = [f"model.pretrained={base}", "data=manifest", f"data.train={recordings}", "unlabelled.agreement=0"]
    return innertune("adapt", *options, *SMALL, f"output={output}")


def test_a_folder_of_audio_gives_a_report_that_says_what_is_not_known(bare):
    metrics = json.loads((bare / "metrics.json").read_text())
    assert "target" not in metrics and "source" not in metrics
    found = metrics["unlabelled"]
    assert found["held_out"] == 4 and found["trials"][0]["name"] == "base" and found["trials"][-1]["verdict"]
    page = (bare / "report.html").read_text()
    assert "There are no test data with labels, so the number of errors is not known." in page
    assert "Adapted without labels" in page and "nothing says what the model forgot" in page
    assert Comparison.load(bare).unlabelled is not None
    facts = json.loads((bare / "adaptation" / "adaptation.json").read_text())
    assert load_model(str(bare)).fingerprint == facts["fingerprint"]


def test_labelled_tests_stand_beside_what_was_done_without(base, speech, innertune, tmp_path):
    labelled = speech["high_train"].with_name("some.jsonl")
    labelled.write_text("".join(speech["high_train"].read_text().splitlines(keepends=True)[:12]))
    run = innertune(
        "adapt", f"model.pretrained={base}", "data=manifest", f"data.train={labelled}",
        f"data.validation={speech['high_validation']}", f"data.test={speech['high_test']}",
        f"data.source_train={speech['low_validation']}", f"data.source_test={speech['low_test']}", *SMALL,
        "normalise=basic", "non_speech=2", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"target", "source", "unlabelled"} <= metrics.keys()
    assert metrics["non_speech"]["before"]["sounds"] == metrics["non_speech"]["after"]["sounds"] == 2
    for values in (metrics["target"]["before"], metrics["source"]["after"]):
        assert values["as_written"]["normaliser"] == ["basic"]
    assert metrics["unlabelled"]["before"]["source"] >= 0
    assert "which were not used" in (run / "report.html").read_text()


def test_sentences_without_translations(marian, language, innertune, tmp_path):
    rows = [json.loads(line) for line in language["train"].read_text().splitlines()[:12]]
    (tmp_path / "lines.txt").write_text("".join(f"{row['source']}\n" for row in rows))
    run = innertune(
        "adapt", "model=hf_translation", f"model.pretrained={marian}", "data=pairs",
        f"data.train={tmp_path / 'lines.txt'}", f"data.test={language['test']}", *SMALL,
        f"unlabelled.reverse={marian}", f"unlabelled.target_texts={tmp_path / 'lines.txt'}", f"output={tmp_path / 'o'}",
    )  # fmt: skip
    assert "Translations were checked by translating them back." in (run / "report.html").read_text()
    assert json.loads((run / "metrics.json").read_text())["unlabelled"]["chosen"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["labels=none", "alphabet=extend"], "alphabet has no effect"), (["labels=none", "dry_run=true"], "dry_run has"),
     (["labels=some"], "labels"), (["unlabelled.rounds=2"], "unlabelled.rounds is for an adaptation without labels"),
     (["data.train=null", "labels=none"], "needs recordings"), ([], "folder without a manifest")],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(options, message, base, recordings, speech, innertune, tmp_path):
    data = ["data=manifest", f"data.train={recordings}", f"data.test={speech['high_test']}"]
    with pytest.raises(InputError, match=message):
        innertune("adapt", f"model.pretrained={base}", *data, *options, f"output={tmp_path / 'run'}")
