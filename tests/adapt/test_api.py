"""The public API: names come lazily, calls take plain arguments, and results are those of the commands."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import adapt
from adapt import (
    InputError,
    Loader,
    Pair,
    Splits,
    compare,
    fine_tune,
    load_model,
    measures,
    pretrain,
    read_manifest,
    read_splits,
    tunings,
    wav2letter_small,
)
from adapt.models.inference import decode_examples
from interventions.bits import changed_bits


@pytest.fixture(scope="module")
def model(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    paths = {"train": "high_validation", "validation": "high_validation", "test": "high_test"}
    found = {name: tuple(read_manifest(speech[path])[0]) for name, path in paths.items()}
    return Splits(**found, source_test=tuple(read_manifest(speech["low_test"])[0]))


@pytest.fixture(scope="module")
def adapted(model, splits):
    return fine_tune(model, splits, tunings.layers("last 2"), epochs=1, loader=Loader(batch_seconds=4))


@pytest.mark.slow
def test_every_public_name_is_there_and_none_is_imported_before_it_is_used():
    for package in ("adapt", "interventions"):
        module = sys.modules[package]
        assert set(module.__all__) <= set(dir(module))
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="module 'adapt' has no attribute 'nothing'"):
        _ = adapt.nothing
    code = "import sys, adapt, interventions; print(sorted({'torch', 'numpy', 'hydra'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_arrays_and_examples_are_transcribed_alike(model, splits):
    examples = splits.source_test[:3]
    expected = decode_examples(model.model, model.model.task, examples, Loader())
    arrays = [soundfile.read(example.audio_filepath, dtype="float32")[0] for example in examples]
    rate = soundfile.info(str(examples[0].audio_filepath)).samplerate
    assert model.transcribe(list(examples)) == expected
    assert model.transcribe([str(example.audio_filepath) for example in examples]) == expected
    assert model.transcribe(arrays, sample_rate=rate) == expected
    assert model.transcribe(examples[0].audio_filepath) == expected[:1]
    with pytest.raises(InputError, match="reads audio, not text"):
        model.translate(["ein Satz"])
    with pytest.raises(InputError, match="there is no audio file 'nowhere.wav'"):
        model.transcribe("nowhere.wav")


def test_fine_tuning_changes_the_chosen_layers_only_and_leaves_the_base_alone(model, adapted, base):
    again = load_model(str(base))
    assert again.fingerprint == model.fingerprint != adapted.fingerprint
    before, after = model.model.state_dict(), adapted.model.state_dict()
    changed = {name for name in before if bool(changed_bits(before[name], after[name]).any())}
    layers = {name for layer in model.model.layers[-2:] for name in layer.modules}
    assert changed and {name.rpartition(".")[0] for name in changed} <= layers
    assert len(adapted.training.history) == 1 and adapted.training.trained == tuple(adapted.header["trained"])


def test_an_adapted_model_is_saved_and_loaded(adapted, tmp_path):
    adapted.save(tmp_path / "run" / "adaptation")
    loaded = load_model(str(tmp_path / "run"))
    assert loaded.fingerprint == adapted.fingerprint
    assert loaded.header["trained"] == adapted.header["trained"]
    adapted.save_model(tmp_path / "model.safetensors")
    assert load_model(str(tmp_path / "model.safetensors")).fingerprint == adapted.fingerprint
    with pytest.raises(InputError, match="no training to save"):
        adapt.AdaptedModel(loaded.model, loaded.reference, loaded.fingerprint).save(tmp_path)


def test_a_seed_reproduces_a_run_and_an_interrupted_one_continues(model, splits, adapted, tmp_path):
    options = {"loader": Loader(batch_seconds=4)}
    again = fine_tune(model, splits, tunings.layers("last 2"), epochs=1, folder=tmp_path, **options)
    assert again.fingerprint == adapted.fingerprint
    with pytest.raises(InputError, match="holds a run already. Give resume=True"):
        fine_tune(model, splits, tunings.layers("last 2"), epochs=1, folder=tmp_path, **options)
    resumed = fine_tune(model, splits, tunings.layers("last 2"), epochs=1, folder=tmp_path, resume=True, **options)
    assert resumed.fingerprint == adapted.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1.0}, "There is no option learning_rat. Options: epochs, learning_rate,"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"resume": True}, "resume=True needs folder="),
        ({"base": "us-english"}, "base must be of type Loaded; got 'us-english'. load_model"),
        ({"splits": []}, "splits must be of type Splits"),
        ({"tuning": "head"}, "tuning must be one of adapt.tunings"),
        ({"tuning": tunings.head}, r"tunings.head must be called: give tunings.head\(...\)"),
    ],
)
def test_wrong_arguments_of_fine_tune_are_named(model, splits, options, message):
    with pytest.raises(InputError, match=message):
        fine_tune(**{"base": model, "splits": splits, "tuning": tunings.head(), **options})


def test_data_of_another_kind_are_refused(model, splits):
    pairs = [Pair("a", "b")]
    message = "This model reads audio: expected examples of type Utterance or Recording, got"
    for given, kind in ((pairs, "Pair"), (["a.wav"], "str")):
        with pytest.raises(InputError, match=f"{message} {kind}"):
            model.evaluate(given)
    for function in (measures.similarity, measures.profiles, measures.attribution):
        with pytest.raises(InputError, match=f"{message} Pair"):
            function(model, Splits(test=tuple(pairs)))
    with pytest.raises(InputError, match="This model reads text: expected examples of type Pair, got Utterance"):
        load_model("weather-en-de").evaluate(splits)
    with pytest.raises(InputError, match="after must be of type Loaded; got None"):
        compare(model, None, splits)
    with pytest.raises(InputError, match="reference must be of type str or Path"):
        load_model(None)


def test_what_cannot_be_written_names_the_path(adapted, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="Cannot write '.*file': "):
        adapted.save(tmp_path / "file")
    with pytest.raises(InputError, match=f"Cannot write '{tmp_path}': "):
        adapted.save_model(tmp_path)
    with pytest.raises(InputError, match="half must be true or false"):
        adapted.save_model(tmp_path / "model", half="no")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_and_the_function_train_the_same_bits(innertune, base, speech, model, tmp_path):
    run = innertune(
        "adapt", f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.validation={speech['low_validation']}", f"data.test={speech['high_test']}", "trainer.max_epochs=2",
        "tuning=neurons", "tuning.choose=weight", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    splits = read_splits(
        train=str(speech["high_validation"]), validation=str(speech["low_validation"]), test=str(speech["high_test"])
    )
    adapted = fine_tune(model, splits, tunings.neurons(choose="weight"), epochs=2)
    assert load_model(str(run)).fingerprint == adapted.fingerprint
    metrics = json.loads((run / "metrics.json").read_text())
    assert adapted.evaluate(splits).sets["target"]["wer"] == metrics["target"]["after"]["wer"]


def test_a_comparison_is_written_saved_and_drawn_again(model, adapted, splits, tmp_path):
    comparison = compare(model, adapted, splits, causes=4, compare_neurons=8, audio_clips=1)
    assert set(comparison.sets) == {"target", "source"} and comparison.weights.trained > 0
    comparison.write(tmp_path / "report.html")
    comparison.save(tmp_path / "comparison.json")
    adapt.Comparison.load(tmp_path / "comparison.json").write(tmp_path / "again.html")
    assert (tmp_path / "report.html").read_bytes() == (tmp_path / "again.html").read_bytes()


@pytest.mark.slow
def test_a_correction_is_kept_and_undone(model, splits, tmp_path):
    store = tmp_path / "corrections.db"
    example = splits.test[0]
    before = model.transcribe(example, corrections="off")
    with pytest.raises(
        InputError, match="The first correction of .* needs protected=FOLDER: recordings that it answers well"
    ):
        model.correct(example, "abc", store=store)
    protected = [*read_manifest(splits.source_test[0].where.rpartition(":")[0])[0]]
    outcome = model.correct(example, example.text, store=store, protected=protected, force=True)
    assert outcome.number is not None or before == [example.text]
    if outcome.fixed:
        assert model.transcribe(example, corrections=str(store)) == [outcome.text]
    if outcome.number is not None:
        model.memory(store).undo(outcome.number)
        assert model.transcribe(example, corrections=str(store)) == before
    with pytest.raises(InputError, match="store='off' leaves no place"):
        model.memory("off", protected)


@pytest.mark.slow
def test_an_embedded_model_brings_its_protected_examples(tmp_path):
    base = load_model("weather-en-de")
    pair = Pair("Do you want to ski on Wednesday afternoon?", "")
    outcome = base.correct(pair, "Wollen Sie am Mittwochnachmittag Ski fahren?", store=tmp_path / "c.db")
    assert outcome.fixed and outcome.checked > 0
    memory = base.memory(tmp_path / "c.db")
    assert len(memory.protected_examples()) > 0
    assert base.translate(pair, corrections=str(tmp_path / "c.db")) == [outcome.text]


def test_tunings_check_their_arguments_where_they_are_given():
    with pytest.raises(TypeError, match="layer"):
        tunings.layers(layer="last 1")
    assert tunings.layers("last 1").keywords == {"layers": "last 1"}
    assert tunings.lora.__doc__.startswith("Train low-rank factors")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, _: model.transcribe([], corrections=None), "corrections must be of type str or Path"),
        (lambda model, _: model.transcribe([], loader=2), "loader must be of type Loader"),
        (lambda model, splits: model.evaluate(splits, loader=2), "loader must be of type Loader"),
        (lambda model, splits: model.evaluate(splits, group_by=3), "group_by must be a key"),
        (lambda model, splits: compare(model, model, splits, loader=2), "loader must be of type Loader"),
        (lambda model, splits: compare(model, model, splits, group_by=3, causes=0), "group_by must be a key"),
        (lambda model, splits: fine_tune(model, splits, loader=2), "loader must be of type Loader"),
        (lambda model, splits: fine_tune(model, splits, penalty="l2"), "penalty must be a function"),
        (lambda model, splits: fine_tune(model, splits, topographic=1), "topographic must be a function"),
        (lambda model, splits: fine_tune(model, splits, tunings.layers([])), "layers is empty"),
        (lambda model, splits: model.correct(list(splits.test), "a"), "example must be one utterance; got a list of"),
        (lambda *_: load_model("us-english", base="elsewhere"), "base=elsewhere is for an adaptation"),
        (lambda *_: load_model("us-english", base=3), "base must be of type str or Path"),
        (lambda *_: load_model("us-english", language="de"), "family wav2letter, which has no such option"),
        (lambda *_: load_model("weather-en-de").translate({"a": "b"}), "texts must be a sentence"),
        (lambda *_: load_model("weather-en-de").translate(["a", " "]), "texts: number 2 of 2 is empty"),
        (lambda *_: load_model("weather-en-de").correct(["a", "b"], "c"), "example must be one sentence"),
    ],
)
def test_wrong_arguments_are_named(model, splits, call, message):
    with pytest.raises(InputError, match=message):
        call(model, splits)


def test_one_key_to_group_by_may_be_a_text(model, splits):
    alone, listed = (model.evaluate(splits, group_by=key).sets["target"]["groups"] for key in ("speaker", ["speaker"]))
    assert alone == listed and list(alone) == ["speaker"]
    compared = compare(model, model, splits, group_by="speaker", causes=0, compare_neurons=0, audio_clips=0)
    assert {group.key for group in compared.groups} == {"speaker"}


def test_a_comparison_is_read_from_the_folder_of_its_run(model, splits, tmp_path):
    made = compare(model, model, splits, causes=0, compare_neurons=0, audio_clips=0)
    made.save(tmp_path / "comparison.json")
    assert adapt.Comparison.load(tmp_path).sets == made.sets == adapt.Comparison.load(str(tmp_path)).sets


def test_options_of_a_family_are_given_to_load_model(whisper, marian):
    loaded = load_model(whisper, language="de", beams=2, normalise=True)
    assert (loaded.model.generation_options.language, loaded.model.generation_options.beams) == ("de", 2)
    assert load_model(marian, prefix=">>deu<< ").model.translation_options.prefix == ">>deu<< "
    assert load_model(marian, prefix=None).fingerprint == load_model(marian).fingerprint


def test_pretrained_from_random_weights(splits):
    torch.manual_seed(0)
    new = wav2letter_small(labels=" abcdefgh", inner=16, big=24, n_features=20)
    trained = pretrain(new, splits, epochs=1)
    assert trained.fingerprint != new.fingerprint and np.isfinite(trained.training.history[0]["train_loss"])


def test_a_measure_is_one_call(model, splits):
    result = measures.similarity(model, splits)
    assert result.summary and result.figures
