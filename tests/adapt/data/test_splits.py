"""Unusable examples are reported before anything runs, and stop the run or are skipped."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from adapt.data.manifest import Splits, Utterance, write_manifest
from adapt.data.splits import check_splits, read_splits
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12), Labels.of(" ab"))


def sound(path, seconds=0.5):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)), RATE)
    return path


@pytest.fixture
def good(tmp_path):
    return Utterance(sound(tmp_path / "good.wav"), "ab", where="good:1")


def manifest(folder, name, *utterances):
    write_manifest(folder / f"{name}.jsonl", utterances)
    return str(folder / f"{name}.jsonl")


BAD = {
    "characters outside": ("bad.wav", 0.5, "azb", "'z'"),
    "target longer than output": ("bad.wav", 0.2, "ab" * 20, "output steps"),
    "doubled letters need blanks": ("bad.wav", 0.2, "a" * 10, "needs 19 output steps"),
    "too short": ("bad.wav", 0.005, "a", "shorter than"),
    "missing": (None, 0, "a", "no audio file"),
}


@pytest.fixture(params=BAD.values(), ids=BAD.keys())
def bad(request, tmp_path):
    name, seconds, text, says = request.param
    path = sound(tmp_path / name, seconds) if name else tmp_path / "missing.wav"
    return Utterance(path, text, where="bad:9"), says


@pytest.mark.parametrize("part", ["train", "validation"])
def test_unusable_training_examples_stop_the_run(model, good, bad, part):
    utterance, says = bad
    with pytest.raises(InputError, match=f"bad:9.*{says}.*\n.*data.on_error=skip"):
        check_splits(Splits(**{part: (good, utterance)}), model)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_unusable_examples_are_skipped_and_counted(model, good, bad, part):
    utterance, says = bad
    left, skipped = check_splits(Splits(**{part: (good, utterance, good)}), model, "skip")
    assert getattr(left, part) == (good, good)
    assert len(skipped) == 1 and skipped[0].startswith("bad:9") and says in skipped[0]


@pytest.mark.parametrize("part", ["test", "source_test"])
def test_a_test_may_have_texts_the_model_cannot_write(model, good, tmp_path, part):
    """The model's errors on them count in its error rate."""
    foreign = Utterance(sound(tmp_path / "f.wav", 0.2), "xyz" * 20)
    left, skipped = check_splits(Splits(**{part: (good, foreign)}), model)
    assert getattr(left, part) == (good, foreign) and skipped == []


@pytest.mark.parametrize("part", ["train", "validation", "test", "source_test"])
def test_nothing_left_is_an_input_error(model, tmp_path, part):
    with pytest.raises(InputError, match=f"The {part} data have no usable example: all 1"):
        check_splits(Splits(**{part: (Utterance(tmp_path / "missing.wav", "a"),)}), model, "skip")


def test_good_splits_pass_as_they_are(model, good):
    splits = Splits((good,), (good, good), (good,), ())
    assert check_splits(splits, model) == (splits, [])


def test_lines_that_could_not_be_read_stop_or_are_counted(model, good):
    splits = Splits(train=(good,), problems=("m.jsonl:3: not JSON",))
    with pytest.raises(InputError, match="m.jsonl:3"):
        check_splits(splits, model, "stop")
    assert check_splits(splits, model, "skip") == (Splits(train=(good,)), ["m.jsonl:3: not JSON"])


def test_at_most_five_problems_are_listed(model, tmp_path):
    missing = tuple(Utterance(tmp_path / f"missing{n}.wav", "a") for n in range(8))
    with pytest.raises(InputError, match="and 3 more") as caught:
        check_splits(Splits(train=missing), model)
    assert str(caught.value).count("no audio file") == 5


@pytest.mark.parametrize("part", ["train", "source_test"])
def test_sentence_pairs_are_refused_by_a_recogniser(model, good, part):
    from adapt.data.pairs import Pair

    with pytest.raises(InputError, match="data are sentence pairs, but the model reads audio. .*data=manifest"):
        check_splits(Splits(test=(good,), **{part: (Pair("a", "b"),)}), model, "skip")


