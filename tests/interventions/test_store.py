"""What is saved comes back bit for bit in another process, on its own model and no other, and runs no code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import small_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from interventions.ablate import Ablate
from interventions.clamp import Clamp, Scale, Set
from interventions.erase import Erase
from interventions.files import FileError
from interventions.intervene import intervene
from interventions.intervention import Custom
from interventions.lowrank import LowRank
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import EVERYWHERE, PROMPT, Scope
from interventions.sites import TOKEN, Site, Step, find_sites
from interventions.steer import Steer
from interventions.store import OPERATIONS, describe, load, save

SITE = Site("fc", 1, 4, ("fc.weight",), "decoder", Step(0.02, "s"))
OTHER = Site("out", -1, 2, ())
DRAW = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=DRAW)


EVERY = {
    "a": Steer(SITE, noise(4), 1.25),
    "b": Steer(SITE, noise(3, 4).bfloat16(), (1.0, 0.1), scope=Scope(PROMPT, (2, None)), strength=0.3),
    "c": Ablate(Neurons({SITE: [0, 3], OTHER: []})),
    "d": Ablate(Neurons({SITE: [1], OTHER: [0]}), "mean", {"fc": noise(4), "out": noise(2)}),
    "e": Ablate(Neurons({OTHER: [1]}), "resample", {"out": noise(5, 2)}, seed=9),
    "f": Clamp(Neurons.every(SITE), None, 0.1, scope=Scope(seconds=(0.1, 2.5), examples=(0, 2), batch=3, beams=4)),
    "g": Set(Neurons({SITE: [2]}), 1 / 3),
    "h": Scale(Neurons({SITE: [2]}), 1e-7),
    "i": Patch(SITE, noise(1, 3, 4), Neurons({SITE: [1, 2]}), "time", "nearest", Step(0.01, "s")),
    "j": Erase(SITE, noise(4, 2), noise(2, 4), noise(4)),
    "k": LowRank(SITE, noise(2, 4), noise(2, 4), noise(2)),
}


def same(a, b):
    """Whether two hold the same data, tensors to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if type(a) in OPERATIONS.values():
        return type(a) is type(b) and same(vars(a), vars(b))
    return type(a) is type(b) and a == b


def test_every_operation_and_every_field_comes_back(tmp_path):
    assert {type(one) for one in EVERY.values()} == set(OPERATIONS.values())
    path = tmp_path / "all.safetensors"
    save(path, EVERY, "some model", corpus="vctk", rates=[0.1, 0.2])
    loaded = load(path, "some model")
    assert list(loaded) == list(EVERY)
    for name, one in EVERY.items():
        assert same(one, loaded[name]), name
    said = describe(path)
    assert said["provenance"] == {"corpus": "vctk", "rates": [0.1, 0.2]} and said["format"] == 1
    assert [entry["operation"] for entry in said["interventions"]][:3] == ["steer", "steer", "ablate"]
    assert [path.name for path in tmp_path.iterdir()] == ["all.safetensors"]


