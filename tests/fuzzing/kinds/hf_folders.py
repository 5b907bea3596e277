"""Folders in the transformers format: configs of wrong types, damaged tokenizers, indexes that name other files."""

import json
import pickle
import random
import shutil
from pathlib import Path

import torch
from small_hf import save_ctc, save_whisper
from small_mt import save_translation

from adapt.models.checkpoint import load_model
from adapt.models.inference import eval_mode
from fuzzing.damage import damage_bytes, damage_json_file, damage_safetensors
from fuzzing.frame import MARKER, Case, Make


class Opens:
    """When unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def prepare(work: Path) -> Make:
    """Write a small wav2vec2, Whisper and Marian."""
    models = [save_ctc(work / "ctc"), save_whisper(work / "whisper"), save_translation(work / "marian")]

    def make(draw: random.Random, folder: Path) -> Case:
        place = folder / "model"
        model = draw.choice(models)
        shutil.copytree(model, place)
        what = draw.choice([_config, _config, _other_json, _file, _weights, _index, _pickle])(draw, place)
        return Case(f"{model.name}: {what}", lambda: _use(place))

    return make


def _use(place: Path) -> None:
    model = load_model(str(place)).model
    with torch.no_grad(), eval_mode(model):
        model(*model.dummy(16_000 if model.reads_audio else 6, 3))


def _damage(draw: random.Random, path: Path) -> str:
    what, data = damage_json_file(draw, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name}: {what}"


def _config(draw: random.Random, place: Path) -> str:
    return _damage(draw, place / "config.json")


def _other_json(draw: random.Random, place: Path) -> str:
    return _damage(draw, draw.choice(sorted(place.glob("*.json"))))


def _file(draw: random.Random, place: Path) -> str:
    path = draw.choice(sorted(place.iterdir()))
    if draw.random() < 0.3:
        path.unlink()
        return f"{path.name} missing"
    what, data = damage_bytes(draw, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name}: {what}"


def _weights(draw: random.Random, place: Path) -> str:
    path = place / "model.safetensors"
    what, data = damage_safetensors(draw, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name}: {what}"


def _index(draw: random.Random, place: Path) -> str:
    """Replace the weights by shards, one of which is something else."""
    from safetensors.torch import load_file

    names = list(load_file(place / "model.safetensors"))
    (place / "model.safetensors").rename(place / "first.safetensors")
    torch.save({"weight": Opens(place.parent / MARKER)}, place / "second.bin")
    (place.parent / "outside.safetensors").write_bytes((place / "first.safetensors").read_bytes())
    other = draw.choice(["first.safetensors", "second.bin", "../outside.safetensors", "nowhere.safetensors", 3, None,
                         str(place.parent / "outside.safetensors"), "", ".", "second.bin\0.safetensors"])  # fmt: skip
    shards = {name: other if draw.random() < 0.3 else "first.safetensors" for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    if draw.random() < 0.3:
        return _damage(draw, place / "model.safetensors.index.json")
    return f"index names {other!r}"


def _pickle(draw: random.Random, place: Path) -> str:
    name = draw.choice(["pytorch_model.bin", "adapter_model.bin", "model.safetensors"])
    if draw.random() < 0.5:
        (place / "model.safetensors").unlink()
    (place / name).write_bytes(pickle.dumps({"weight": Opens(place.parent / MARKER)}))
    if "adapter" in name:
        (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": None}))
    return f"a pickle as {name}"
