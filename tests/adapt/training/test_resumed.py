"""A run continues only with the base, the data and the options that it was started with, and from whole files."""

import json
import pickle
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.splits import read_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from adapt.training.checkpoints import sha256
from adapt.training.fine_tune import default_trainer, fine_tune
from adapt.training.prepare import prepare
from adapt.training.start import plain, started_without
from adapt.tuning.layers import head, layers
from adapt.tuning.penalty import ewc
from interventions.bits import changed_bits

pytestmark = pytest.mark.slow
LOADER = Loader(batch_seconds=4)


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(train=speech["high_train"], validation=speech["high_validation"])
    return replace(found, train=found.train[:6], validation=found.validation[:3], source_train=found.train[6:9])


@pytest.fixture(scope="module")
def finished(loaded, splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, fine_tune(loaded, splits, head, epochs=1, folder=folder, loader=LOADER)


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def resume(loaded, splits, folder, tuning=head, **options):
    return fine_tune(loaded, splits, tuning, folder=folder, resume=True, **{"epochs": 1, "loader": LOADER, **options})


def test_unchanged_it_ends_with_the_same_bits(loaded, splits, run, finished):
    again = resume(loaded, splits, run, loader=replace(LOADER, workers=0))
    assert again.loaded.fingerprint == finished[1].loaded.fingerprint


def prepared_again(loaded, splits, run):
    return prepare(
        loaded,
        splits,
        head,
        loader=LOADER,
        trainer=default_trainer(1, torch.device("cpu")),
        optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.0),
        blend="auto",
        resume_from=run,
    )


def test_a_run_of_an_earlier_version_goes_on_as_it_began(loaded, splits, run):
    """It compared texts as they are written and trained on no timestamps: no later default changes that."""
    assert not started_without(run, "normalise") and not started_without(run, "timestamps")
    path = run / "checkpoints" / "start.json"
    facts = json.loads(path.read_text())
    del facts["options"]["normalise"], facts["options"]["timestamps"]
    path.write_text(json.dumps(facts))
    assert started_without(run, "normalise") and started_without(run, "timestamps")
    prepared = prepared_again(loaded, splits, run)
    assert prepared.module.task.normaliser is None


def test_a_run_goes_on_with_the_replay_that_it_began_with(loaded, splits, run):
    path = run / "checkpoints" / "start.json"
    facts = json.loads(path.read_text())
    facts["options"]["replay"] = 0.0  # as a version without a default of its own stored it
    path.write_text(json.dumps(facts))
    prepared = prepared_again(loaded, splits, run)
    assert splits.source_train and prepared.replay == 0.0


def test_another_base_is_refused(loaded, splits, run):
    import copy

    model = copy.deepcopy(loaded.model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    other = Loaded(model, loaded.reference, model_fingerprint(model), loaded.header)
    with pytest.raises(InputError, match=f"was changed after the run .* fingerprint was {loaded.fingerprint[:12]}"):
        resume(other, splits, run)


@pytest.mark.parametrize("part", ["train", "validation", "source_train"])
def test_other_data_are_refused(loaded, splits, run, part, tmp_path):
    examples = getattr(splits, part)
    quieter = bytearray(examples[0].audio_filepath.read_bytes())
    quieter[-2] ^= 1  # the lowest bit of the last sample: same size, and nobody hears it
    copy = tmp_path / "a.wav"
    copy.write_bytes(examples[0].audio_filepath.read_bytes())
    moved = replace(splits, **{part: (replace(examples[0], audio_filepath=copy), *examples[1:])})
    resume(loaded, moved, run)  # where the files lie does not matter
    copy.write_bytes(quieter)
    with pytest.raises(InputError, match=f"{part} has other inputs: recordings"):
        resume(loaded, moved, run)
    for changed, said in (
        ((replace(examples[0], text="a"), *examples[1:]), "other texts"),
        (examples[::-1], "in another order"),
        (examples[:-1], f"had {len(examples)} examples, and has {len(examples) - 1}"),
    ):
        with pytest.raises(InputError, match=f"{part} .*{said}"):
            resume(loaded, replace(splits, **{part: changed}), run)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 2}, "trainer.max_epochs=1, not 2"),
        ({"learning_rate": 0.1}, "optimizer.lr=0.003, not 0.1"),
        ({"schedule": "linear"}, "schedule=cosine, not linear"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"loader": Loader(batch_seconds=5)}, "loader.batch_seconds=4, not 5"),
        ({"tuning": partial(layers, layers="last 2"), "learning_rate": 0.003}, "trained"),
        ({"penalty": partial(ewc, examples=2)}, "penalty=None"),
        ({"replay": 0.3}, "replay=0.2, not 0.3"),
        ({"alphabet": "=abcdefghi "}, "model."),
    ],
)
def test_other_options_are_refused(loaded, splits, run, options, said):
    with pytest.raises(InputError, match=f"was started with .*{said}"):
        resume(loaded, splits, run, **options)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 0.9999])
