"""`innertune compare`: two models that already exist."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from adapt.errors import InputError


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
                        "trainer.max_epochs=1", "optimizer.lr=0.05", f"output={tmp_path / 'adapted'}")  # fmt: skip
    compared = innertune("compare", f"before={base}", f"after={adapted}", *data, f"output={tmp_path / 'compared'}",
                         "causes=5")  # fmt: skip
    first, second = (json.loads((run / "comparison.json").read_text()) for run in (adapted, compared))
    for key in ("sets", "groups", "transcripts", "words", "weights"):
        assert first[key] == second[key]
    # Only the head trained, so that all of the change is its, put back and alone.
    causes = second["causes"]
    assert causes["examples"] == {"target": 5, "source": 5} and len(causes["parts"]) == 1
    for name in ("target", "source"):
        assert causes["parts"][0]["reverted"][name]["values"] == causes["before"][name]
        assert causes["parts"][0]["applied"][name]["values"] == causes["after"][name]
    assert first["causes"] is None and "What caused the change" not in (adapted / "report.html").read_text()
    assert "What caused the change" in (compared / "report.html").read_text()
    # Every word of the references is counted; what changed most can be listened to, and is in the page alone.
    words = first["words"]["target"]["words"]
    read = [json.loads(line)["text"].split() for line in speech["high_test"].read_text().splitlines()]
    assert sum(word["count"] for word in words) == sum(map(len, read))
    assert first["transcripts"] and len(first["audio_clips"]) == min(6, len(first["transcripts"]))
    assert (adapted / "report.html").read_text().count("<audio controls") == min(6, len(first["transcripts"]))


def test_a_number_of_examples_is_asked_for(base, speech, innertune, tmp_path):
    with pytest.raises(InputError, match="causes must be a whole number of at least 0; got"):
        innertune("compare", f"before={base}", f"after={base}", "data=manifest", f"data.test={speech['low_test']}",
                  "causes=all", f"output={tmp_path / 'run'}")  # fmt: skip


def test_a_base_is_used_as_its_adaptation_used_it(whisper, speech, innertune, tmp_path):
    """A Whisper that is told a language reads one token more; what its folder says of itself is none."""
    data = ["data=manifest", f"data.test={speech['high_test']}", "loader.batch_seconds=12"]
    options = [*data, f"data.train={speech['high_validation']}", "tuning=head", "trainer.max_epochs=1"]
    model = ["model=hf_speech_seq2seq", f"model.pretrained={whisper}", "model.language=de"]
    first = innertune("adapt", *model, *options, f"output={tmp_path / 'first'}")
    compared = innertune("compare", f"before={whisper}", f"after={first}", *data, f"output={tmp_path / 'compared'}",
                         "causes=2")  # fmt: skip
    adapted, again = (json.loads((run / "comparison.json").read_text()) for run in (first, compared))
    assert again["sets"] == adapted["sets"] and again["causes"]["patched"]
    # Of an adaptation of that adaptation it is not the base, and the two cannot be patched into each other.
    second = innertune("adapt", *model[:1], f"model.pretrained={first}", *options, f"output={tmp_path / 'second'}")
    compared = innertune("compare", f"before={whisper}", f"after={second}", *data, f"output={tmp_path / 'other'}",
                         "causes=2")  # fmt: skip
    causes = json.loads((compared / "comparison.json").read_text())["causes"]
    assert causes["parts"] and not causes["patched"]


def test_a_multilingual_model_is_told_its_language_or_the_user_how(whisper, base, speech, innertune, tmp_path, caplog):
    louder = shutil.copytree(whisper, tmp_path / "louder")
    weights = load_file(louder / "model.safetensors")
    name = next(name for name in weights if name.endswith("decoder.layers.1.fc2.weight"))
    save_file({**weights, name: 2 * weights[name]}, louder / "model.safetensors", {"format": "pt"})
    data = [
        "data=manifest",
        f"data.test={speech['high_test']}",
        f"before={whisper}",
        f"after={louder}",
        "compare_neurons=12",
    ]
    compared = innertune("compare", *data, f"output={tmp_path / 'detected'}")
    assert caplog.text.count("is multilingual and has no language set") == 2 and "Give language=..." in caplog.text
    assert json.loads((compared / "comparison.json").read_text())["neurons"] is None
    caplog.clear()
    compared = innertune("compare", *data, "language=de", f"output={tmp_path / 'told'}")
    assert "was not told" not in caplog.text
    assert json.loads((compared / "comparison.json").read_text())["neurons"]["examples"] == 12
    with pytest.raises(InputError, match="language=de is for multilingual recognisers"):
        innertune("compare", *data[:2], f"before={base}", f"after={base}", "language=de", f"output={tmp_path / 'no'}")
