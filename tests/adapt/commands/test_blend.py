"""The command `blend`, and `blend=` of `adapt`."""

import json

import pytest

from adapt.comparison.results import Comparison
from adapt.errors import InputError
from adapt.models.checkpoint import load_model


@pytest.fixture(scope="module")
def run(innertune, base, speech, tmp_path_factory):
    """An adaptation to the higher accent, blended by the search."""
    data = ["data=manifest", f"data.train={speech['high_train']}", f"data.validation={speech['high_validation']}",
            f"data.test={speech['high_test']}", f"data.source_test={speech['low_test']}",
            f"data.source_validation={speech['low_validation']}"]  # fmt: skip
    return innertune("adapt", f"model.pretrained={base}", *data, "trainer.max_epochs=2", "optimizer.lr=0.004",
                     "audio_clips=0", f"output={tmp_path_factory.mktemp('runs') / 'adapted'}")  # fmt: skip


def test_adapt_blends_and_reports_the_front(run, base):
    front = json.loads((run / "metrics.json").read_text())["blend"]
    singles = [row for row in front["front"] if row["kind"] == "single"]
    assert [row["factor"] for row in singles] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert front["examples"] == {"target": 8, "source": 8}
    assert json.loads(json.dumps(Comparison.load(run).blend.figures())) == front
    page = (run / "report.html").read_text()
    assert '<h2 id="blend">' in page
    assert front["reason"].replace(" %", "\u00a0%") in page
    adapted = load_model(str(run))
    assert adapted.header["base"]["fingerprint"] == load_model(str(base)).fingerprint
    if front["factor"] < 1:
        assert load_model(str(run / "unblended")).fingerprint != adapted.fingerprint


def test_blend_compares_the_result_with_its_base(innertune, run, base, speech, tmp_path):
    full = run / "unblended" if (run / "unblended").exists() else run
    made = innertune("blend", f"models={full}", "factor=0.5", f"output={tmp_path / 'half'}", "data=manifest",
                     f"data.test={speech['high_test']}", "causes=0", "compare_neurons=0")  # fmt: skip
    metrics = json.loads((made / "metrics.json").read_text())
    assert "wer" in metrics["target"]["after"]
    assert (made / "report.html").exists()
    alone = innertune("blend", f"models=[{full},{full}]", f"output={tmp_path / 'soup'}")
    assert load_model(str(alone)).fingerprint == load_model(str(full)).fingerprint
    assert not (alone / "report.html").exists()
    card = json.loads((alone / "card.json").read_text())
    assert card["blend"]["method"] == "soup"
    with pytest.raises(InputError, match="factor must be auto, a number, numbers by layer, or a file of scores"):
        innertune("blend", f"models={full}", "factor=nowhere.safetensors", f"output={tmp_path / 'bad'}")
    assert not (tmp_path / "bad").exists()
