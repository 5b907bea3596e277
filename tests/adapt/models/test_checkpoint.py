"""Saving and loading models and adaptations: bit-exact, without running code, and with checks of every file."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapt.errors import InputError
from adapt.files import write_json
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import has_header, load_model
from adapt.models.labels import Labels
from adapt.models.model_files import read_safetensors, save_model
from adapt.models.state import model_fingerprint
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape, wav2letter_small
from interventions.bits import changed_bits


def small(seed=0, labels=" ab"):
    torch.manual_seed(seed)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(labels))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
    return model


def flip(path, place=-1):
    """Flip one bit at the end of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def same(one, other):
    a, b = one.net.state_dict(), other.net.state_dict()
    return a.keys() == b.keys() and not any(changed_bits(a[name], b[name]).any() for name in a)


@pytest.fixture
def base(tmp_path):
    """The folder of a finished run with a whole model."""
    (tmp_path / "runs" / "base").mkdir(parents=True)
    save_model(tmp_path / "runs" / "base" / "model.safetensors", small(), seed=3)
    return tmp_path / "runs" / "base"


def adapt(base, folder, change=None, **facts):
    """Save an adaptation of the base after `change(model)`; by default, the bias of the output layer changes."""
    loaded = load_model(str(base))
    model = load_model(str(base)).model
    if change is None:
        model.net.acoustic_model.conv10.bias.data += 1
    else:
        model = change(model) or model
    save_adaptation(folder / "adaptation", loaded, model, **facts)
    return model


@pytest.fixture
def adapted(base):
    folder = base.parent / "adapted"
    adapt(base, folder)
    return folder


def test_a_model_comes_back_bit_for_bit(base):
    model = small()
    loaded = load_model(str(base))
    assert same(loaded.model, model) and loaded.model.labels == model.labels and loaded.model.shape == model.shape
    assert loaded.fingerprint == model_fingerprint(model) == model_fingerprint(loaded.model)
    assert loaded.header["seed"] == 3 and loaded.reference == str(base)
    assert same(load_model(str(base / "model.safetensors")).model, model)


def test_values_at_the_edge_come_back(tmp_path):
    model = small()
    edge = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45])
    model.net.acoustic_model.conv10.bias.data[:] = edge
    save_model(tmp_path / "m.safetensors", model)
    assert same(load_model(str(tmp_path / "m.safetensors")).model, model)


def test_half_rounds_matrices_and_nothing_else(tmp_path):
    model = small()
    save_model(tmp_path / "half.safetensors", model, half=True)
    save_model(tmp_path / "whole.safetensors", model)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "whole.safetensors").stat().st_size
    loaded = load_model(str(tmp_path / "half.safetensors")).model.net.state_dict()
    for name, tensor in model.net.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.half().float() if tensor.dim() > 1 else tensor), name


def test_saving_replaces_and_leaves_nothing_else(base):
    save_model(base / "model.safetensors", small(1))
    assert same(load_model(str(base)).model, small(1))
    assert [path.name for path in base.iterdir()] == ["model.safetensors"]


def test_a_home_folder_is_found(base, monkeypatch):
    monkeypatch.setenv("HOME", str(base.parent))
    assert load_model("~/base").reference == str(base)


def test_an_adaptation_holds_only_what_differs(base, adapted):
    weights = load_file(adapted / "adaptation" / "weights.safetensors")
    assert list(weights) == ["acoustic_model.conv10.bias"]
    facts = json.loads((adapted / "adaptation" / "adaptation.json").read_text())
    assert facts["tensors"] == list(weights)
    assert facts["base"]["reference"] == str(base)
    assert facts["base"]["fingerprint"] == load_model(str(base)).fingerprint


@pytest.mark.parametrize("below", ["", "adaptation", "adaptation/adaptation.json"])
def test_an_adaptation_loads_by_each_of_its_paths(base, below):
    model = adapt(base, base.parent / "adapted", None, trained=["x"])
    loaded = load_model(str(base.parent / "adapted" / below))
    assert same(loaded.model, model) and loaded.fingerprint == model_fingerprint(model)
    assert loaded.header["trained"] == ["x"] and loaded.fingerprint != load_model(str(base)).fingerprint


def test_an_adaptation_of_nothing_is_the_base(base):
    adapt(base, base.parent / "same", lambda model: None)
    assert load_file(base.parent / "same" / "adaptation" / "weights.safetensors") == {}
    loaded = load_model(str(base.parent / "same"))
    assert same(loaded.model, load_model(str(base)).model)
    assert loaded.fingerprint == load_model(str(base)).fingerprint


def test_a_sign_of_zero_is_a_difference(base):
    def negate(model):
        model.net.acoustic_model.conv10.bias.data *= -1.0

    model = adapt(base, base.parent / "signed", negate)
    assert torch.equal(model.net.acoustic_model.conv10.bias, torch.zeros(4))
    assert same(load_model(str(base.parent / "signed")).model, model)