def test_unknown_values_of_on_error_are_refused(model, good):
    with pytest.raises(InputError, match="on_error must be one of stop, skip; got 'ignore'"):
        check_splits(Splits(train=(good,)), model, "ignore")


def test_splits_are_read_each_from_its_file(tmp_path):
    names = ["train", "validation", "test", "source_test"]
    paths = {name: manifest(tmp_path, name, Utterance(tmp_path / f"{name}.wav", name)) for name in names}
    splits = read_splits(**paths)
    assert [[u.text for u in getattr(splits, name)] for name in names] == [[name] for name in names]
    assert read_splits(test=paths["test"]) == Splits(test=splits.test)
    assert read_splits() == Splits()


def test_problems_of_all_files_are_collected(tmp_path):
    paths = []
    for name in ("train", "test"):
        paths.append(manifest(tmp_path, name, Utterance(tmp_path / f"{name}.wav", "a")))
        with open(paths[-1], "a") as file:
            file.write("{\n")
    splits = read_splits(train=paths[0], test=paths[1])
    assert [problem.split(": ")[0] for problem in splits.problems] == [f"{path}:2" for path in paths]


def test_normalise_drops_punctuation(tmp_path):
    path = manifest(tmp_path, "train", Utterance(tmp_path / "a.wav", "Hello, World!"))
    assert read_splits(train=path).train[0].text == "Hello, World!"
    assert read_splits(train=path, normalise=True).train[0].text == "hello world"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_text_of_punctuation_only_is_a_problem_once_normalised(tmp_path, part):
    """A reference without words has no error rate, so the run would fail after training."""
    path = manifest(tmp_path, part, Utterance(tmp_path / "a.wav", "ab"), Utterance(tmp_path / "b.wav", "?!"))
    splits = read_splits(**{part: path}, normalise=True)
    assert [u.text for u in getattr(splits, part)] == ["ab"]
    assert len(splits.problems) == 1 and splits.problems[0].startswith(f"{path}:2")


@pytest.mark.parametrize("part", ["validation", "test", "source_test"])
def test_test_recordings_may_not_be_training_recordings(tmp_path, part):
    (tmp_path / "link").symlink_to(tmp_path)
    shared, other = Utterance(tmp_path / "a.wav", "a"), Utterance(tmp_path / "b.wav", "b")
    train = manifest(tmp_path, "train", other, shared)
    for path in (tmp_path / "a.wav", tmp_path / "link" / "a.wav", Path(f"{tmp_path}/x/../a.wav")):
        measured = manifest(tmp_path, "measured", Utterance(path, "another text"))
        with pytest.raises(InputError, match=r"measured\.jsonl:1.*also in the training data.*train\.jsonl:2"):
            read_splits(train=train, **{part: measured})


def test_parts_of_one_recording_may_be_shared_out(tmp_path):
    first, second = (Utterance(tmp_path / "a.wav", "a", duration=1.0, offset=offset) for offset in (0.0, 1.0))
    splits = read_splits(train=manifest(tmp_path, "train", first), test=manifest(tmp_path, "test", second))
    assert len(splits.train) == len(splits.test) == 1


@pytest.mark.parametrize(
    ("trained", "measured"),
    [({}, {"offset": 1.0, "duration": 1.0}), ({"offset": 1.0}, {"offset": 2.0}), ({"duration": 2.0}, {"offset": 1.5})],
    ids=["a part of the whole", "two ends", "an overlap"],
)
def test_parts_that_overlap_may_not(tmp_path, trained, measured):
    train = manifest(tmp_path, "train", Utterance(tmp_path / "a.wav", "a", **trained))
    with pytest.raises(InputError, match="also in the training data"):
        read_splits(train=train, test=manifest(tmp_path, "test", Utterance(tmp_path / "a.wav", "b", **measured)))
