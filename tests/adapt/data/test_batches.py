"""Batches count what an example costs: for a network with a window, the window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.audio import AudioReader
from adapt.data.batches import BatchesByLength
from adapt.data.loader import Loader
from adapt.data.recording import Recording
from adapt.errors import InputError

RATE = 1000


@pytest.fixture
def digits():
    """46 digits of half a second: 24 s of speech."""
    return [Recording(np.full(520, 0.1, np.float32), RATE, text="seven") for _ in range(46)]


def counts(loader):
    return [len(keys) for keys in loader.batch_sampler]


def test_seconds_of_a_batch_are_those_that_the_network_reads(digits):
    whole, padded = AudioReader(RATE), AudioReader(RATE, window=30.0)
    assert counts(Loader().evaluation(digits, whole)) == [46]
    assert max(counts(Loader().evaluation(digits, padded))) == 8  # windows, unless asked for otherwise
    for loaded in (Loader(batch_seconds=60).evaluation, Loader(batch_seconds=60).validation):
        assert counts(loaded(digits, padded)) == [2] * 23
    assert counts(Loader(batch_seconds=60).training(digits, padded)) == [2] * 23
    assert counts(Loader(batch_seconds=60).once(digits, padded, [(n, 1.0) for n in range(5)])) == [2, 2, 1]
    assert set(counts(Loader(batch_seconds=24).evaluation(digits, padded))) == {1}
    assert counts(Loader(batch_seconds=300, batch_size=4).evaluation(digits[:8], padded)) == [4, 4]


@given(st.lists(st.floats(0.1, 30.0), max_size=60), st.floats(0.5, 200.0), st.booleans())
def test_windows_keep_to_the_bound(lengths, bound, shuffle):
    sampler = BatchesByLength(lengths, bound, shuffle, 0, window=30.0)
    for batch in sampler.every():
        assert len(batch) == 1 or 30.0 * len(batch) <= bound
        assert sampler.size(batch) == 30.0 * len(batch)


def test_the_bound_of_a_loader_in_each_unit():
    audio, padded = AudioReader(RATE), AudioReader(RATE, window=30.0)
    assert Loader().bound(audio) == 24 and Loader().bound(padded) == 240
    assert Loader(batch_seconds=7).bound(padded) == 7
    assert Loader().bounded(audio, 100).bound(audio) == 24 and Loader().bounded(padded, 100).bound(padded) == 100


@pytest.mark.parametrize("memory", [-1, "much", float("nan")])
def test_a_budget_is_a_number_of_gigabytes(memory):
    with pytest.raises(InputError, match="memory"):
        Loader(memory=memory)