def test_buffers_are_part_of_an_adaptation(base):
    def drift(model):
        model.net.acoustic_model.norm3.running_var[2] = 9
        model.net.acoustic_model.norm3.num_batches_tracked += 7

    model = adapt(base, base.parent / "drifted", drift)
    loaded = load_model(str(base.parent / "drifted")).model
    assert same(loaded, model) and loaded.net.acoustic_model.norm3.num_batches_tracked == 7


def test_another_alphabet_is_part_of_an_adaptation(base):
    model = adapt(base, base.parent / "wide", lambda model: model.with_labels(Labels.of("xba ")))
    loaded = load_model(str(base.parent / "wide"))
    assert loaded.model.labels == Labels.of("xba ") and same(loaded.model, model)
    assert sorted(load_file(base.parent / "wide" / "adaptation" / "weights.safetensors")) == [
        "acoustic_model.conv10.bias", "acoustic_model.conv10.weight",
    ]  # fmt: skip


def test_an_adaptation_of_an_adaptation(base, adapted):
    model = adapt(adapted, base.parent / "twice")
    loaded = load_model(str(base.parent / "twice"))
    assert same(loaded.model, model)
    assert loaded.header["base"]["fingerprint"] == load_model(str(adapted)).fingerprint


def test_an_adaptation_of_a_plain_state_dict(tmp_path):
    """The base's file has no header, so the adaptation must describe the base."""
    save_file(small().net.state_dict(), tmp_path / "bare.safetensors")
    arguments = {"labels": " ab", "inner": 8, "big": 12, "n_features": 13}
    before = wav2letter_small(str(tmp_path / "bare.safetensors"), **arguments)
    after = small(1)
    save_adaptation(tmp_path / "run" / "adaptation", before, after)
    assert same(load_model(str(tmp_path / "run")).model, after)


def test_a_base_that_was_moved_together_with_the_run_is_found(base, adapted, tmp_path):
    wanted = load_model(str(adapted)).fingerprint
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert load_model(str(tmp_path / "moved" / "adapted")).fingerprint == wanted


def test_a_base_that_was_moved_alone_can_be_given(base, adapted, tmp_path):
    wanted = load_model(str(adapted)).fingerprint
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="The base of .* cannot be loaded.*base="):
        load_model(str(adapted))
    assert load_model(str(adapted), str(tmp_path / "elsewhere")).fingerprint == wanted


def test_an_adaptation_is_not_its_own_base(base, tmp_path):
    """The base is gone, and the adaptation's own folder has the base's name."""
    adapt(base, tmp_path / "second" / "base")
    shutil.rmtree(base)
    with pytest.raises(InputError, match="The base of .* cannot be loaded"):
        load_model(str(tmp_path / "second" / "base"))


def test_an_adaptation_that_names_itself_is_an_input_error(base, adapted):
    path = adapted / "adaptation" / "adaptation.json"
    facts = json.loads(path.read_text())
    facts["base"]["reference"] = str(adapted)
    write_json(path, facts)
    with pytest.raises(InputError):
        load_model(str(adapted))


def test_another_base_is_refused(base, adapted, tmp_path):
    save_model(tmp_path / "other.safetensors", small(1))
    with pytest.raises(InputError, match="belongs to another base"):
        load_model(str(adapted), str(tmp_path / "other.safetensors"))
    save_model(base / "model.safetensors", small(1))
    with pytest.raises(InputError, match="belongs to another base"):
        load_model(str(adapted))


def test_damaged_weights_of_an_adaptation_are_refused(adapted):
    flip(adapted / "adaptation" / "weights.safetensors")
    with pytest.raises(InputError, match="changed or damaged"):
        load_model(str(adapted))


def test_a_damaged_base_is_refused(base, adapted):
    flip(base / "model.safetensors")
    with pytest.raises(InputError, match="The base of .* cannot be loaded: .*changed or damaged"):
        load_model(str(adapted))


@pytest.mark.parametrize("half", [False, True])
def test_damaged_weights_of_a_model_are_refused(base, half):
    save_model(base / "model.safetensors", small(), half)
    load_model(str(base))
    flip(base / "model.safetensors")
    with pytest.raises(InputError):
        load_model(str(base))


@pytest.mark.parametrize("left", [0, 1, 7, 8, 100, 0.5, 0.999])
def test_a_truncated_model_is_refused(base, left):
    path = base / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        load_model(str(base))


def test_truncated_weights_of_an_adaptation_are_refused(adapted):
    path = adapted / "adaptation" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        load_model(str(adapted))


def test_missing_weights_of_an_adaptation_are_an_input_error(adapted):
    (adapted / "adaptation" / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="weights.safetensors"):
        load_model(str(adapted))


@pytest.mark.parametrize("keep", ["", "{", "[]", '"text"', "3", "null", b"\xff\xfe"])
def test_a_broken_adaptation_file_is_an_input_error(adapted, keep):
    path = adapted / "adaptation" / "adaptation.json"
    path.write_bytes(keep if isinstance(keep, bytes) else keep.encode())
    with pytest.raises(InputError, match="adaptation.json"):
        load_model(str(adapted))


