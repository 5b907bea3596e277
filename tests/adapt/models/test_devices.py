"""The device and the precision of a model are decided in one place; what is not there is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adapt.models.devices
from adapt import InputError, Utterance, load_model
from adapt.models.devices import (
    answering,
    beside,
    device_named,
    device_of,
    free_memory,
    known_devices,
    own_random,
    place,
)

TESTS = Path(__file__).parents[2]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.fixture
def mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("cpu_only")
def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    assert known_devices() == ["cpu"] and device_named("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "tpu", "gpu", None, 0):
        with pytest.raises(InputError) as error:
            device_named(name)
        assert str(error.value) == f"device={name}: this machine has cpu. Give one of them, or auto."


@pytest.mark.usefixtures("gpus")
def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    assert known_devices()[:3] == ["cpu", "cuda:0", "cuda:1"]
    assert str(device_named("auto")) == str(device_named("cuda")) == str(device_named("auto", double=True)) == "cuda:0"
    assert str(device_named("cuda:1")) == "cuda:1" and str(device_named("cpu")) == "cpu"
    with pytest.raises(InputError, match="this machine has cpu, cuda:0, cuda:1"):
        device_named("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(device_named("auto")) == str(device_named("cuda")) == "cuda:1"  # each process has its own


@pytest.mark.usefixtures("mps")
def test_auto_is_mps_only_where_64_bits_are_not_needed():
    assert str(device_named("auto")) == str(device_named("mps")) == "mps"
    assert str(device_named("auto", double=True)) == "cpu"
    with pytest.raises(InputError, match="64-bit numbers, which mps does not have"):
        device_named("mps", double=True)


def test_place_moves_the_model_and_sets_its_precision(base: Path):
    loaded = load_model(base)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    assert place(loaded, "cpu", "bf16") is loaded and loaded.model.precision == "bf16"
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
    other = beside(load_model(base), loaded.model)
    assert other.model.precision == "bf16" and device_of(other.model) == device_of(loaded.model)
    with pytest.raises(InputError, match="precision must be one of 32, bf16, 16; got 'fp8'"):
        place(loaded, "cpu", "fp8")
    with pytest.raises(InputError, match="precision=16 works on a GPU only"):
        place(loaded, "cpu", 16)
    with pytest.raises(InputError, match="device=abacus"):
        load_model(base, device="abacus")


def test_answers_in_bf16_compute_in_16_bits_and_keep_the_weights(base: Path, speech: dict[str, Path]):
    audio = sorted((speech["low_test"].parent / "low_test").glob("*.wav"))[:3]
    exact, rough = load_model(base), load_model(base, precision="bf16")
    seen: dict[str, torch.dtype] = {}
    layer = rough.model.get_submodule("net.acoustic_model.conv1")
    layer.register_forward_hook(lambda *given: seen.update(layer=given[2].dtype))
    rough.model.get_submodule("frontend").register_forward_hook(lambda *given: seen.update(features=given[2][0].dtype))
    assert rough.transcribe(audio) == exact.transcribe(audio)
    assert seen == {"layer": torch.bfloat16, "features": torch.float32}
    assert [word.text for word in rough.transcripts(audio[0], vad=False)[0].words] == exact.transcribe(audio)[0].split()
    assert {one.dtype for one in rough.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("decoding", ["pieces", "sequential"])
def test_a_whisper_answers_in_bf16_on_features_of_32_bits(whisper: Path, speech: dict[str, Path], decoding):
    audio = sorted((speech["low_test"].parent / "low_test").glob("*.wav"))[:1]
    loaded = load_model(whisper, language="en", precision="bf16")
    (found,) = loaded.transcripts(audio, vad=False, decoding=decoding)
    assert all(word.end >= word.start for word in found.words)


def test_a_marian_translates_in_bf16(marian: Path):
    assert len(load_model(marian, precision="bf16").translate(["ada dab gab", "bea ebb had"])) == 2


def test_corrections_and_16_bits_exclude_each_other(base: Path, speech: dict[str, Path], tmp_path: Path):
    folder = speech["low_test"].parent / "low_test"
    audio = sorted(folder.glob("*.wav"))
    loaded = load_model(base)
    loaded.memory(tmp_path / "mine.db", protected=[Utterance(path, "") for path in audio[:8]])
    rough = load_model(base, precision="bf16")
    with pytest.raises(InputError, match=r"made in 32 bits.*Give precision=32, or corrections=off"):
        rough.transcribe(audio[:1], corrections=tmp_path / "mine.db")
    assert rough.transcribe(audio[:1], corrections="off") == loaded.transcribe(audio[:1], corrections="off")


def test_a_full_gpu_ends_with_a_sentence(base: Path):
    model = load_model(base).model
    expected = r"do not fit into the memory of cpu\. Give a smaller loader\.batch_seconds"
    with pytest.raises(InputError, match=expected), answering(model):
        raise torch.OutOfMemoryError
    assert not torch.is_inference_mode_enabled()


def test_free_memory_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adapt.models.devices, "available_memory", lambda: 7)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 200))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 50)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 20)
    assert free_memory(torch.device("cpu")) == 7
    assert free_memory(torch.device("cuda:0")) == 120  # with what torch has reserved and does not use
    assert free_memory(torch.device("mps")) == 30


def test_random_numbers_go_on_as_before(base: Path):
    model = load_model(base).model
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with own_random(model):
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.slow
def test_everything_gives_the_same_on_another_device():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-x"]
    done = subprocess.run(
        [*command, str(TESTS / "on_pretended_device.py")], cwd=TESTS.parent, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "100%" in done.stdout and "s" not in done.stdout.split()[0]  # none was skipped
