"""The loss with weighted tokens: the usual loss where all count the same, and blind to tokens of weight 0."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.models.checkpoint import load_model
from adapt.models.seq2seq import references, seq2seq_loss
from adapt.unlabelled.back_translation import back_translated, translate_back
from adapt.unlabelled.labels import WEIGHTS, Filters, agreement_of, choose
from adapt.unlabelled.reading import Reading, read, texts_with_dropout
from adapt.unlabelled.weighted import token_weights, trusting, weighted_loss

pytestmark = pytest.mark.slow
PAIRS = [Pair("ada dab gab", "bea ebb"), Pair("cid fed", "ada")]


@pytest.fixture(scope="module")
def model(marian):
    return load_model(str(marian)).model


def batch_of(model, pairs):
    return next(iter(Loader().evaluation(pairs, model.reader)))


def test_equal_weights_give_the_usual_loss_and_zero_hides_a_token(model):
    batch = batch_of(model, PAIRS)
    torch.testing.assert_close(weighted_loss(model, batch), seq2seq_loss(model, batch))
    targets = references(model, batch.examples)
    count = int((targets[0] != -100).sum())
    hidden = replace(batch.examples[0], extra={WEIGHTS: (1.0,) + (0.0,) * (count - 1)})
    one = batch_of(model, [hidden])
    logits = model(one.inputs, one.lengths, references(model, [hidden]))
    first = -logits[0, 0].log_softmax(-1)[targets[0, 0]]
    torch.testing.assert_close(weighted_loss(model, one), first)
    wrong = replace(hidden, extra={WEIGHTS: (0.0,)})  # of another text
    assert token_weights([wrong], references(model, [wrong])).min() == 1


def test_copies_made_inside_train_with_the_weighted_loss(model):
    task = model.task
    with trusting(model):
        assert model.task.loss is weighted_loss
    assert model.task is task


def test_reading_and_translating_back(model):
    readings = read(model, PAIRS, Loader())
    assert all(0 <= one.confidence <= 1 and len(one.trust) > 1 for one in readings if one.text)
    back = translate_back(model, ["ada dab", "", "cid"], Loader())
    assert len(back) == 3 and back[1] == ""
    assert [pair.target for pair in back_translated(model, ["ada dab", "cid"], Loader())] == ["ada dab", "cid"]
    agreements = agreement_of(model, PAIRS, ["ada", ""], Loader(), reverse=model)
    assert agreements[1] == 0 and 0 <= agreements[0] <= 1


def test_dropout_is_seeded_and_switched_off_again(model):
    first = texts_with_dropout(model, PAIRS, Loader(), 0)
    assert first == texts_with_dropout(model, PAIRS, Loader(), 0)
    assert not any(one.training for one in model.modules())


def test_weights_count_for_recordings_and_beside_timestamps(whisper, monkeypatch):
    """A recording in memory is weighted as a file is, and the timestamps that a Whisper learns are in the loss."""
    model = load_model(str(whisper)).model
    audio = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    plain = Recording(audio, 16_000, "abba", extra={"lang": "en"})
    count = len(model.target(plain))
    weights = (1.0,) * (count - 2) + (0.0, 1.0)
    example = replace(plain, extra={**plain.extra, WEIGHTS: weights})
    assert token_weights([example], references(model, [example])).tolist() == [list(weights)]
    assert weighted_loss(model, batch_of(model, [example])) != weighted_loss(model, batch_of(model, [plain]))
    (labelled,) = choose(model, [plain], [Reading("abba", 1.0, trust=weights)], [1.0], Filters()).examples
    assert labelled.extra[WEIGHTS] == weights

    timed = [*model.target(plain)[:-1], 5, model.target(plain)[-1]]  # a token before the end
    monkeypatch.setattr(type(model), "training_target", lambda self, example, length: timed)
    batch = batch_of(model, [plain])
    torch.testing.assert_close(weighted_loss(model, batch), seq2seq_loss(model, batch))
    assert token_weights([example], torch.tensor([timed])).tolist() == [[*weights[:-1], 1.0, 1.0]]
