"""The CTC loss, the alignment, greedy decoding, and the minimum number of steps of a target."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchaudio.functional import forced_align

from adapt.data.loader import Batch, collate
from adapt.data.manifest import Utterance
from adapt.models.ctc import ctc_decode, ctc_loss, ctc_path, ctc_steps
from adapt.models.labels import Labels
from adapt.models.wav2letter import Emissions, Wav2LetterCTC, Wav2LetterShape

TEXTS = ["ab ba", "a", "bb", "abab a"]
SAMPLES = [4000, 1600, 2000, 6000]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels(("a", "b", "", " "), 2)).eval()


def batch_of(numbers):
    draw = torch.Generator().manual_seed(3)
    audio = [torch.randn(samples, generator=draw) for samples in SAMPLES]
    return collate([(Utterance(f"{n}.wav", TEXTS[n]), audio[n]) for n in numbers])


@given(st.lists(st.integers(1, 3), max_size=8))
def test_steps_are_exact(target):
    """torch's loss is infinite for fewer steps, and finite otherwise."""

    def loss(steps):
        uniform = torch.full((steps, 1, 4), 0.25).log()
        lengths = torch.tensor([steps]), torch.tensor([len(target)])
        return nn.functional.ctc_loss(uniform, torch.tensor([target], dtype=torch.long), *lengths, reduction="sum")

    steps = ctc_steps(target)
    assert torch.isfinite(loss(max(steps, 1)))
    if steps > 1:
        assert torch.isinf(loss(steps - 1))


@pytest.mark.parametrize(
    ("target", "steps"), [([], 0), ([1], 1), ([1, 1], 3), ([1, 2, 1], 3), ([1, 1, 1], 5), ([2, 2, 1, 1], 6)]
)
def test_steps_of_examples(target, steps):
    assert ctc_steps(target) == steps


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 6), st.integers(0, 10**6))
def test_the_alignment_is_that_of_torchaudio(target, spare, seed):
    steps = ctc_steps(target) + spare
    log_probs = torch.randn(steps, 6, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    expected, _ = forced_align(log_probs.unsqueeze(0), torch.tensor([target]), blank=0)
    assert ctc_path(log_probs, target, 0).tolist() == expected[0].tolist()


def test_the_loss_of_a_batch_is_the_mean_of_its_utterances(model):
    with torch.inference_mode():
        together = ctc_loss(model, batch_of([0, 1, 2, 3]))
        alone = [ctc_loss(model, batch_of([n])) for n in range(4)]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-4, rtol=1e-4)
    assert len({round(float(loss), 4) for loss in alone}) == 4


def test_the_loss_does_not_see_padding(model):
    batch = batch_of([0, 1, 3])
    wider = Batch(nn.functional.pad(batch.inputs, (0, 5000)), batch.lengths, batch.examples)
    with torch.inference_mode():
        torch.testing.assert_close(ctc_loss(model, wider), ctc_loss(model, batch), atol=1e-4, rtol=1e-4)
        assert ctc_decode(model, wider) == ctc_decode(model, batch)


def test_the_loss_falls_when_it_is_followed(model):
    batch = batch_of([0, 1, 2, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = ctc_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_batch_of_empty_targets_has_a_loss(model):
    batch = batch_of([1])
    batch = Batch(batch.inputs, batch.lengths, [Utterance("a.wav", "")])
    assert torch.isfinite(ctc_loss(model, batch))


class Fixed(nn.Module):
    """A model that outputs given paths for any input."""

    def __init__(self, labels, paths):
        super().__init__()
        self.labels, self.paths = labels, paths
        self.encode, self.decode, self.blank = labels.encode, labels.decode, labels.blank

    def forward(self, audio, lengths):
        steps = torch.tensor([len(path) for path in self.paths])
        units = nn.utils.rnn.pad_sequence([torch.tensor(p) for p in self.paths], batch_first=True, padding_value=1)
        return Emissions(nn.functional.one_hot(units, len(self.labels)).float() * 5, steps)


def test_greedy_decoding_stops_at_each_utterances_end():
    labels = Labels.of("ab")
    paths = [[1, 1, 0, 1, 2, 2], [2], [0, 0], [2, 1, 2]]  # padded with 'a', which must not be decoded
    assert ctc_decode(Fixed(labels, paths), batch_of([0, 1, 2, 3])) == ["aab", "b", "", "bab"]
    assert [labels.decode(path) for path in paths] == ["aab", "b", "", "bab"]
