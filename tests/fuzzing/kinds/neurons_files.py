"""Files of chosen neurons (`Neurons.save`, `tuning.neurons=`) and of scores."""

import json
import random
from pathlib import Path

import torch

from adapt.data.selection import Selection
from fuzzing.damage import damage_safetensors, safetensors_bytes
from fuzzing.frame import Case, Make
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

# Unit numbers as JSON would not stop them; the file has tensors of these types and values.
_TENSORS = {
    "negative": torch.tensor([-1, 2]),
    "out of range": torch.tensor([2, 9]),
    "repeated": torch.tensor([2, 2]),
    "bool": torch.tensor([True, False]),
    "float": torch.tensor([0.5, 2.0]),
    "NaN": torch.tensor([float("nan")] * 8),
    "infinite": torch.tensor([float("inf")] * 8),
    "largest": torch.tensor([2**63 - 1]),
    "two dimensions": torch.zeros(2, 2, dtype=torch.int64),
    "no dimension": torch.tensor(3),
    "complex": torch.tensor([1j]),
    "empty": torch.empty(0),
}


def prepare(work: Path) -> Make:
    """Write a file of neurons and one of scores at two sites."""
    sites = [Site("net.one", 1, 8, ("net.one.weight",)), Site("net.two", -1, 5, ())]
    paths = {Neurons: work / "neurons.safetensors", Scores: work / "scores.safetensors"}
    Neurons({sites[0]: [1, 3], sites[1]: [0]}).save(paths[Neurons], summary="by hand", layers=["net.one"])
    Scores({site: torch.arange(site.units).float() for site in sites}).save(paths[Scores])

    def make(draw: random.Random, folder: Path) -> Case:
        kind = draw.choice(list(paths))
        data = paths[kind].read_bytes()
        if draw.random() < 0.4:
            what = draw.choice(list(_TENSORS))
            data = _with_tensor(data, _TENSORS[what])
        else:
            what, data = damage_safetensors(draw, data)
        path = folder / "chosen.safetensors"
        path.write_bytes(data)
        read = draw.choice([kind.load, Selection.load]) if kind is Neurons else kind.load
        return Case(f"{kind.__name__}: {what}", lambda: read(path))

    return make


def _with_tensor(data: bytes, tensor: torch.Tensor) -> bytes:
    from safetensors.torch import load, save

    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    new = save({**load(data), "0": tensor}, metadata)
    length = int.from_bytes(new[:8], "little")
    return safetensors_bytes(json.loads(new[8 : 8 + length]), new[8 + length :])
