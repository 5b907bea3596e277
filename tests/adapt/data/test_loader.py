"""Batches have every utterance once, keep to the bound, and depend on the seed and the epoch only."""

import itertools

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.audio import AudioReader, read_audio
from adapt.data.batches import BatchesByLength
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Utterance
from adapt.errors import InputError

RATE = 16_000
SECONDS = [0.1 + 0.013 * n for n in range(14)]


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    made = []
    for number, seconds in enumerate(SECONDS):
        path = folder / f"{number}.wav"
        soundfile.write(path, draw.normal(0, 0.1, round(seconds * RATE)), RATE)
        made.append(Utterance(path, str(number), duration=seconds if number % 2 else None))
    return made


def texts(loader):
    return [[u.text for u in batch.examples] for batch in loader]


@given(
    st.lists(st.floats(0.1, 30.0), max_size=60),
    st.floats(0.5, 60.0),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_every_utterance_once_and_no_batch_too_long(seconds, bound, shuffle, seed, epoch):
    sampler = BatchesByLength(seconds, bound, shuffle, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert sorted(batch_item for batch in batches for batch_item in batch) == [(n, epoch) for n in range(len(seconds))]
    for batch in batches:
        longest = max(seconds[number] for number, _ in batch)
        assert len(batch) == 1 or longest * len(batch) <= bound


def test_an_utterance_longer_than_the_bound_has_a_batch_of_its_own():
    batches = list(BatchesByLength([1.0, 9.0, 1.0, 1.0], 3.0, shuffle=False, seed=0))
    assert batches == [[(1, 0)], [(0, 0), (2, 0), (3, 0)]]


def test_a_batch_has_at_most_so_many_examples_and_still_keeps_to_the_bound(utterances):
    reader = AudioReader(RATE)
    for most in (1, 3, 100):
        loader = Loader(batch_seconds=1.5, batch_size=most)
        plain = texts(Loader(batch_seconds=1.5).evaluation(utterances, reader))
        for made in (loader.evaluation(utterances, reader), loader.training(utterances, reader)):
            batches = texts(made)
            assert max(map(len, batches)) <= most and sorted(sum(batches, [])) == sorted(map(str, range(len(SECONDS))))
            assert all(max(SECONDS[int(n)] for n in one) * len(one) <= 1.5 for one in batches if len(one) > 1)
        assert (texts(loader.evaluation(utterances, reader)) == plain) == (most == 100)
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1; got 0"):
        Loader(batch_size=0)


def test_batches_depend_on_seed_and_epoch():
    def batches(seed, epoch, shuffle=True):
        sampler = BatchesByLength([1 + n / 50 for n in range(50)], 8.0, shuffle, seed)
        sampler.set_epoch(epoch)
        return [[number for number, _ in batch] for batch in sampler]

    assert batches(1, 2) == batches(1, 2)
    drawn = [batches(seed, epoch) for seed, epoch in itertools.product(range(3), range(3))]
    assert all(one != other for one, other in itertools.combinations(drawn, 2))
    composed = [{frozenset(batch) for batch in batches(1, epoch)} for epoch in (0, 1)]
    assert composed[0] != composed[1]  # not only their order
    assert batches(1, 0, shuffle=False) == batches(2, 5, shuffle=False)


def test_evaluation_reads_longest_first_and_all_once(utterances):
    loader = Loader(batch_seconds=0.5, speeds=[0.5, 2.0]).evaluation(utterances, AudioReader(RATE))
    lengths = [length for batch in loader for length in batch.lengths.tolist()]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == len(utterances)
    assert texts(loader) == texts(loader)


def test_training_reads_all_once_in_each_epoch(utterances):
    loader = Loader(batch_seconds=0.5).training(utterances, AudioReader(RATE))
    epochs = []
    for epoch in range(3):
        loader.batch_sampler.set_epoch(epoch)
        epochs.append(texts(loader))
        assert sorted(itertools.chain(*epochs[-1])) == sorted(u.text for u in utterances)
        assert len(loader) == len(epochs[-1])
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("speeds", [(1.0,), (1.1,), (0.8,)])
def test_the_padded_length_keeps_to_the_bound(utterances, speeds):
    """Slower speech is longer, and the bound applies to the longer duration."""
    bound = 0.6
    for epoch in range(3):
        loader = Loader(batch_seconds=bound, speeds=speeds).training(utterances, AudioReader(RATE))
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            assert len(batch.examples) == 1 or batch.inputs.numel() <= bound * RATE + len(batch.examples)


def test_audio_is_that_of_the_files_and_zero_past_each_end(utterances):
    for batch in Loader(batch_seconds=1.0).training(utterances, AudioReader(RATE)):
        for samples, length, utterance in zip(batch.inputs, batch.lengths, batch.examples, strict=True):
            assert torch.equal(samples[:length], read_audio(utterance, RATE)) and not samples[length:].any()
        assert batch.inputs.shape == (len(batch.examples), batch.lengths.max())


def test_reading_leaves_the_global_random_state(utterances):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for loader in (
        Loader(speeds=[0.9, 1.1]).training(utterances, AudioReader(RATE)),
        Loader().evaluation(utterances, AudioReader(RATE)),
    ):
        for _ in range(2):
            texts(loader)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()


def lengths_by_text(loader):
    return {u.text: n for batch in loader for u, n in zip(batch.examples, batch.lengths.tolist(), strict=True)}


def test_speeds_change_lengths_and_differ_between_epochs(utterances):
    speeds = [0.9, 1.0, 1.1]
    drawn = []
    for epoch in (0, 1, 0):
        loader = Loader(batch_seconds=1.0, speeds=speeds, seed=4).training(utterances, AudioReader(RATE))
        loader.batch_sampler.set_epoch(epoch)
        ratios = {text: n / round(SECONDS[int(text)] * RATE) for text, n in lengths_by_text(loader).items()}
        nearest = {
            text: min(speeds, key=lambda speed, own=ratio: abs(1 / speed - own)) for text, ratio in ratios.items()
        }
        assert all(abs(ratios[text] - 1 / speed) < 2e-3 for text, speed in nearest.items())
        assert set(nearest.values()) == set(speeds)
        drawn.append(nearest)
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_speed_shifts_the_pitch_up(tmp_path):
    """Speed perturbation (Ko et al. 2015) changes the pitch: at 1.1 times the speed, audio is shorter and higher."""
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE) / 2, RATE)
    (batch,) = Loader(speeds=[1.1]).training([Utterance(tmp_path / "a.wav", "a")], AudioReader(RATE))
    audio = batch.inputs[0]
    hertz = torch.fft.rfft(audio * torch.hann_window(len(audio))).abs().argmax() * RATE / len(audio)
    assert len(audio) == pytest.approx(RATE / 1.1, abs=2) and hertz == pytest.approx(440, abs=2)


