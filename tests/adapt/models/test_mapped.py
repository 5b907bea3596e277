"""Weights in a file instead of memory: the same model, nothing left on the disk, and memory that is free again."""

import copy

import torch
from small_hf import save_whisper

from adapt.models.checkpoint import load_model
from adapt.models.mapped import map_weights
from adapt.models.state import model_fingerprint


def memory(kind):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(kind))


def test_the_model_is_the_same_and_can_be_changed(base, tmp_path):
    loaded = load_model(str(base))
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.data = parameter.data.clone()
    size = map_weights(loaded.model, tmp_path / "new", least=0)
    assert size >= sum(one.numel() * 4 for one in loaded.model.parameters())
    assert map_weights(loaded.model, tmp_path / "new", least=0) < size / 100  # most of it is in a file already
    assert model_fingerprint(loaded.model) == loaded.fingerprint and not list((tmp_path / "new").iterdir())
    other = copy.deepcopy(loaded.model)
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1)
    assert model_fingerprint(loaded.model) != loaded.fingerprint == model_fingerprint(other)


def test_tied_weights_stay_tied(tmp_path):
    loaded = load_model(str(save_whisper(tmp_path / "whisper", ())))
    map_weights(loaded.model, tmp_path, least=0)
    assert loaded.model.net.proj_out.weight is loaded.model.net.model.decoder.embed_tokens.weight
    assert model_fingerprint(loaded.model) == loaded.fingerprint


def test_a_small_model_and_a_full_disk_leave_the_weights_where_they_are(base, tmp_path):
    model = load_model(str(base)).model
    places = [one.data_ptr() for one in model.parameters()]
    assert map_weights(model, tmp_path) == 0
    (tmp_path / "file").write_text("")
    assert map_weights(model, tmp_path / "file", least=0) == 0  # no folder can be made there
    assert [one.data_ptr() for one in model.parameters()] == places and not list(tmp_path.glob("weights*"))


def test_its_memory_is_free_again(base, tmp_path):
    model = load_model(str(base)).model
    model.extra = torch.nn.Parameter(torch.ones(40, 1_000_000))
    full = memory("RssAnon")
    assert map_weights(model, tmp_path) > 160_000_000
    assert full - memory("RssAnon") > 150_000_000
    assert float(model.extra.detach().double().sum()) == 4e7