def test_one_bit_that_flipped_is_noticed(loaded, splits, run, name, share):
    path = run / "checkpoints" / name
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{name}' was changed or damaged after it was written"):
        resume(loaded, splits, run)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def foreign(kind, path, marker):
    if kind == "code":
        torch.save({"state_dict": Runs(marker)}, path)
    elif kind == "old pickle with code":
        path.write_bytes(pickle.dumps({"state_dict": Runs(marker)}))
    elif kind == "numbers":
        torch.save([1, 2, 3], path)
    elif kind == "no state":
        torch.save({"callbacks": {}, "epoch": 0}, path)
    elif kind == "other model":
        content = {"optimizer_states": [{"state": {}, "param_groups": []}], "loops": {}, "epoch": 0, "global_step": 1}
        content |= {"lr_schedulers": [{"last_epoch": 1, "base_lrs": [0.1]}], "callbacks": {"_History": {"rows": []}}}
        torch.save({"state_dict": {"weight": torch.zeros(3)}, **content}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"<html></html>", "zeros": bytes(5000)}[kind])


@pytest.mark.parametrize("kind", ["code", "old pickle with code", "numbers", "no state", "other model", "empty", "text",
                                  "zeros"])  # fmt: skip
def test_a_foreign_checkpoint_is_refused_and_nothing_of_it_is_run(loaded, splits, run, tmp_path, kind):
    path, marker = run / "checkpoints" / "last.ckpt", tmp_path / "executed"
    path.with_name("last.ckpt.sha256").unlink()
    foreign(kind, path, marker)
    with pytest.raises(InputError, match=r"last.ckpt' (is no|is not a|holds more|belongs to another model)"):
        resume(loaded, splits, run)
    assert not marker.exists()


def test_cut_at_any_place_a_checkpoint_is_refused(loaded, splits, run):
    path = run / "checkpoints" / "last.ckpt"
    path.with_name("last.ckpt.sha256").unlink()
    data = path.read_bytes()
    for length in (1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="last.ckpt' (is not a complete checkpoint|holds more)"):
            resume(loaded, splits, run)


def test_a_checkpoint_with_values_of_other_types_is_refused(loaded, splits, run):
    path = run / "checkpoints" / "last.ckpt"
    path.with_name("last.ckpt.sha256").unlink()
    whole = torch.load(path, weights_only=True)
    for name, value in (
        ("optimizer_states", [3]), ("optimizer_states", []), ("loops", {"fit_loop": 1}), ("callbacks", {"_History": 1}),
        ("lr_schedulers", [{"base_lrs": "x"}, 1]), ("epoch", "two"),
    ):  # fmt: skip
        torch.save({**whole, name: value}, path)
        with pytest.raises(InputError, match="last.ckpt"):
            resume(loaded, splits, run, epochs=1)


def test_a_frozen_weight_that_changed_in_a_checkpoint_is_never_saved(loaded, splits, run):
    """Without checksums, as in a run of an earlier version, the comparison with the base is what notices."""
    for name in ("start.json", "last.ckpt.sha256", "best.ckpt.sha256"):
        (run / "checkpoints" / name).unlink()
    for name in ("last.ckpt", "best.ckpt"):
        content = torch.load(run / "checkpoints" / name, weights_only=True)
        del content["base"]
        whole = {f"model.{name}": tensor.clone() for name, tensor in loaded.model.state_dict().items()}
        content["state_dict"] = whole | content["state_dict"]
        first = next(iter(content["state_dict"].values()))
        first.view(-1)[0] = torch.nextafter(first.view(-1)[0], torch.tensor(9.0))
        torch.save(content, run / "checkpoints" / name)
    with pytest.raises(InputError, match="was frozen, but differs from the base after training, so nothing was saved"):
        resume(loaded, splits, run)


def test_what_a_run_measured_before_it_began_must_be_whole(loaded, splits, tmp_path):
    options = {"penalty": partial(ewc, examples=2), "epochs": 1, "loader": LOADER}
    fine_tune(loaded, splits, head, folder=tmp_path, **options)
    path = tmp_path / "checkpoints" / "fisher.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="fisher.safetensors' is missing, or was changed"):
        resume(loaded, splits, tmp_path, **options)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"base": 1, "data": {}, "options": {}, "files": {}}', "[" * 100_000])
def test_a_damaged_record_of_the_start_is_named(loaded, splits, run, text):
    (run / "checkpoints" / "start.json").write_text(text)
    with pytest.raises(InputError, match="start.json' is damaged"):
        resume(loaded, splits, run)


def test_killed_between_the_checksum_and_the_checkpoint_the_old_one_still_counts(loaded, splits, run):
    path = run / "checkpoints" / "last.ckpt"
    sums = path.with_name("last.ckpt.sha256")
    assert sums.read_text() == f"{sha256(path)}  last.ckpt\n"  # as `sha256sum` writes
    sums.write_text(f"{'0' * 64}  last.ckpt\n{sums.read_text()}")
    resume(loaded, splits, run)


def test_options_are_described_by_their_plain_values():
    assert plain({"a": (1, True, None), "b": Loader(batch_seconds=24.0)}) == {
        "a": [1, True, None],
        "b": {
            "type": "Loader",
            "batch_seconds": 24.0,
            "batch_size": None,
            "batch_tokens": 1000,
            "memory": None,
            "speeds": [1.0],
            "workers": 0,
            "seed": 0,
        },
    }
    assert plain(torch.nn.Identity()) == plain(torch.nn.Identity())
    assert json.loads(json.dumps(plain(object()))) == {"type": "object"}


def test_frozen_weights_keep_every_bit(loaded, finished):
    adapted = finished[1]
    before, after = loaded.model.state_dict(), adapted.loaded.model.state_dict()
    moved = {name for name, tensor in before.items() if changed_bits(tensor, after[name]).any()}
    assert moved == set(adapted.trained)