@given(st.lists(st.sampled_from(sorted(EVERY)), max_size=6))
def test_any_list_keeps_its_order(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("list") / "some.safetensors"
    save(path, [EVERY[name] for name in names], "m")
    loaded = load(path, "m")
    assert list(loaded) == [str(n) for n in range(len(names))]
    assert all(same(EVERY[name], one) for name, one in zip(names, loaded.values(), strict=True))


def test_a_step_of_tokens_and_a_trained_tensor_come_back_as_data(tmp_path):
    site = Site("fc", -1, 4, (), "decoder", TOKEN)
    save(tmp_path / "one", [Steer(site, noise(4).requires_grad_())], "m")
    (loaded,) = load(tmp_path / "one", "m").values()
    assert loaded.site == site and not loaded.vector.requires_grad and loaded.scope == EVERYWHERE


PROGRAM = """
import sys, torch, safetensors.torch
sys.path.insert(0, sys.argv[1])
import small_models
from interventions.intervene import intervene
from interventions.store import load
name, file, given, out = sys.argv[2:]
net = getattr(small_models, name)()
given = safetensors.torch.load_file(given)
with torch.no_grad(), intervene(net, *load(file, net).values()):
    output = net(**given)
    results = {"logits": output if isinstance(output, torch.Tensor) else output.logits}
    if hasattr(net, "generate") and name != "wav2vec2":
        given.pop("decoder_input_ids")
        results["tokens"] = net.generate(**given, max_new_tokens=6, do_sample=False)
safetensors.torch.save_file({key: value.contiguous() for key, value in results.items()}, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("wav2letter", ("acoustic_model.2", "acoustic_model.8")),
        ("wav2vec2", ("wav2vec2.feature_extractor.conv_layers.1.conv", "*.layers.1.feed_forward.intermediate_dense")),
        ("whisper", ("model.encoder.layers.0.fc2", "model.decoder.layers.1.fc1")),
        ("marian", ("model.encoder.layers.0.fc2", "model.decoder.layers.1.fc1")),
    ],
)
def test_a_fresh_process_gives_the_same_bits(tmp_path, name, places):
    net = getattr(small_models, name)()
    first, second = (find_sites(net, place)[0] for place in places)
    tokens = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    given_ = {
        "wav2letter": {"x": noise(2, 13, 30)},
        "wav2vec2": {"input_values": noise(2, 400)},
        "whisper": {"input_features": noise(2, 8, 32), "decoder_input_ids": tokens},
        "marian": {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)},
    }[name]
    edits = [
        Steer(first, 3 * noise(first.units), 0.7, scope=Scope(positions=(1, None))),
        Ablate(Neurons({second: range(0, second.units, 3)}), "resample", {second.name: noise(7, second.units)}),
        Clamp(Neurons({second: [1, 2]}), -0.1, 0.1, strength=0.5),
        LowRank(second, noise(2, second.units), noise(2, second.units), noise(2)),
    ]
    if name == "marian":
        edits = [edit for edit in edits if edit.scope == EVERYWHERE]
    save(tmp_path / "edits.safetensors", edits, net)
    safetensors.torch.save_file(given_, tmp_path / "given.safetensors")
    root = Path(__file__).parents[2]
    arguments = [
        str(root / "tests"),
        name,
        *(str(tmp_path / file) for file in ("edits.safetensors", "given.safetensors", "out.safetensors")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = safetensors.torch.load_file(tmp_path / "out.safetensors")
    with torch.no_grad():
        bare = net(**given_)
        with intervene(net, *edits):
            here = net(**given_)
            tokens = None
            if "tokens" in found:
                given_.pop("decoder_input_ids")
                tokens = net.generate(**given_, max_new_tokens=6, do_sample=False)
    bare, here = (one if isinstance(one, torch.Tensor) else one.logits for one in (bare, here))
    assert torch.equal(found["logits"], here) and not torch.equal(here, bare)
    assert ("tokens" in found) == (name in ("whisper", "marian")) and (
        tokens is None or torch.equal(found["tokens"], tokens)
    )


def test_another_model_is_refused_and_says_why(tmp_path):
    net, path = small_models.wav2letter(), tmp_path / "one"
    site = find_sites(net)[0]
    save(path, [Steer(site, noise(site.units))], net)
    with torch.no_grad():
        net.acoustic_model[8].bias[3] += 1e-6
    with pytest.raises(
        FileError, match="belongs to another model: to a Wav2Letter with fingerprint .*Their weights differ"
    ):
        load(path, net)
    with pytest.raises(FileError, match="this is a Wav2Vec2ForCTC"):
        load(path, small_models.wav2vec2())
    assert list(load(path, net, any_model=True)) == ["0"]
    with (
        pytest.raises(ValueError, match="no module 'acoustic_model.0'"),
        intervene(torch.nn.Linear(2, 2), load(path, "", any_model=True)["0"]),
    ):
        raise AssertionError("the block must not begin")


def test_code_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="'mine' is a Custom function, and files contain no code"):
        save(tmp_path / "no", {"a": EVERY["a"], "mine": Custom(SITE, torch.relu)}, "m")
    with pytest.raises(ValueError, match="cannot be stored"):
        save(tmp_path / "no", [Set(Neurons({SITE: [1]}), torch.relu)], "m")
    with pytest.raises(ValueError, match="JSON cannot represent"):
        save(tmp_path / "no", [EVERY["a"]], "m", made_by=object())
    with pytest.raises(ValueError):
        save(tmp_path / "no", [Set(Neurons({SITE: [1]}), float("nan"))], "m")
    assert not list(tmp_path.iterdir())


def rewritten(path, change):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["innertune"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    safetensors.torch.save_file(tensors, path, metadata={"innertune": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h: h["interventions"][0].update(operation="os.system"),
            "names an unknown operation 'os.system'. Known operations: ablate",
        ),
        (lambda h: h["interventions"][0]["fields"].update(evil=1), "no 'evil'"),
        (lambda h: h["interventions"][0]["fields"].pop("vector"), "does not describe a steer"),
        (lambda h: h["interventions"][0]["fields"].update(vector={"tensor": "99"}), "does not describe a steer"),
        (lambda h: h["interventions"][0]["fields"].update(vector={"import": "os"}), "does not describe a steer"),
        (lambda h: h["interventions"][0]["fields"].update(site={"site": {"name": "x"}}), "does not describe a site"),
        (lambda h: h["interventions"][0]["fields"].update(site={"site": 5, "tensor": 3}), "does not describe a steer"),
        (lambda h: h["interventions"][0].pop("fields"), "does not describe a steer"),
        (lambda h: h.update(interventions={"a": 1}), "no list of interventions"),
        (lambda h: h.pop("interventions"), "no list of interventions"),
        (lambda h: h.pop("model"), "belongs to another model"),
        (lambda h: h.update(format=2), "format 2, and this version reads format 1"),
        (lambda h: h.update(kind="scores"), "expected to contain interventions, but contains scores"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(tmp_path, change, message):
    path = tmp_path / "edits"
    save(path, [EVERY["a"]], "m")
    rewritten(path, change)
    with pytest.raises(FileError, match=message):
        load(path, "m")


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "edits"
    save(path, EVERY, "m")
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="not a complete safetensors file"):
            load(path, "m")
    with pytest.raises(FileError, match="There is no file"):
        load(tmp_path / "nothing", "m")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(FileError, match="expected to contain interventions, but innertune did not write it"):
        load(path, "m")
