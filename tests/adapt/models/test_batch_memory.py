"""Batches keep to a budget of memory, which is measured on one example."""

import logging

import pytest
import torch

import adapt.models.devices
from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.batch_memory import keep_within_memory
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.inference import decode_examples
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.start import loader_options
from interventions.freeze import freeze_all_but


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "none"), Labels.of(" ab"))


def spoken(rate, count=8, seconds=1.0):
    draw = torch.Generator().manual_seed(0)
    samples = (0.1 * torch.randn(round(rate * seconds), generator=draw)).numpy()
    return [Recording(samples, rate, text="ab") for _ in range(count)]


def sizes(loader, examples, model):
    return [len(keys) for keys in loader.evaluation(examples, model.reader).batch_sampler]


def needed(caplog, *arguments, **options):
    """The number of GB that a batch takes, as it is logged, and the loader."""
    with caplog.at_level(logging.INFO):
        loader = keep_within_memory(*arguments, **options)
    value, unit = caplog.messages[-1].split("about ")[1].split()[:2]
    return float(value) * {"kB": 1e-6, "MB": 1e-3, "GB": 1.0}[unit], loader


def audio_model(name, request):
    if name == "small":
        return request.getfixturevalue(name)
    return hf_speech_seq2seq(str(request.getfixturevalue(name)), language="de").model


@pytest.mark.parametrize("family", ["small", "whisper"])
@pytest.mark.parametrize("trains", [True, False])
def test_half_the_budget_halves_the_batch(family, trains, request, caplog):
    model = audio_model(family, request)
    examples = spoken(model.sample_rate)
    whole = Loader(batch_size=8, batch_seconds=8 * (model.reader.window or 1.0))
    gigabytes, loader = needed(caplog, model, examples, whole, trains=trains)
    assert loader == whole and sizes(loader, examples, model) == [8]
    assert "Batches of up to 8 utterances, about" in caplog.messages[-1]
    assert ("A training step takes about" in caplog.messages[-1]) == trains
    each = _exactly(model, examples[:1], trains)
    assert gigabytes == pytest.approx(8 * each / 1e9, rel=0.02)
    half = Loader(batch_size=8, batch_seconds=whole.batch_seconds, memory=4.01 * each / 1e9)
    assert sizes(keep_within_memory(model, examples, half, trains=trains), examples, model) == [4, 4]


def _exactly(model, examples, trains):
    """The bytes of one example, by bisection of the budget that it needs by itself."""
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        try:
            keep_within_memory(model, examples, Loader(memory=middle), trains=trains)
            high = middle
        except InputError:
            low = middle
    return high * 1e9


def test_an_example_that_does_not_fit_by_itself_is_refused(small, monkeypatch):
    examples = spoken(small.sample_rate, 3)
    with pytest.raises(InputError, match=r"The longest utterance \(1 s\) does not fit .*: memory=1e-06. Give"):
        keep_within_memory(small, examples, Loader(memory=1e-6))
    monkeypatch.setattr(adapt.models.devices, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="even by itself: 1 kB are free"):
        keep_within_memory(small, examples, Loader())


def test_without_a_budget_batches_that_do_not_fit_are_refused(small, monkeypatch):
    examples = spoken(small.sample_rate)
    each = _exactly(small, examples[:1], True)
    monkeypatch.setattr(adapt.models.devices, "available_memory", lambda: int(5 * each))
    with pytest.raises(InputError, match="Batches of up to 8 utterances need about .* are free. Give a smaller batch_"):
        keep_within_memory(small, examples, Loader())
    assert sizes(keep_within_memory(small, examples, Loader(memory=5.01 * each / 1e9)), examples, small) == [5, 3]


def test_frozen_layers_keep_nothing(small):
    examples = spoken(small.sample_rate)
    whole = _exactly(small, examples, True)
    freeze_all_but(small, [name for name, _ in small.named_parameters() if name.startswith(small.head)])
    assert _exactly(small, examples, True) < 0.5 * whole


def test_measuring_changes_nothing(small):
    small.train()
    small.requires_grad_(False)
    before, state = {name: own.clone() for name, own in small.state_dict().items()}, torch.get_rng_state()
    for trains in (True, False):
        keep_within_memory(small, spoken(small.sample_rate), Loader(), trains=trains)
    assert torch.equal(torch.get_rng_state(), state) and small.training
    assert not any(own.requires_grad or own.grad is not None for own in small.parameters())
    assert all(torch.equal(own, before[name]) for name, own in small.state_dict().items())


def test_text_is_bounded_in_tokens(marian):
    model = load_model(str(marian)).model
    pairs = [Pair("a b a b", "b a b a") for _ in range(8)]
    each = _exactly(model, pairs[:1], True)
    assert sizes(keep_within_memory(model, pairs, Loader(memory=4.01 * each / 1e9)), pairs, model) == [4, 4]


def test_decoding_keeps_to_the_budget_and_writes_the_same(small):
    examples = [*spoken(small.sample_rate, 4), *spoken(small.sample_rate, 2, 0.6)]
    examples[0] = Recording(examples[0].samples, small.sample_rate, text="ü")  # a text that the model cannot write
    texts = decode_examples(small, small.task, examples, Loader())
    assert decode_examples(small, small.task, examples, Loader(memory=0.01)) == texts
    with pytest.raises(InputError, match="does not fit into memory"):
        decode_examples(small, small.task, examples, Loader(memory=1e-6))


def test_a_budget_is_an_option_that_a_resumed_run_must_keep():
    assert "memory" not in loader_options(Loader()) and loader_options(Loader(memory=2))["memory"] == 2
