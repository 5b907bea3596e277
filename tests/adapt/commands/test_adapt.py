"""`innertune adapt`, end to end on tone speech."""

import json

import pytest
import torch

from adapt.errors import InputError
from adapt.metrics import EDITS
from adapt.models.checkpoint import load_model
from adapt.models.model_files import read_safetensors
from interventions.bits import changed_bits


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_train']}",
        f"data.validation={speech['high_validation']}", f"data.test={speech['high_test']}",
        f"data.source_test={speech['low_test']}", "loader.batch_seconds=3.4", "trainer.max_epochs=3",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(options, innertune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "full"
    return innertune("adapt", *options, "keep_checkpoints=true", f"output={folder}")


def test_leaves_what_the_design_says(run):
    names = {"config.yaml", "metrics.json", "report.html", "card.json", "comparison.json", "adaptation", "checkpoints"}
    assert names <= {path.name for path in run.iterdir()}
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("target", "source"):
        for when in ("before", "after"):
            assert {"wer", "cer", "examples"} <= metrics[name][when].keys()
    assert metrics["weights"]["changed"] <= metrics["weights"]["trained"] == metrics["weights"]["total"]
    assert metrics["seconds"] > 0
    assert metrics["target"]["after"]["cer"] < metrics["target"]["before"]["cer"]


def test_the_report_and_the_card_say_what_was_done_and_where(run, base):
    card, comparison = (json.loads((run / name).read_text()) for name in ("card.json", "comparison.json"))
    # The accent of all test utterances is "high"; that of the source is "low".
    assert card["title"] == comparison["title"] == f"{base.stem}, adapted to high"
    assert f"<h1>{card['title']}</h1>" in (run / "report.html").read_text()
    assert card["command"].startswith("innertune adapt ") and card["date"] and card["machine"]
    assert {"innertune", "Python", "torch"} <= card["versions"].keys()
    assert (card["seed"], card["learning_rate"]) == (0, 0.001)
    assert card["examples"].keys() == card["hours"].keys() == {"train", "validation", "target", "source"}
    assert card["hours"]["train"] > 0
    kinds = json.loads((run / "metrics.json").read_text())["target"]["after"]
    assert kinds["wer"] == pytest.approx(sum(kinds[kind] for kind in EDITS))


def test_the_adaptation_is_the_adapted_model(run, base):
    adapted = load_model(str(run))
    facts = json.loads((run / "adaptation" / "adaptation.json").read_text())
    assert adapted.fingerprint == facts["fingerprint"] != load_model(str(base)).fingerprint
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    trained = run / "unblended" if (run / "unblended").exists() else run  # before the blend with the base
    state = load_model(str(trained)).model.net.state_dict()
    assert all(torch.equal(best[f"model.net.{name}"], tensor) for name, tensor in state.items())


def test_frozen_layers_stay_bit_identical_statistics_included(options, base, innertune, tmp_path):
    run = innertune("adapt", *options, "tuning=layers", "tuning.layers=[8,last 1]", f"output={tmp_path / 'layers'}",
                    "optimizer.weight_decay=0.1", "trainer.max_epochs=2")  # fmt: skip
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["start.json"]  # deleted when it was finished
    before, after = (load_model(str(path)).model.net.state_dict() for path in (base, run))
    changed = {name for name, tensor in after.items() if changed_bits(before[name], tensor).any()}
    assert {name.split(".")[1] for name in changed} == {"conv8", "norm8", "conv10"}
    assert set(read_safetensors(run / "adaptation" / "weights.safetensors")[1]) == changed
    weights = json.loads((run / "metrics.json").read_text())["weights"]
    trained = (
        "acoustic_model.conv8.",
        "acoustic_model.conv10.",
        "acoustic_model.norm8.weight",
        "acoustic_model.norm8.bias",
    )
    assert weights["trained"] == sum(after[name].numel() for name in after if name.startswith(trained))
    counted = sum(
        int(changed_bits(before[n], after[n]).sum()) for n in changed if "running" not in n and "num_b" not in n
    )
    assert 0 < weights["changed"] == counted


def test_same_seed_same_weights_other_seed_others(options, innertune, tmp_path):
    prints = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        draws = [f"seed={seed}", "augment=spec", "loader.speeds=[0.9,1.0,1.1]"]
        run = innertune("adapt", *options, *draws, f"output={tmp_path / name}", "trainer.max_epochs=1")
        prints[name] = load_model(str(run)).fingerprint
    assert prints["a"] == prints["b"] != prints["c"]


def test_new_characters_rebuild_the_output_layer(base, speech, innertune, tmp_path):
    lines = [json.loads(line) for line in speech["high_train"].read_text().splitlines()[:20]]
    for line in lines:
        line["audio_filepath"] = str(speech["high_train"].parent / line["audio_filepath"])
        line["text"] = line["text"].replace("a", "ä")
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(json.dumps(line) + "\n" for line in lines[:14]))
    test.write_text("".join(json.dumps(line) + "\n" for line in lines[14:]))
    options = [
        f"model.pretrained={base}",
        "data=manifest",
        f"data.train={train}",
        f"data.test={test}",
        "trainer.max_epochs=1",
    ]
    with pytest.raises(InputError, match=r"train.jsonl:\d+: the text contains 'ä'.*alphabet=extend"):
        innertune("adapt", *options, f"output={tmp_path / 'keep'}")
    run = innertune("adapt", *options, f"output={tmp_path / 'extend'}", "alphabet=extend", "tuning=head")
    model = load_model(str(run)).model
    assert model.labels.characters == ("", *" abcde", "ä")
    layers = json.loads((run / "comparison.json").read_text())["weights"]["layers"]
    assert layers[-1]["neurons"][-1] is None
    assert all(layer["changed"] == layer["trained"] == 0 for layer in layers[:-1])


