"""`device=` of the commands: one choice for training and for all that is read before and after it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from adapt import InputError
from adapt.commands._device import base_to_train, loaded_model, trainer_of
from adapt.models.devices import device_of
from adapt.renamed import translate


def config(base: Path, device: str = "auto", **trainer: object):
    node = {"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "auto", "devices": 1}
    model = {"_target_": "adapt.models.checkpoint.load_model", "pretrained": str(base)}
    return OmegaConf.create({"device": device, "model": model, "trainer": {**node, "max_epochs": 1, **trainer}})


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_the_trainer_trains_on_the_device(base: Path, gpus: None):
    def found(*given: str, **trainer: object) -> tuple:
        keywords = trainer_of(config(base, *given, **trainer)).keywords
        return keywords["accelerator"], keywords["devices"]

    assert found() == found("cuda") == ("cuda", 1)
    assert found("cuda:1") == ("cuda", [1])
    assert found("cpu") == found(accelerator="cpu") == ("cpu", 1)
    assert found(accelerator="gpu", devices=2) == ("gpu", 2)
    assert found("cuda", accelerator="gpu") == ("gpu", 1)
    with pytest.raises(InputError, match="device=cuda and trainer.accelerator=cpu are different devices"):
        found("cuda", accelerator="cpu")
    with pytest.raises(InputError, match="this machine has cpu, cuda:0, cuda:1"):
        found("cuda:7")


def test_the_model_is_where_the_trainer_is(base: Path):
    assert device_of(base_to_train(config(base, "cpu")).model) == torch.device("cpu")
    cfg = OmegaConf.merge(config(base, "cpu"), {"precision": "bf16"})
    assert loaded_model(cfg).model.precision == "bf16"  # pyright: ignore[reportArgumentType]


def test_a_run_that_was_started_before_there_was_a_device_is_resumed():
    assert translate({"trainer.accelerator": "cpu"}, {"trainer.accelerator": "auto"}) == {"trainer.accelerator": "auto"}
    assert translate({"trainer.accelerator": "gpu"}, {"trainer.accelerator": "auto"}) == {"trainer.accelerator": "gpu"}


@pytest.mark.parametrize("command", ["evaluate", "transcribe", "introspect", "correct", "compare", "blend", "adapt"])
def test_a_device_that_is_not_there_is_refused(
    command: str, base: Path, speech: dict[str, Path], tmp_path: Path, innertune: Callable[..., Path]
):
    model = {"compare": [f"before={base}", f"after={base}"], "blend": [f"models={base}"]}
    given = model.get(command, [f"model.pretrained={base}"])
    audio = {"transcribe": ["audio=take.wav"], "correct": ["audio=take.wav", "text=abc"]}.get(command, [])
    if command == "transcribe":
        audio = [f"audio={next((speech['low_test'].parent / 'low_test').glob('*.wav'))}"]
    if command in ("introspect", "compare", "adapt"):
        given = [*given, "data=manifest"]
    with pytest.raises(InputError, match=r"device=cuda:9: this machine has cpu"):
        innertune(command, *given, *audio, "device=cuda:9", *([f"output={tmp_path}/x"] if not audio else []))


def test_a_precision_in_the_command_line(
    base: Path, speech: dict[str, Path], tmp_path: Path, innertune: Callable[..., Path]
):
    data = [f"model.pretrained={base}", f"data.test={speech['low_test']}"]
    texts = []
    for precision in ("32", "bf16"):
        folder = innertune("evaluate", *data, f"precision={precision}", f"output={tmp_path / precision}")
        lines = (folder / "transcripts.jsonl").read_text().splitlines()
        texts.append([json.loads(line)["pred_text"] for line in lines])
    assert sum(one == other for one, other in zip(*texts, strict=True)) >= 10  # of 12
    with pytest.raises(InputError, match="precision=16 works on a GPU only"):
        innertune("evaluate", *data, "precision=16", "device=cpu", f"output={tmp_path / 'x'}")