@pytest.mark.slow
def test_workers_read_the_same(utterances):
    batches = []
    for workers in (0, 2):
        loader = Loader(batch_seconds=0.7, speeds=[0.9, 1.1], workers=workers).training(utterances, AudioReader(RATE))
        loader.batch_sampler.set_epoch(1)
        batches.append(
            [(texts, b.inputs.clone(), b.lengths.clone()) for b in loader for texts in [[u.text for u in b.examples]]]
        )
    for one, other in zip(*batches, strict=True):
        assert one[0] == other[0] and torch.equal(one[2], other[2])
        torch.testing.assert_close(
            one[1], other[1], atol=1e-6, rtol=0
        )  # a worker has one thread, which adds in another order


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_all_batches_evenly(monkeypatch, ranks):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda own=rank: own)
        shares.append([tuple(batch) for batch in BatchesByLength([1.0 + n / 9 for n in range(11)], 4.0, True, 0)])
    assert len({len(share) for share in shares}) == 1
    assert {number for share in shares for batch in share for number, _ in batch} == set(range(11))


def test_collate_pads_with_zeros():
    pair = [Utterance("a", "a"), Utterance("b", "b")]
    batch = collate([(pair[0], torch.ones(3)), (pair[1], torch.ones(5))])
    assert batch.inputs.tolist() == [[1, 1, 1, 0, 0], [1] * 5] and batch.lengths.tolist() == [3, 5]
    assert batch.examples == pair
    moved = batch.to("meta")
    assert moved.inputs.device.type == moved.lengths.device.type == "meta" and moved.examples == pair


@given(st.lists(st.floats(0.05, 30), min_size=1, max_size=60), st.integers(0, 5))
def test_every_epoch_has_the_same_number_of_batches(seconds, epoch):
    """Lightning counts them only once, and would skip the validation of an epoch with fewer."""
    batches = BatchesByLength(seconds, 24.0, shuffle=True, seed=3)
    first = [len(batch) for batch in sorted(batches, key=lambda batch: -seconds[batch[0][0]])]
    batches.set_epoch(epoch)
    again = [len(batch) for batch in sorted(batches, key=lambda batch: -seconds[batch[0][0]])]
    assert len(batches) == len(first) == len(again) and sum(first) == sum(again) == len(seconds)
