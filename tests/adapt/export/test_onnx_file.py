"""onnxruntime computes what a CTC model does, for any number and length of utterances."""

import json

import pytest
import torch

from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.export.export import export_model
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.model_files import save_model
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small_wav2letter(folder):
    torch.manual_seed(0)
    made = Wav2LetterCTC(Wav2LetterShape("log_mel", 12, 8, 12, "layer"), Labels.of(" ab"))
    save_model(folder / "m.safetensors", made)
    return folder / "m.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2", "wav2letter"])
def test_any_batch(wav2vec2, speech, tmp_path, family):
    loaded = load_model(str(wav2vec2 if family == "wav2vec2" else small_wav2letter(tmp_path)))
    examples = read_manifest(speech["low_test"])[0][:3]
    exported = export_model(loaded, tmp_path / "graph", "onnx", examples=examples)
    assert [(proof.examples, len(proof.differences)) for proof in exported.proofs] == [(3, 0)]
    session = onnxruntime.InferenceSession(str(tmp_path / "graph" / "model.onnx"))
    draw = torch.Generator().manual_seed(0)
    for lengths in ([31_000], [16_000, 40_000, 9_000]):
        audio = torch.zeros(len(lengths), max(lengths))
        for row, length in zip(audio, lengths, strict=True):
            row[:length] = 0.1 * torch.randn(length, generator=draw) + 0.01
        with torch.no_grad():
            expected, steps = loaded.model(audio, torch.tensor(lengths))
        feed = {"audio": audio.numpy(), "lengths": torch.tensor(lengths).numpy()}
        log_probs, counted = session.run(["log_probs", "steps"], feed)
        assert counted.tolist() == steps.tolist()
        for ours, theirs, count in zip(expected, log_probs, counted, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs[:count]), ours[:count], rtol=1e-3, atol=1e-3)
    facts = json.loads((tmp_path / "graph" / "model.json").read_text())
    assert facts["sample_rate"] == 16_000 and facts["blank"] == loaded.model.blank
    assert facts["units"] == list(loaded.model.vocabulary)
    assert set(facts["characters"]) == ({"", " ", *"abcde"} if family == "wav2vec2" else {"", *" ab"})


def test_models_that_write_token_by_token_are_refused(whisper, tmp_path):
    with pytest.raises(InputError, match="which generates token by token. For Whisper .* use format=ctranslate2"):
        export_model(load_model(str(whisper)), tmp_path / "graph", "onnx")
    assert list(tmp_path.iterdir()) == []
