"""What nobody gives, the family fills in: the rate by what trains, epochs by the number of examples. It is logged."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from real_whisper import native_speech, whisper_tiny

from adapt import tunings
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.splits import read_splits
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.training.defaults import kind_of, lacks_rate
from adapt.training.fine_tune import default_trainer, fine_tune
from adapt.training.prepare import prepare

pytestmark = pytest.mark.slow
LOADER = Loader(batch_seconds=4)


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(train=speech["high_train"])
    return replace(found, train=found.train[:4])


def prepared(loaded, splits, tuning=None, rate=None, **options):
    make = partial(torch.optim.AdamW, lr=rate)
    tuning = tunings.full() if tuning is None else tuning
    trainer = default_trainer(1, torch.device("cpu"))
    return prepare(loaded, splits, tuning, loader=LOADER, trainer=trainer, optimizer=make, **options)


@pytest.mark.parametrize(
    ("tuning", "kind"),
    [
        (tunings.full(), "weights"), (tunings.layers("first 2"), "weights"), (tunings.lora(r=2), "factors"),
        (tunings.bias(), "vectors"), (tunings.norm(), "vectors"),
        (tunings.neurons(choose="random", per_site=True, top=1), "rows"),
        (tunings.neurons(choose="random", per_site=True, top=1, freeze=True), "weights"),
        (tunings.mix(parts={"rows": tunings.neurons(choose="random", sites="*conv0"), "rest": tunings.norm()}), "rows"),
    ],
)  # fmt: skip
def test_the_rate_follows_from_what_trains(loaded, splits, tuning, kind):
    run = prepared(loaded, splits, tuning)
    assert kind_of(run.module.model, run.tuned.names) == kind
    assert run.learning_rate == loaded.model.recipe.learning_rate(kind, 1000)
    assert prepared(loaded, splits, tuning, rate=0.02).learning_rate == 0.02  # what the user gives wins


def test_an_output_layer_has_its_own_rate_only_if_it_is_a_small_part(wav2vec2, whisper, splits):
    tied = load_model(str(whisper), language="en").model  # the output layer is the embedding
    assert kind_of(tied, tunings.head()(tied, None).names) == "weights"
    small = load_model(str(wav2vec2)).model
    names = tunings.head()(small, None).names
    wide = torch.nn.Linear(1000, 1000)
    small.add_module("wide", wide)
    assert kind_of(small, names) == "head" and kind_of(small, (*names, "wide.weight")) == "weights"


def test_a_schedule_and_a_warm_up_that_are_given_win(loaded, splits):
    own = prepared(loaded, splits).module
    assert (own.schedule, own.warmup) == ("cosine", 0.1)
    given = prepared(loaded, splits, schedule="linear", warmup=0.0).module
    assert (given.schedule, given.warmup) == ("linear", 0.0)


def test_an_optimizer_without_a_rate_of_its_own_is_left_alone():
    assert lacks_rate(partial(torch.optim.AdamW, lr=None))
    assert not lacks_rate(partial(torch.optim.AdamW)) and not lacks_rate(torch.optim.Adagrad)
    assert not lacks_rate(partial(torch.optim.SGD, lr=0.0))


def test_fine_tune_says_what_it_fills_in_and_nothing_else(loaded, splits, caplog):
    few = replace(splits, train=splits.train[:1])
    with caplog.at_level(logging.INFO, "adapt"):
        adapted = fine_tune(loaded, few, tunings.norm(), schedule="constant")
    assert len(adapted.history) == 10  # epochs
    assert (
        "Defaults of Wav2Letter for biases or norms: learning_rate=0.003, epochs=10, warmup=0.1, "
        "speeds=[0.88,0.94,1,1.06,1.12]." in caplog.text
    )
    assert "for 10 epochs, at a learning rate of 0.003." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "adapt"):
        fine_tune(
            loaded, few, tunings.norm(), epochs=1, learning_rate=0.01, schedule="linear", warmup=0.0, loader=LOADER
        )
    assert "Defaults of" not in caplog.text and "for 1 epochs, at a learning rate of 0.01." in caplog.text


def test_the_defaults_do_not_destroy_a_real_whisper():
    """Two steps at the defaults leave a native speaker's words alone. At 1e-3, Wav2Letter's rate, they do not."""
    whisper, (first, *others) = load_model(str(whisper_tiny()), normalise=True), native_speech(3)

    def errors(loaded):
        task = loaded.model.task
        return task.score([first], decode_examples(loaded.model, task, [first], Loader())).values()["wer"]

    adapted = fine_tune(whisper, Splits(train=tuple(others)), epochs=1, loader=Loader(batch_size=1))
    assert errors(adapted.loaded) <= errors(whisper) + 0.1
    assert adapted.loaded.fingerprint != whisper.fingerprint


def test_a_fifth_is_replayed_where_there_are_source_data(loaded, splits, speech):
    both = replace(splits, source_train=read_splits(train=speech["low_train"]).train[:4])
    assert prepared(loaded, both).replay == 0.2
    assert prepared(loaded, both, replay=0.0).replay == 0.0  # what the user gives wins
    assert prepared(loaded, splits).replay == 0.0
    scratch = replace(loaded, reference="new")
    assert prepared(scratch, both).replay == 0.0