@pytest.mark.parametrize(
    "change",
    [
        {"base": None},
        {"base": "base"},
        {"base": {"reference": "x"}},
        {"base": {"reference": None, "fingerprint": "f"}},
        {"model": None},
        {"model": []},
        {"model": "wav2letter"},
        {"format": 9},
        {"format": None},
        {"rows": 3},
        {"rows": ["x"]},
        {"factors": 3},
        {"factors": [{}]},
        {"stored": "0"},
        {"fingerprint": "0"},
    ],
)
def test_an_adaptation_file_with_a_wrong_value_is_an_input_error(adapted, change):
    path = adapted / "adaptation" / "adaptation.json"
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(InputError):
        load_model(str(adapted))


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "name", ["m.pt", "m.ckpt", "m.pth", "m.bin", "m.pkl", "M.PT", "model.safetensors", "noname", "m.npy"]
)
def test_a_pickle_is_never_opened(tmp_path, name):
    path, trace = tmp_path / name, tmp_path / "trace"
    path.write_bytes(pickle.dumps(Bomb(str(trace))))
    pickle.loads(path.read_bytes())  # unpickling it does create the folder
    trace.rmdir()
    for read in (load_model, has_header, lambda given: wav2letter_small(given, labels="ab")):
        with pytest.raises(InputError):
            read(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.bin", "M.PT"])
def test_the_error_names_a_pickle(tmp_path, name):
    torch.save({"w": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(InputError, match="is a pickle file.*weights_only=True"):
        load_model(str(tmp_path / name))


def write_header(path, header):
    metadata = {"innertune": header if isinstance(header, str) else json.dumps(header)}
    save_file(small().net.state_dict(), path, metadata=metadata)


@pytest.mark.parametrize(
    "family",
    ["", "Wav2Letter", "../files", "adapt.files", "os", "whisper", "wav2letter.py", "__init__", "labels", "checkpoint",
     "wav2letter\n", None, 3, ["wav2letter"]],
)  # fmt: skip
def test_a_header_with_a_strange_family_is_an_input_error(tmp_path, family):
    write_header(tmp_path / "m.safetensors", {"format": 1, **small().header(), "family": family})
    with pytest.raises(InputError, match="family"):
        load_model(str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize(
    "header",
    [
        "{", "[1]", '"x"', "1",
        {"format": 2, **small().header()},
        {**small().header(), "shape": {"features": "log_mel", "path": "/"}},
        {**small().header(), "shape": {"_target_": "os.system", "command": "true"}},
    ],
)  # fmt: skip
def test_a_header_with_a_wrong_value_is_an_input_error(tmp_path, header):
    write_header(tmp_path / "m.safetensors", header)
    with pytest.raises(InputError):
        load_model(str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": ["", " ", "a"]}, "label list has 3 entries"),
        ({"shape": {"inner": 9, "big": 12, "n_features": 13}}, "does not fit"),
    ],
)
def test_a_header_of_another_model_than_the_weights_is_an_input_error(tmp_path, change, says):
    write_header(tmp_path / "m.safetensors", {**small().header(), **change})
    with pytest.raises(InputError, match=says):
        load_model(str(tmp_path / "m.safetensors"))


def test_missing_and_unknown_weights_are_named(tmp_path):
    state = small().net.state_dict()
    metadata = {"innertune": json.dumps(small().header())}
    save_file(state | {"extra": torch.zeros(1)}, tmp_path / "more.safetensors", metadata=metadata)
    with pytest.raises(InputError, match="no 'extra'"):
        load_model(str(tmp_path / "more.safetensors"))
    del state["acoustic_model.conv3.bias"]
    save_file(state, tmp_path / "fewer.safetensors", metadata=metadata)
    with pytest.raises(InputError, match="conv3.bias.*no such tensor"):
        load_model(str(tmp_path / "fewer.safetensors"))


def test_a_path_without_a_model_is_an_input_error(tmp_path):
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for reference in ("folder", "missing", "missing/model.safetensors", "array.npy"):
        with pytest.raises(InputError, match=reference):
            load_model(str(tmp_path / reference))
    for reference in ("no-such-name", "../wav2letter", "us english"):
        with pytest.raises(InputError, match="no model at"):
            load_model(reference)


def test_an_unfinished_run_is_an_input_error(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="not finished.*resume=true"):
        load_model(str(tmp_path / "run"))


def test_has_header(base, adapted, tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "bare.safetensors")
    assert has_header(str(base)) and has_header(str(adapted)) and not has_header(str(tmp_path / "bare.safetensors"))
    assert read_safetensors(tmp_path / "bare.safetensors")[0] == {}
    with pytest.raises(InputError, match="model.labels"):
        load_model(str(tmp_path / "bare.safetensors"))


def test_a_loaded_model_is_in_eval_mode(base):
    """In train mode, a forward pass would change batch-norm statistics and therefore the fingerprint."""
    loaded = load_model(str(base))
    with torch.no_grad():
        loaded.model(torch.randn(1, 3200), torch.tensor([3200]))
    assert model_fingerprint(loaded.model) == loaded.fingerprint