def test_an_adaptation_can_be_adapted_again(run, options, innertune, tmp_path):
    again = innertune("adapt", *options, f"model.pretrained={run}", "tuning=head", "trainer.max_epochs=1",
                      f"output={tmp_path / 'again'}")  # fmt: skip
    assert load_model(str(again)).fingerprint == json.loads((again / "card.json").read_text())["fingerprint"]


def test_a_finished_run_is_not_overwritten_by_chance(run, options, innertune):
    saved = (run / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="already holds a finished run"):
        innertune("adapt", *options, f"output={run}")
    assert (run / "metrics.json").read_bytes() == saved


def test_no_base_and_no_data_are_refused(options, innertune, tmp_path):
    with pytest.raises(InputError, match="innertune pretrain"):
        innertune("adapt", "model.pretrained=null", f"output={tmp_path / 'a'}")
    with pytest.raises(InputError, match="data.train"):
        innertune("adapt", *options, "data.train=null", f"output={tmp_path / 'b'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("patience=0", "patience must be a whole number of at least 1"),
        ("patience=soon", "got 'soon'"),
        ("patience=true", "got True"),
        ("monitor=val_bleu", "monitor=val_bleu is not measured in training. Give one of val_loss, val_wer"),
        ("monitor=[val_wer]", "monitor=\\['val_wer'\\] is not measured in training. Give one of val_loss, val_wer"),
        ("monitor={a:1}", "monitor={'a': 1} is not measured in training"),
        ("monitor=5", "monitor=5 is not measured in training"),
    ],
)
def test_how_to_stop_is_checked_before_the_folder_is_claimed(options, innertune, tmp_path, option, says):
    with pytest.raises(InputError, match=says):
        innertune("adapt", *options, option, f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_a_translation_model_says_that_recordings_are_no_text(options, innertune, tmp_path):
    with pytest.raises(InputError, match="data are recordings, but the model reads text. .*data=pairs"):
        innertune("adapt", *options, "model=hf_translation", "model.pretrained=weather-en-de",
                  f"output={tmp_path / 'run'}")  # fmt: skip
