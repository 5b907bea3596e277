"""Folders of interrupted runs: damaged and foreign checkpoints, with and without their checksums, and their records."""

import logging
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.recording import Recording
from adapt.models.labels import Labels
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.fine_tune import fine_tune
from adapt.tuning.layers import head
from fuzzing.damage import VALUES, damage_bytes, damage_json_file
from fuzzing.frame import MARKER, Case, Make, Wrong


class Opens:
    """When unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def prepare(work: Path) -> Make:
    """Train a small model for one epoch."""
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab")).eval()
    base = Loaded(model, "small", model_fingerprint(model), model.header())
    noise = np.random.default_rng(0)
    made = [Recording(noise.normal(0, 0.1, 6000).astype(np.float32), 16_000, "ab") for _ in range(3)]
    splits = Splits(train=tuple(made[:2]), validation=tuple(made[2:]))
    logging.getLogger("adapt").setLevel(logging.ERROR)

    def train(folder: Path, resume: bool) -> str:
        run = fine_tune(base, splits, head, epochs=1, folder=folder, resume=resume, loader=Loader())
        return run.loaded.fingerprint

    expected = train(work / "run", False)

    def make(draw: random.Random, folder: Path) -> Case:
        place = Path(shutil.copytree(work / "run", folder / "run"))
        path = place / "checkpoints" / draw.choice(["last.ckpt", "last.ckpt", "best.ckpt"])
        if draw.random() < 0.2:
            path = place / "checkpoints" / "start.json"
        checked = path.suffix == ".json" or draw.random() < 0.5
        if not checked:
            path.with_name(f"{path.name}.sha256").unlink()
        what = _damage(draw, path, folder / MARKER)

        def read() -> None:
            found = train(place, (place / "checkpoints" / "last.ckpt").is_file())
            if checked and found != expected:
                raise Wrong("the resumed run ends with other weights")

        return Case(f"{path.name}{'' if checked else ' without checksum'}: {what}", read)

    return make


def _damage(draw: random.Random, path: Path, marker: Path) -> str:
    if path.suffix == ".json":
        what, data = damage_json_file(draw, path.read_bytes())
        path.write_bytes(data)
        return what
    way = draw.random()
    if way < 0.4:
        what, data = damage_bytes(draw, path.read_bytes())
        path.write_bytes(data)
        return what
    if way < 0.5:
        path.write_bytes(pickle.dumps({"state_dict": Opens(marker)}))
        return "a pickle with code"
    content = torch.load(path, weights_only=True)
    if way < 0.6:
        content["callbacks" if draw.random() < 0.5 else "state_dict"] = Opens(marker)
        torch.save(content, path)
        return "a checkpoint with code"
    what = _change(draw, content)
    torch.save(content, path)
    return what


def _change(draw: random.Random, content: Any) -> str:
    """Replace or remove one value at any depth of a checkpoint."""
    path: list[str] = []
    while True:
        key = draw.choice(list(content)) if isinstance(content, dict) else draw.randrange(len(content))
        path.append(str(key))
        inner = content[key]
        if draw.random() < 0.3 or not isinstance(inner, (dict, list)) or not inner:
            break
        content = inner
    name = ".".join(path)
    if draw.random() < 0.3:
        del content[key]
        return f"{name} removed"
    if isinstance(inner, torch.Tensor) and draw.random() < 0.5:
        content[key] = inner.double()
        return f"{name} in 64 bits"
    content[key] = value = draw.choice(VALUES)
    return f"{name} = {value!r}"
