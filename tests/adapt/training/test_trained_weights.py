"""A checkpoint holds what trains, and belongs to one base."""

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
from adapt.training.fine_tune import fine_tune
from adapt.training.trained_weights import trained_names, trained_state, whole_state
from adapt.tuning.layers import full, head
from adapt.tuning.lora import lora
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but

TUNINGS = {
    "full": full, "head": head, "neurons": partial(neurons, choose="random", top=0.1), "lora": partial(lora, r=2)
}  # fmt: skip


def tuned(base, tuning):
    model = load_model(str(base)).model
    freeze_all_but(model, tuning(model).names)
    return model


@pytest.mark.parametrize("name", TUNINGS)
def test_what_trains_and_the_buffers_are_enough(base, name):
    model, other = (tuned(base, TUNINGS[name]) for _ in range(2))
    names, draw = trained_names(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw))
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(1)
    saved = {key: tensor.clone() for key, tensor in trained_state(model, names).items()}
    other.load_state_dict(whole_state(other, saved))
    state, restored = model.state_dict(), other.state_dict()
    assert state.keys() == restored.keys() and all(torch.equal(state[key], restored[key]) for key in state)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    buffers = {key for key, _ in model.named_buffers()} & state.keys()
    assert saved.keys() == names | buffers
    trains = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert sum(one.numel() for key, one in saved.items() if key not in buffers) == trains


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(train=speech["high_train"], validation=speech["high_validation"])
    return replace(found, train=found.train[:4], validation=found.validation[:2])


def trained(loaded, splits, folder, **options):
    return fine_tune(
        loaded, splits, TUNINGS["neurons"], folder=folder, epochs=1, learning_rate=1e-3, blend="off",
        loader=Loader(batch_seconds=4), resume=(folder / "checkpoints" / "last.ckpt").is_file(), **options,
    )  # fmt: skip


@pytest.mark.slow
def test_the_files_are_small_and_another_base_is_refused(base, splits, tmp_path):
    loaded = load_model(str(base))
    trained(loaded, splits, tmp_path)
    (tmp_path / "checkpoints" / "start.json").unlink()  # which would notice it first
    for name in ("last", "best"):
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["base"] == loaded.fingerprint
        numbers = sum(tensor.numel() for tensor in content["state_dict"].values())
        assert numbers < 0.2 * sum(one.numel() for one in loaded.model.state_dict().values())
    other = load_model(str(base)).model
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    changed = Loaded(other, loaded.reference, model_fingerprint(other), loaded.header)
    with pytest.raises(InputError, match=f"belongs to another base: its fingerprint was {loaded.fingerprint[:12]}"):
        trained(changed, splits, tmp_path)
