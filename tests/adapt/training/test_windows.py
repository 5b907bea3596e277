"""Batches that are accumulated, or shared among processes, give the gradient of one batch with all their examples."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_hf import save_whisper
from small_mt import save_translation

from adapt.data.loader import Loader, collate
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.module import AdaptationModule
from adapt.training.windows import window_weights

TEXTS = ["ab", "b a", "abba", "a", "aa b", "b", "ab ab ab", "ba"]


def ctc(folder):
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "none"), Labels.of(" ab"))


FAMILIES = {
    "ctc": ctc,
    "whisper": lambda folder: hf_speech_seq2seq(str(save_whisper(folder)), language="de").model,
    "translation": lambda folder: load_model(str(save_translation(folder, dropout=0.0))).model,
}


@pytest.mark.parametrize(
    ("counts", "window", "ranks", "rank", "steps", "expected"),
    [
        ([3, 3, 3, 3], 2, 1, 0, 4, [1, 1, 1, 1]),
        ([3, 3, 3], 2, 1, 0, 3, [1, 1, 2]),  # the last window has one batch of two, and Lightning halves its loss
        ([3, 1], 2, 1, 0, 2, [1.5, 0.5]),
        ([5, 1, 2], 1, 1, 0, 3, [1, 1, 1]),
        ([3, 1, 2], 1, 2, 0, 2, [1.5, 2]),
        ([3, 1, 2], 1, 2, 1, 2, [0.5, 0]),  # the fourth batch is the first one again
        ([1, 2, 3, 2, 4, 1, 3], 2, 2, 1, 4, [1, 1, 0.5, 0]),
        ([4, 4, 4], 4, 1, 0, 2, [2, 2]),  # trainer.limit_train_batches=2
    ],
)
def test_the_weights(counts, window, ranks, rank, steps, expected):
    assert window_weights(counts, window, ranks, rank, steps) == pytest.approx(expected)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 5), st.integers(1, 3))
def test_in_each_window_an_example_of_any_batch_counts_the_same(counts, window, ranks):
    steps = -(-len(counts) // ranks)
    weights = [window_weights(counts, window, ranks, rank, steps) for rank in range(ranks)]
    for first in range(0, steps, window):
        inside = range(first, min(first + window, steps))
        places = [(step * ranks + rank, weights[rank][step]) for step in inside for rank in range(ranks)]
        assert sum(weight for _, weight in places) == pytest.approx(window * ranks)
        each = {round(weight / counts[place], 9) for place, weight in places if place < len(counts)}
        assert len(each) == 1 and all(weight == 0 for place, weight in places if place >= len(counts))


class Steps(pl.Callback):
    """Keeps the gradient of each step, and which examples it saw."""

    def __init__(self):
        self.seen, self.steps = [], []

    def on_train_batch_start(self, trainer, module, batch, number):
        self.seen.extend(batch.examples)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        gradients = [own.grad.clone() for own in module.model.parameters() if own.grad is not None]
        self.steps.append((self.seen, gradients))
        self.seen = []


def examples_of(model):
    draw = torch.Generator().manual_seed(0)
    if model.reader.unit == "tokens":
        return [Pair("ada dab"[: 3 + number % 5], f"hi {text}") for number, text in enumerate(TEXTS)]
    return [
        Recording(torch.randn(4000 + 1500 * number, generator=draw).numpy() / 9, 16_000, text, name=str(number))
        for number, text in enumerate(TEXTS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("replay", [0.0, 0.4])
@pytest.mark.parametrize("window", [2, 3, 100])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_follows_the_mean_over_its_examples(family, window, replay, tmp_path):
    model = FAMILIES[family](tmp_path / "model").eval()
    examples = examples_of(model)
    loader = Loader(batch_seconds=1.5, batch_tokens=16)
    steps = Steps()
    module = AdaptationModule(
        model, model.task, lambda groups: torch.optim.SGD(groups, lr=0.0), penalty=Weight(model), warmup=0.0
    )
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, accumulate_grad_batches=window, callbacks=[steps], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = loader.training(examples[2:], model.reader, examples[:2], replay)
    trainer.fit(module, data)
    batches = len(data)
    assert batches >= 4 and len(steps.steps) == 2 * -(-batches // window)
    assert {len(seen) for seen, _ in steps.steps} - {1}
    for seen, gradients in steps.steps:
        large = collate([(example, model.reader.read(example)) for example in seen])
        model.zero_grad()
        (model.task.loss(model, large) + module.penalty()).backward()
        expected = [own.grad for own in model.parameters() if own.grad is not None]
        found, right = (torch.cat([own.flatten().double() for own in one]) for one in (gradients, expected))
        assert len(found) == len(right) and float((found - right).norm()) < 5e-5 * float(right.norm())


class Weight(torch.nn.Module):
    """A penalty, which is the same for every batch: half the square of the weights."""

    def __init__(self, model):
        super().__init__()
        self.own = [list(model.parameters())]

    def forward(self):
        return 0.05 * sum(own.square().sum() for own in self.own[0] if own.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["whisper", "translation"])
def test_the_terms_of_an_example_are_those_of_the_loss(family, tmp_path):
    model = FAMILIES[family](tmp_path / "model").eval()
    examples = examples_of(model)[:5]
    alone = [collate([(one, model.reader.read(one))]) for one in examples]
    together = collate([(one, model.reader.read(one)) for one in examples])
    terms = [model.task.terms(model, one) for one in examples]
    with torch.no_grad():
        mean = sum(n * model.task.loss(model, batch) for n, batch in zip(terms, alone, strict=True)) / sum(terms)
        torch.testing.assert_close(model.task.loss(model, together), mean, rtol=1e-5, atol=1e-6)


def test_without_accumulation_no_bit_of_the_loss_changes():
    module = AdaptationModule(ctc(None), replace(ctc(None).task), lambda groups: torch.optim.SGD(groups, lr=0.0))
    module._trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1, train_dataloader=None)
    assert module._window_weights() == []
