"""`innertune pretrain`: a base from scratch."""

import json

import pytest

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.state import model_fingerprint


def test_learns_and_leaves_a_model_with_its_card(base):
    metrics, card = (json.loads((base / name).read_text()) for name in ("metrics.json", "card.json"))
    assert metrics["target"]["after"]["cer"] < 0.3
    assert metrics["target"]["after"]["examples"] == 100
    assert len(metrics["history"]) == 9
    model = load_model(str(base)).model
    assert model_fingerprint(model) == card["fingerprint"]
    assert metrics["weights"]["total"] == sum(p.numel() for p in model.parameters())
    assert card["results"]["target"] == metrics["target"]


def test_half_measures_what_it_saves(speech, innertune, tmp_path):
    run = innertune(
        "pretrain", "model.inner=8", "model.big=8", "data=manifest", f"data.train={speech['low_test']}",
        f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}", "trainer.max_epochs=1", "save_half=true",
    )  # fmt: skip
    card = json.loads((run / "card.json").read_text())
    assert model_fingerprint(load_model(str(run)).model) == card["fingerprint"]


def test_a_model_to_start_from_is_refused(base, innertune, tmp_path):
    with pytest.raises(InputError, match="innertune adapt"):
        innertune("pretrain", f"model.pretrained={base}", f"output={tmp_path / 'run'}")
