"""Loading models in the transformers format, without unpickling and without running code from the folder."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import load_model
from adapt.models.locate import is_hub_id
from adapt.models.state import model_fingerprint


@pytest.fixture
def folder(wav2vec2, tmp_path):
    return shutil.copytree(wav2vec2, tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_family_is_that_of_the_folder(wav2vec2, whisper):
    for path, family in ((wav2vec2, "hf_ctc"), (whisper, "hf_speech_seq2seq")):
        loaded = load_model(str(path))
        assert loaded.header["family"] == loaded.model.header()["family"] == family
        assert loaded.fingerprint == load_model(str(path)).fingerprint == model_fingerprint(loaded.model)
        assert loaded.reference == str(path) and not loaded.model.training


@pytest.mark.parametrize("reference", ["owner/name", "facebook/wav2vec2-base-960h", "runs/base"])
def test_an_unavailable_hub_id_is_an_error(reference):
    with pytest.raises(InputError, match=f"no folder '{reference}'.*Hugging Face hub.*OWNER/NAME"):
        load_model(reference)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("owner/name", True), ("openai/whisper-tiny.en", True), ("us-english", False), ("/a/b", False), ("a/b/c", False),
     ("./b", False), ("../b", False), ("a/w.safetensors", False), ("a/adaptation.json", False)],
)  # fmt: skip
def test_is_hub_id(reference, expected):
    assert is_hub_id(reference) == expected


def test_an_existing_path_is_not_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "runs" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("runs/base")


def test_no_pickle_is_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="not a pickle"):
        load_model(str(folder))


def test_no_code_is_run(folder):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    edit(folder / "config.json", model_type="evil", auto_map={
        "AutoConfig": "evil.Config", "AutoModelForCTC": "evil.Model"})  # fmt: skip
    with pytest.raises(InputError, match="cannot be read as a transformers model"):
        load_model(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("architecture", ["Wav2Vec2ForPreTraining", "SpeechT5ForSpeechToText", "BertModel", None])
def test_other_architectures_are_errors(folder, architecture):
    edit(folder / "config.json", architectures=[architecture] if architecture else None)
    with pytest.raises(InputError, match="Expected a transformers model for CTC"):
        load_model(str(folder))


def test_damaged_or_missing_files_are_input_errors(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(InputError, match="cannot be read as a transformers model"):
        load_model(str(folder))
    (folder / "model.safetensors").write_bytes(whole)
    for name in ("tokenizer_config.json", "vocab.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="cannot be read as a transformers model"):
        load_model(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError):
        load_model(str(folder))


def test_a_network_without_an_output_layer_is_refused(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in state.items() if "lm_head" not in name}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(InputError, match=r"has no weights for 'lm_head\.\w+' of a Wav2Vec2ForCTC"):
        load_model(str(folder))


def test_another_size_than_the_config_says_is_refused(folder):
    edit(folder / "config.json", hidden_size=64)
    with pytest.raises(InputError, match="cannot be read|has no weights for"):
        load_model(str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["adapt.models.wav2letter", "adapt.models.checkpoint", "adapt.models.hf_ctc"])
def test_transformers_is_imported_when_a_model_is_read(module):
    code = f"import sys, {module}; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_vocabulary_whose_ids_have_a_gap(whisper, marian):
    for folder in (whisper, marian):
        model = load_model(str(folder)).model
        tokens = model.tokenizer.get_vocab()
        assert all(model.vocabulary[unit] == token for token, unit in tokens.items())

    class Gapped:
        def get_vocab(self):
            return {"a": 0, "c": 1, "z": 5, "added": 5, "beyond": 9}

    assert hf.vocabulary(Gapped(), 7) == ("a", "c", "", "", "", "z", "")
