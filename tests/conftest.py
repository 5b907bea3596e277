"""Speech that is made in a moment: each letter is a tone, so that a tiny network learns to read it in seconds."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # tiny networks: threads that wait for each other cost more than they give

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adapt.data.manifest import Utterance, write_manifest

RATE = 16_000
LETTERS = " abcde"


def tones(text: str, shift: float = 1.0, seconds: float = 0.12) -> np.ndarray:
    """The samples of `text`: a tone a letter, 120 ms each; `shift` multiplies all frequencies, as an accent might."""
    time = np.arange(int(RATE * seconds)) / RATE
    parts = [
        np.sin(2 * np.pi * 300 * 1.5 ** LETTERS.index(letter) * shift * time) * np.hanning(len(time)) for letter in text
    ]
    noise = np.random.default_rng(len(text)).normal(0, 0.003, len(parts) * len(time))
    return (0.4 * np.concatenate(parts) * [letter != " " for letter in text for _ in time] + noise).astype(np.float32)


def write_tones(folder: Path, name: str, count: int, shift: float = 1.0, seed: int = 0, **facts: str) -> Path:
    """A manifest of `count` utterances of two short words each, with their audio."""
    draw = np.random.default_rng(seed)
    utterances = []
    for number in range(count):
        words = ["".join(draw.choice(list(LETTERS[1:]), 3)) for _ in range(2)]
        text = " ".join(words)
        path = folder / name / f"{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = tones(text, shift)
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(path, text, duration=len(samples) / RATE, **facts))
    write_manifest(folder / f"{name}.jsonl", utterances)
    return folder / f"{name}.jsonl"


TINY = ["model.inner=32", "model.big=48", "model.n_features=20", f"model.labels='{LETTERS}'"]


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of a source and a target "accent" (all tones higher), each with train, validation and test."""
    folder = tmp_path_factory.mktemp("speech")
    parts = {"train": (120, 1), "validation": (8, 2), "test": (12, 3)}
    made = {}
    for accent, shift in (("low", 1.0), ("high", 1.25)):
        for seed, (part, (count, draw)) in enumerate(parts.items()):
            made[f"{accent}_{part}"] = write_tones(
                folder, f"{accent}_{part}", count, shift, draw + seed, accent=accent, speaker=f"{accent}{draw % 2}"
            )
    return made


@pytest.fixture(scope="session")
def innertune() -> Callable[..., Path]:
    """Run a command in this process, as `innertune COMMAND OVERRIDES` would: `innertune("adapt", "output=...")`."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    from adapt.show import config_folder

    def run(command: str, *overrides: str) -> Path | None:
        import importlib

        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose(command, list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            cfg = compose(command, list(overrides))
        importlib.import_module(f"adapt.{command}").main(cfg)
        return Path(cfg.output) if "output" in cfg else None

    return run


@pytest.fixture(scope="session")
def base(speech: dict[str, Path], innertune: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `pretrain` run on the source accent; good enough to tell letters apart."""
    return innertune(
        "pretrain", *TINY, "data=manifest", f"data.train={speech['low_train']}",
        f"data.validation={speech['low_validation']}", f"data.test={speech['low_test']}",
        f"output={tmp_path_factory.mktemp('runs') / 'base'}", "trainer.max_epochs=14", "loader.batch_seconds=3.4",
        "optimizer.lr=0.005",
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither use nor fill the user's cache."""
    os.environ["INNERTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
