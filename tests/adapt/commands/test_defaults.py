"""`innertune adapt` without a rate, epochs and so on: the family's own stand in config.yaml, log, report and card."""

import json
import logging

import pytest
import yaml
from hydra import compose, initialize_config_dir

from adapt.commands._defaults import fill_in
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.option_texts import config_folder

SAID = (
    "Defaults of Wav2Letter for biases or norms: optimizer.lr=0.003, trainer.max_epochs=10, schedule=cosine, warmup=0.1"
)


def composed(command, *words):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, list(words))


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}", "tuning=norm",
        f"data.test={speech['high_test']}", "loader.batch_seconds=8", "loader.speeds=[1.0]",
    ]  # fmt: skip


def test_what_is_not_given_is_filled_in_and_said_and_resumes(innertune, options, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "adapt"):
        folder = innertune("adapt", *options, f"output={tmp_path / 'run'}", "dry_run=true")
        assert SAID in caplog.text and not folder.exists()
        caplog.clear()
        innertune("adapt", *options, f"output={folder}")
    assert SAID + "." in caplog.text  # the speeds were given
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["optimizer"]["lr"], config["trainer"]["max_epochs"], config["warmup"]) == (0.003, 10, 0.1)
    card = json.loads((folder / "card.json").read_text())
    assert card["defaults"] == SAID + "." and card["learning_rate"] == 0.003
    assert SAID in (folder / "report.html").read_text()

    (folder / "metrics.json").unlink()  # as after a kill
    with pytest.raises(InputError, match=r"optimizer.lr=0.003, not 0.1"):
        innertune("adapt", *options, f"output={folder}", "resume=true", "optimizer.lr=0.1")
    innertune("adapt", *options, f"output={folder}", "resume=true")
    assert (folder / "metrics.json").exists()


def test_what_is_given_wins(wav2vec2, marian):
    words = ["trainer.max_epochs=2", "schedule=linear", "warmup=0", "loader.speeds=[0.9]", "loader.batch_tokens=7"]
    for folder in (wav2vec2, marian):
        given = composed("adapt", *words)
        before = given.copy()
        assert fill_in(given, load_model(str(folder)).model, 5) == {} and given == before
    steps = composed("adapt", "+trainer.max_steps=5")
    assert "trainer.max_epochs" not in fill_in(steps, load_model(str(wav2vec2)).model, 5)


def test_families_fill_in_what_they_need(wav2vec2, whisper, marian):
    for folder, expected in ((wav2vec2, (20, 1000)), (whisper, (10, 1000)), (marian, (25, 250))):
        cfg = composed("adapt")
        filled = fill_in(cfg, load_model(str(folder)).model, 5)
        assert (cfg.trainer.max_epochs, cfg.loader.batch_tokens) == expected
        assert ("loader.speeds" in filled) == (folder != marian) == ("loader.batch_tokens" not in filled)


def test_experiments_keep_what_they_set():
    """The values of 0.2.0, when every family had the same defaults."""
    found = {}
    for name, model in (("us_to_scottish", "us-english"), ("translation_domain", "weather-en-de")):
        cfg = composed("adapt", f"experiment={name}")
        filled = fill_in(cfg, load_model(model).model, 600)
        found[name] = (cfg.optimizer.lr, cfg.trainer.max_epochs, cfg.schedule, cfg.warmup, list(cfg.loader.speeds))
        assert "optimizer.lr" not in filled
    perturbed = [0.88, 0.94, 1.0, 1.06, 1.12]
    # A rate of null is filled in after the tuning was chosen (tests/adapt/training/test_defaults.py): 1e-3.
    assert found["us_to_scottish"] == (None, 10, "cosine", 0.1, perturbed)
    assert found["translation_domain"] == (2e-3, 25, "cosine", 0.1, [1.0])
    assert load_model("us-english").model.recipe.learning_rate("weights", 1_499_165) == 1e-3
    for name in ("marian_to_domain", "wav2vec2_to_accent", "whisper_to_language"):
        words = ["model.pretrained=x", "data.folder=x", "model.language=de"][: 3 if name[0] == "w" else 1]
        words = [word for word in words if not (word[:4] == "data" and name[:2] == "wh")]
        words = [word for word in words if not (word[:9] == "model.lan" and name[:3] == "wav")]
        cfg = composed("adapt", f"experiment={name}", *words)
        assert cfg.optimizer.lr in (5e-5, 1e-5) and cfg.trainer.max_epochs in (5, 8, 4)
    assert list(cfg.loader.speeds) == perturbed  # whisper_to_language names them, since Whisper's own are others
