"""What a run has trained and measured is not lost for what its comparison cannot measure besides."""

import json
import math

import pytest

from adapt.comparison import compare as comparison
from adapt.data.manifest import read_manifest, write_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.test={speech['high_test']}", "trainer.max_epochs=1", "loader.speeds=[1.0]",
    ]  # fmt: skip


def test_texts_that_cannot_be_learned_have_no_loss_and_cost_nothing_else(options, speech, innertune, tmp_path):
    """A test set may hold other letters, and texts too long for their audio."""
    from dataclasses import replace

    heard = list(read_manifest(speech["high_test"])[0])
    heard[0], heard[1] = replace(heard[0], text="fab"), replace(heard[1], text="abcde " * 40)
    write_manifest(tmp_path / "odd.jsonl", heard)
    run = innertune("adapt", *options, f"data.test={tmp_path / 'odd.jsonl'}", "causes=12", "compare_neurons=12",
                    f"output={tmp_path / 'run'}")  # fmt: skip
    said = json.loads((run / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert said["causes"]["examples"] == {"target": 12} and said["neurons"]["examples"] == 12
    assert all(map(math.isfinite, said["causes"]["losses"]["target"])) and said["causes"]["patched"]
    load_model(str(run))


def test_a_measure_that_fails_is_left_out_and_the_run_is_whole(options, innertune, tmp_path, monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(comparison, "find_causes", broken)
    run = innertune("adapt", *options, "causes=2", "compare_neurons=12", f"output={tmp_path / 'run'}")
    said = json.loads((run / "comparison.json").read_text())
    assert said["causes"] is None and said["neurons"] and (run / "metrics.json").is_file()
    assert "The report does not include the causes" in caplog.text and "out of memory" in caplog.text
    load_model(str(run))


def test_what_was_trained_is_kept_before_it_is_compared(options, innertune, tmp_path, monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("no disk")

    monkeypatch.setattr("adapt.commands.adapt.compare_hypotheses", broken)
    with pytest.raises(RuntimeError, match="no disk"):
        innertune("adapt", *options, f"output={tmp_path / 'run'}")
    load_model(str(tmp_path / "run"))


@pytest.mark.parametrize("option", ["causes=-1", "compare_neurons=2.5", "compare_neurons=true"])
def test_numbers_of_examples_are_checked_before_anything_is_trained(options, innertune, tmp_path, option):
    with pytest.raises(InputError, match=f"{option.partition('=')[0]} must be a whole number of at least 0"):
        innertune("adapt", *options, option, f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_an_alphabet_that_was_rebuilt_can_be_looked_into(options, base, innertune, speech, tmp_path):
    """Its output layer is left out; where only that was trained, nothing can be put back, and the run is whole."""
    from dataclasses import replace

    heard = [replace(own, text=own.text.replace("a", "f")) for own in read_manifest(speech["high_validation"])[0]]
    write_manifest(tmp_path / "new.jsonl", heard)
    train = [f"data.train={tmp_path / 'new.jsonl'}", "alphabet=extend", "tuning=head", "causes=2", "compare_neurons=12"]
    run = innertune("adapt", *options, *train, f"output={tmp_path / 'run'}")
    said = json.loads((run / "comparison.json").read_text())
    names = [own["site"] for own in said["neurons"]["sites"]]
    assert said["causes"] is None and len(names) == len(load_model(str(base)).model.layers) - 1
    # The same by commands of their own.
    for options in (["measure=probes"], ["measure=topography", "measure.min_steps=2", "measure.groups=letter"]):
        looked = innertune(
            "introspect", f"model.pretrained={base}", *options, f"measure.reference_model={run}", "data=manifest",
            f"data.test={speech['high_test']}", f"data.source_test={speech['low_test']}",
            f"output={tmp_path / options[0]}".replace("measure=", ""),
        )  # fmt: skip
        assert (looked / "metrics.json").is_file()
