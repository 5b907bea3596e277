"""What only decoding finds is never trained on: it stops the run by name, or is left out, the same in every run."""

import numpy as np
import pytest
import soundfile
import torch

from adapt.data.audio import AudioReader
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, Utterance
from adapt.data.splits import check_splits
from adapt.data.unread import Unread
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape

RATE = 16_000


def damage(path, how):
    samples = np.random.default_rng(0).normal(0, 0.1, RATE)
    if how == "NaN":
        samples[9_000] = np.nan
        soundfile.write(path, samples, RATE, format="WAV", subtype="FLOAT")
    else:
        soundfile.write(path, samples, RATE, format="FLAC")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.fixture(params=["NaN", "cut"])
def utterances(request, tmp_path):
    """Six utterances, of which the fourth is damaged inside of the file."""
    for n in range(6):
        soundfile.write(tmp_path / f"{n}.wav", np.random.default_rng(n).normal(0, 0.1, RATE), RATE)
    paths = [tmp_path / f"{n}.wav" for n in range(6)]
    paths[3] = damage(tmp_path / "damaged", request.param)
    return tuple(Utterance(path, "ab", where=f"m:{n}") for n, path in enumerate(paths))


@pytest.fixture(scope="module")
def model():
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12), Labels.of(" ab"))


def test_headers_pass_it_in_training_data_and_decoding_finds_it_elsewhere(model, utterances):
    splits, skipped = check_splits(Splits(train=utterances), model, check="headers")
    assert splits.train == utterances and skipped == []
    for part in ("validation", "test", "source_test", "source_validation"):
        with pytest.raises(InputError, match=r"m:3: .*damaged'"):
            check_splits(Splits(**{part: utterances}), model, check="headers")
    with pytest.raises(InputError, match=r"m:3: .*damaged'"):
        check_splits(Splits(train=utterances), model, check="full")


@pytest.mark.parametrize("kind", ["training", "validation", "evaluation", "once"])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_stops_every_pass_by_name(utterances, kind, workers):
    loader, reader = Loader(batch_seconds=2, workers=workers), AudioReader(RATE)
    more = [[(n, 1.0) for n in range(6)]] if kind == "once" else []
    with pytest.raises(InputError, match=r"^m:3: '.*damaged' [^\n]*$"):
        list(getattr(loader, kind)(utterances, reader, *more))


def epochs(utterances, unread, seconds, first=0, last=3):
    batches = Loader(batch_seconds=seconds, speeds=(0.9, 1.0, 1.1)).training(
        utterances, AudioReader(RATE), unread=unread
    )
    for epoch in range(first, last):
        batches.batch_sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        yield list(batches)


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_on_request_it_is_left_out_and_reported_once(utterances, seconds):
    unread = Unread("skip")
    for batches in epochs(utterances, unread, seconds):
        names = [example.where for batch in batches for example in batch.examples]
        assert "m:3" not in names and {*names} == {f"m:{n}" for n in (0, 1, 2, 4, 5)}
        assert all(len(batch.examples) == len(batch.lengths) > 0 for batch in batches)
        assert all(torch.isfinite(batch.inputs).all() for batch in batches)
    assert list(unread.found) == ["m:3"] and "damaged" in unread.found["m:3"]


def test_every_epoch_keeps_its_number_of_batches_and_a_resumed_one_is_the_same(utterances):
    whole = list(epochs(utterances, Unread("skip"), 1.0))
    assert {len(batches) for batches in whole} == {6}
    (again,) = epochs(utterances, Unread("skip"), 1.0, first=2)
    for one, other in zip(whole[2], again, strict=True):
        assert one.examples == other.examples and torch.equal(one.inputs, other.inputs)


def test_stop_says_what_to_do(utterances):
    with pytest.raises(InputError, match=r"m:3: (?s:.*)data.on_error=skip.*data.check=full"):
        list(epochs(utterances, Unread("stop"), 4.0))


def test_nothing_left_is_an_error(utterances):
    with pytest.raises(InputError, match="None of the 2 examples can be read"):
        list(epochs((utterances[3],) * 2, Unread("skip"), 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "head"])
def test_a_run_stops_or_leaves_it_out_and_says_so(model, utterances, tuning):
    from adapt import tunings
    from adapt.models.loaded import Loaded
    from adapt.models.state import model_fingerprint
    from adapt.training.fine_tune import fine_tune

    base = Loaded(model, "base", model_fingerprint(model), model.header())
    splits = Splits(train=utterances, validation=utterances[:2])
    options = {"tuning": getattr(tunings, tuning)(), "epochs": 1}
    with pytest.raises(InputError, match="m:3: "):
        fine_tune(base, splits, **options)
    adapted = fine_tune(base, splits, on_error="skip", **options)
    assert [problem.partition(": ")[0] for problem in adapted.skipped] == ["m:3"]
    checked = fine_tune(base, splits, on_error="skip", check="full", **options)
    assert checked.skipped == adapted.skipped
