"""Test-time adaptation: the loss is that of the formula, and the model is restored bit for bit."""

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.state import model_fingerprint
from adapt.unlabelled.entropy import Entropy, adapted_parameters, adapted_to, adapting, entropy_loss, minimise


@pytest.fixture(scope="module")
def examples(speech):
    return read_manifest(speech["high_test"])[0][:4]


@pytest.fixture
def loaded(base):
    return load_model(str(base))


def batch_of(model, examples):
    return next(iter(Loader(batch_seconds=60).evaluation(examples, model.reader)))


def test_the_loss_is_the_formula():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]])
    p = (logits / 2).softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    weight = 1 + (-entropy).exp()
    weight = 2 * weight / weight.sum()
    confusion = (p * weight.unsqueeze(-1)).T @ p
    confusion = confusion / confusion.sum(1, keepdim=True)
    between = (confusion.sum() - confusion.trace()) / 3
    expected = 0.3 * entropy.mean() + 0.7 * between
    assert entropy_loss(logits, Entropy(temperature=2, weight=0.3)).item() == pytest.approx(expected.item(), rel=1e-5)
    assert entropy_loss(100 * logits, Entropy(weight=1.0)) < 1e-3  # a sure model has no entropy


def test_minimising_lowers_the_entropy_and_changes_nothing_else(loaded, examples):
    model = loaded.model
    batch = batch_of(model, examples)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    options = Entropy(steps=1, learning_rate=1e-3)
    first = minimise(model, batch, options)
    later = [minimise(model, batch, options) for _ in range(6)][-1]
    assert later < first
    changed = {name for name, one in model.state_dict().items() if not torch.equal(one, before[name])}
    assert changed <= adapted_parameters(model, options).keys()
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


def test_the_model_is_restored_bit_for_bit_even_after_an_error(loaded, examples):
    model, task = loaded.model, loaded.model.task
    for mode in ("utterance", "continual"):
        with adapting(model, mode):
            texts = decode_examples(model, model.task, examples, Loader())
        assert len(texts) == len(examples)
        assert model_fingerprint(model) == loaded.fingerprint and model.task is task
    with pytest.raises(ValueError), adapted_to(model, batch_of(model, examples), Entropy()):
        raise ValueError
    assert model_fingerprint(model) == loaded.fingerprint


def test_an_utterance_alone_depends_on_no_other(loaded, examples):
    model = loaded.model
    with adapting(model, "utterance", Entropy(learning_rate=1e-2)):
        together = decode_examples(model, model.task, examples, Loader())
        alone = [decode_examples(model, model.task, [one], Loader())[0] for one in examples]
    assert together == alone
    with adapting(model, "none"):
        assert decode_examples(model, model.task, examples, Loader()) != together


@pytest.mark.slow
def test_a_decoder_adapts_and_is_restored(whisper, examples):
    loaded = load_model(str(whisper))
    batch = batch_of(loaded.model, examples[:1])
    before = model_fingerprint(loaded.model)
    assert minimise(loaded.model, batch, Entropy(steps=1, adapts="norms")) > 0
    assert model_fingerprint(loaded.model) != before
    with adapting(loaded.model, "utterance", Entropy(steps=1, adapts="norms")):
        assert len(decode_examples(loaded.model, loaded.model.task, examples[:1], Loader())) == 1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"temperature": 0}, {"weight": 2}, {"adapts": "all"}])
def test_wrong_options_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Entropy(**wrong)


def test_an_unknown_mode_is_an_error(loaded):
    with pytest.raises(InputError, match="test_time"), adapting(loaded.model, "always"):
        pass


def test_an_error_in_a_step_leaves_what_trains_as_it_was(loaded, examples, monkeypatch):
    model = loaded.model
    frozen = next(model.parameters()).requires_grad_(False)

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("adapt.unlabelled.entropy.entropy_loss", fails)
    with pytest.raises(KeyboardInterrupt):
        minimise(model, batch_of(model, examples), Entropy())
    assert [one for one in model.parameters() if not one.requires_grad] == [frozen]
    frozen.requires_grad_(True)
