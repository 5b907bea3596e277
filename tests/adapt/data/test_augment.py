"""Masks have the requested number and widths, set values to zero, and apply in training only."""

import pytest
import torch

from adapt.data.augment import SpecAugment
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape


def masked(augment, features=40, time=200, batch=16, seed=0):
    """Return where values are masked, as bool `(batch, features, time)`."""
    torch.manual_seed(seed)
    before = torch.rand(batch, features, time) + 1
    after = augment(before.clone())
    hidden = after == 0
    assert after.shape == before.shape and torch.equal(after[~hidden], before[~hidden])
    return hidden


def runs(row):
    """Return the lengths of the runs of True."""
    text = "".join("x" if value else " " for value in row.tolist())
    return [len(part) for part in text.split()]


def test_frequency_masks_are_bands_within_their_width():
    hidden = masked(SpecAugment(1, 8, 0, 0))
    assert torch.equal(hidden.any(2), hidden.all(2))  # a band is hidden all the time
    widths = [runs(row) for row in hidden.all(2)]
    assert all(len(width) <= 1 and sum(width) <= 8 for width in widths)
    assert len({sum(width) for width in widths}) > 3  # each example has its own


def test_time_masks_are_spans_within_their_width_and_share():
    hidden = masked(SpecAugment(0, 0, 1, 25, 0.2))
    assert torch.equal(hidden.any(1), hidden.all(1))
    widths = [sum(runs(row)) for row in hidden.all(1)]
    assert max(widths) <= 25 and len(set(widths)) > 3
    assert masked(SpecAugment(0, 0, 1, 1000, 0.1), time=50).all(1).sum(1).max() <= 5


def test_masks_add_up_to_a_bounded_share():
    hidden = masked(SpecAugment(2, 8, 2, 25, 0.2), batch=64)
    assert hidden.all(2).sum(1).max() <= 16 and hidden.all(1).sum(1).max() <= 50
    assert 0.1 < hidden.float().mean() < 1 - (1 - 16 / 40) * (1 - 50 / 200)


def test_none_is_the_identity():
    assert not masked(SpecAugment(0, 8, 0, 25)).any()
    assert not masked(SpecAugment(2, 0, 2, 0)).any()


def test_the_same_seed_hides_the_same():
    augment = SpecAugment()
    assert torch.equal(masked(augment, seed=1), masked(augment, seed=1))
    assert not torch.equal(masked(augment, seed=1), masked(augment, seed=2))


@pytest.mark.parametrize("features", [1, 4, 8])
def test_some_of_every_utterance_remains(features):
    """A network that reads waveforms has one feature."""
    hidden = masked(SpecAugment(), features=features, batch=64)
    assert not hidden.all(2).all(1).any()


def test_augmentation_is_the_identity_in_eval_mode():
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "layer"), Labels.of("ab"))
    batch = torch.randn(2, 8000), torch.tensor([8000, 5000])
    plain = model.train()(*batch).log_probs
    model.augment = SpecAugment()
    assert not torch.allclose(model.train()(*batch).log_probs, plain)
    state = torch.get_rng_state()
    assert torch.equal(model.eval()(*batch).log_probs, plain)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "arguments",
    [{"frequency_masks": -1}, {"time_masks": -1}, {"frequency_width": -1}, {"time_width": -1}, {"time_share": 0},
     {"time_share": 1.1}, {"time_share": float("nan")}],
)  # fmt: skip
def test_impossible_masks_are_an_input_error(arguments):
    with pytest.raises(InputError, match=f"{next(iter(arguments))} must be"):
        SpecAugment(**arguments)
