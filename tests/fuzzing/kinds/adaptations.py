"""Adaptations: `adaptation.json` with `weights.safetensors`, of whole tensors, rows and factors, and model files."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch

from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import add_factors, merge_factors
from adapt.models.labels import Labels
from adapt.models.loaded import Loaded
from adapt.models.model_files import save_model
from adapt.models.state import model_fingerprint
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from fuzzing.damage import damage_json_file, damage_safetensors
from fuzzing.frame import Case, Make, Wrong


def prepare(work: Path) -> Make:
    """Write a small base, and three adaptations of it: of whole tensors, of rows, and of LoRA's factors."""
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab")).eval()
    save_model(work / "base.safetensors", model)
    base = load_model(str(work / "base.safetensors"))
    for name in ("whole", "rows", "factors"):
        _adapt(work / name, base, name)
    fingerprints = {name: load_model(str(work / name)).fingerprint for name in ("whole", "rows", "factors")}

    def make(draw: random.Random, folder: Path) -> Case:
        if draw.random() < 0.3:
            path = folder / "model.safetensors"
            what, data = damage_safetensors(draw, (work / "base.safetensors").read_bytes())
            path.write_bytes(data)
            return Case(f"model: {what}", lambda: _use(path, base.fingerprint))
        name = draw.choice(list(fingerprints))
        place = Path(shutil.copytree(work / name, folder / "run"))
        facts, tensors = place / "adaptation.json", place / "weights.safetensors"
        if draw.random() < 0.6:
            what, data = damage_json_file(draw, facts.read_bytes())
            facts.write_bytes(data)
        else:
            what, data = damage_safetensors(draw, tensors.read_bytes())
            tensors.write_bytes(data)
        return Case(f"{name}: {what}", lambda: _use(place, fingerprints[name]))

    return make


def _adapt(folder: Path, base: Loaded, kind: str) -> None:
    import copy

    model: Any = copy.deepcopy(base.model)
    factors = ()
    convolution = model.sites[1].name
    with torch.no_grad():
        if kind == "whole":
            model.get_submodule(convolution).bias.add_(1)
        elif kind == "rows":
            model.get_submodule(convolution).weight[2].add_(1)
        else:
            for name in add_factors(model, [convolution], "LORA", {"r": 2}):
                model.get_parameter(name).normal_()
            factors = merge_factors(model).factors
    save_adaptation(folder, base, model, factors, trained=[f"{convolution}.weight"])


def _use(path: Path, expected: str) -> None:
    loaded = load_model(str(path))
    if loaded.fingerprint != expected or model_fingerprint(loaded.model) != expected:
        raise Wrong("the damaged file gives another model")
    json.dumps(loaded.header)
