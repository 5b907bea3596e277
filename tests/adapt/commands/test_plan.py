"""`innertune plan`: what it writes, its dry run, and that it continues."""

import json

import pytest

from adapt.errors import InputError

SMALL = ["shares=[0.5]", "orders=1", "epochs=1", "tuning=head", "loader.speeds=[1.0]"]


@pytest.fixture(scope="module")
def options(base, speech):
    data = [f"data.train={speech['high_test']}", f"data.test={speech['high_validation']}"]
    return [f"model.pretrained={base}", *data, *SMALL, f"audio={speech['high_train']}", "number=3"]


def test_writes_curve_forecast_and_batch_and_continues(innertune, options, tmp_path):
    output = f"output={tmp_path / 'plan'}"
    folder = innertune("plan", *options, output)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() >= {"curve", "forecast", "next", "seconds"} and metrics["next"]["chosen"] == 3
    assert len(metrics["curve"]["points"]) == 2 and metrics["forecast"]["more"] == 10
    assert len((folder / "next.jsonl").read_text().splitlines()) == 3
    page = (folder / "plan.html").read_text()
    assert metrics["forecast"]["sentence"].split(":")[0] in page and "Compared with random choice" in page
    (folder / "metrics.json").unlink()  # as if it had been killed before its end
    before = {path: path.stat().st_mtime_ns for path in (folder / "curve").glob("order-*.json")}
    with pytest.raises(InputError, match="unfinished run"):
        innertune("plan", *options, output)
    innertune("plan", *options, output, "resume=true")
    again = json.loads((folder / "metrics.json").read_text())
    assert again["curve"] == metrics["curve"] and again["next"] == metrics["next"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "curve").glob("order-*.json")}


def test_a_dry_run_only_estimates(innertune, options, tmp_path, caplog):
    with caplog.at_level("INFO"):
        innertune("plan", *options, "dry_run=true", f"output={tmp_path / 'plan'}")
    assert "2 models to train, 120 candidates: about" in caplog.text and not (tmp_path / "plan").exists()


def test_refuses_to_plan_nothing(innertune, options, tmp_path):
    output = f"output={tmp_path / 'plan'}"
    with pytest.raises(InputError, match="plan needs data.train"):
        innertune("plan", options[0], output)
    with pytest.raises(InputError, match="needs examples to train on"):
        innertune("plan", options[0], options[-2], "number=1", "curve=true", output)
    with pytest.raises(InputError, match=r"trainer.devices=1. Got 2"):
        innertune("plan", options[0], "trainer.devices=2", output)
    assert not (tmp_path / "plan").exists()
