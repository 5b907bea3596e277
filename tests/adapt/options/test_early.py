"""What is checked before torch is imported: a wrong option is reported at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from adapt import InputError
from adapt.option_texts import config_folder
from adapt.options.early import check_early

US, DE = "model.pretrained=us-english", "model.pretrained=weather-en-de"
WRONG = {
    "adapt optimizer.lr=-1": "optimizer.lr must be a number of at least 0; got -1",
    "adapt optimizer.weight_decay=x": "optimizer.weight_decay must be a number of at least 0; got 'x'",
    "adapt blend=2": "blend must be a number from 0",
    "adapt blend=x": "blend must be auto, off, or a factor",
    "adapt forget=x": "forget must be a number of points",
    "adapt blend=off forget=1": "forget=1 is kept by the search for a blend",
    "adapt labels=some": "labels must be one of given, none; got 'some'",
    "adapt schedule=x": "schedule must be one of constant, linear, cosine",
    "adapt warmup=3": "warmup must be a share",
    "adapt replay=7": "replay must be the share",
    "adapt patience=0": "patience must be a whole number of at least 1",
    "adapt unfreeze=0": "unfreeze must be a whole number of at least 1",
    "adapt monitor=wer": "monitor=wer is not measured in training",
    "adapt timestamps=2": "timestamps must be a share",
    "adapt checkpoint_every=x": "checkpoint_every=x is not possible",
    "adapt trainer.max_epochs=0": "trainer.max_epochs must be .* got 0. 0 would train nothing: dry_run=true",
    "adapt trainer.devices=0": "trainer.devices must be a number",
    "adapt +trainer.precision=foo": "trainer.precision=foo is unknown. Give 32-true",
    "adapt trainer=gpu": "trainer.accelerator=gpu .as trainer=gpu sets it.: this machine has cpu only",
    "adapt trainer.gradient_clip_val=-1": "trainer.gradient_clip_val must be",
    "adapt cache.use=x": "cache.use must be one of auto, off; got 'x'",
    "adapt cache.gigabytes=-1": "cache.gigabytes must be",
    "adapt loader.batch_seconds=-1": "loader.batch_seconds must be",
    "adapt loader.speeds=[9]": "loader.speeds must be numbers from",
    "adapt causes=-1": "causes must be a whole number",
    "adapt data.on_error=x": "data.on_error must be one of stop, skip",
    "adapt data=manifest data.train=nope.jsonl": "data.train: there is no file 'nope.jsonl'",
    "pretrain save_half=x": "save_half must be true or false; got 'x'",
    "pretrain trainer.max_epochs=0": "trainer.max_epochs must be",
    "evaluate precision=7": "precision must be one of 32, bf16, 16; got '7'",
    "evaluate device=gpu": "device=gpu: expected cpu, cuda",
    "evaluate device=cuda:9": "device=cuda:9: this machine has cpu",
    "plan criterion=x": "criterion must be one of",
    f"transcribe {US} audio=a.wav output=o format=x": "format must be one or several of",
    f"transcribe {US} audio=a.wav format=srt": "format=srt is for files: give output=FOLDER",
    f"transcribe {US} audio=a.wav decoding=x": "decoding must be one of pieces, sequential",
    f"transcribe {US} audio=a.wav width=0": "width must be a whole number",
    f"transcribe {US} audio=a.wav vad=3": "vad must be true or false; got 3",
    f"translate {DE}": "There is nothing to translate",
    f"export {US} output=o format=x": "format must be one of transformers",
    f"export {US} output=o dtype=int8": "dtype must be one of float32, float16, bfloat16 with format=transformers",
    f"export {US} output=o private=true": "private=true is for a repository on the hub",
    f"correct {US} audio=a.wav": "Nothing to correct: give audio=... and text=...",
    f"correct {US} audio=a.wav text=": "text is empty. Give what was said",
    f"correct {DE} source=x target=": "target is empty. Give the translation",
    f"correct {US} audio=a.wav text=x strength=-1": "strength=-1: expected a number above 0",
    f"correct {US} audio=a.wav text=x site=sweep": "site=sweep compares layers on many corrections",
    f"correct {US} audio=a.wav text=x corrections=off": "corrections=off leaves no place",
    f"corrections {US} action=foo": "action must be one of list, show",
    f"corrections {US} action=forget": "Say what to forget",
}
RIGHT = [
    "adapt", "pretrain", "evaluate", "compare before=a after=b", "plan", "adapt cache.use=off", "adapt schedule=linear",
    "adapt blend=off", "adapt trainer.devices=2", "adapt +trainer.precision=16", "adapt labels=none data=manifest",
    "steer", "choose choose=ablation", "introspect", "blend models=a method=ties", "adapt 'tuning=auto'",
    f"transcribe {US} audio=a.wav precision=bf16", f"transcribe {US} audio=a.wav output=o format=[srt,json]",
    f"export {US} output=o format=ctranslate2 dtype=int8", f"correct {US} audio=a.wav text=x", f"corrections {US}",
    f"correct {DE} source=x target=y", f"translate {DE} text=x", "plan curve=true",
]  # fmt: skip


def check(line: str) -> None:
    command, *options = line.replace("'", "").split()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        HydraConfig.instance().set_config(compose(command, options, return_hydra_config=True))
        cfg = compose(command, options)
    check_early(command, cfg)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_option_is_refused(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adapt.models.devices.known_devices", lambda: ["cpu"])
    with pytest.raises(InputError, match=f"^{WRONG[line]}"):
        check(line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", RIGHT)
def test_right_options_pass(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    check(line)


@pytest.mark.slow
def test_neither_torch_nor_lightning_is_imported_for_it():
    code = (
        "import sys; sys.argv = ['innertune', 'adapt', 'blend=2']\n"
        "from adapt.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False False\n"
    assert done.stderr.startswith("innertune adapt: blend must be a number from 0 (the base) to 1")
