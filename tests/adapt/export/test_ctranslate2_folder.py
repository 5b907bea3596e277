"""CTranslate2 gives the same tokens as the model."""

import json

import pytest
import torch

from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair, read_pairs
from adapt.errors import InputError
from adapt.export.answers import greedy_answer
from adapt.export.ctranslate2_folder import write_ctranslate2
from adapt.export.export import export_model
from adapt.export.proof import prove
from adapt.models.checkpoint import load_model
from adapt.models.hf_translation import hf_translation

pytest.importorskip("ctranslate2")


@pytest.fixture(scope="module")
def heard(speech):
    """Utterances with and without a language."""
    utterances = read_manifest(speech["low_test"])[0][:4]
    return [type(one)(one.audio_filepath, one.text, lang=lang) for one, lang in
            zip(utterances, ("en", "de", None, "de"), strict=True)]  # fmt: skip


def test_whisper(whisper, heard, tmp_path):
    loaded = load_model(str(whisper), language="german")
    exported = export_model(loaded, tmp_path / "fast", "ctranslate2", examples=heard)
    (proof,) = exported.proofs
    assert (proof.examples, proof.differences) == (4, ())
    assert "gives the same tokens as the model for 4 of 4 utterances" in proof.sentence
    assert proof.sentence in (tmp_path / "fast" / "README.md").read_text()
    assert {"model.bin", "vocabulary.json", "tokenizer.json", "preprocessor_config.json"} <= set(exported.files)
    facts, known = json.loads((tmp_path / "fast" / "config.json").read_text()), loaded.model.net.generation_config
    assert facts["suppress_ids"] == known.suppress_tokens
    assert facts["suppress_ids_begin"] == known.begin_suppress_tokens
    assert facts["lang_ids"] == sorted(known.lang_to_id.values())
    assert facts["alignment_heads"]
    answers = [greedy_answer(loaded.model, one) for one in heard]
    assert all(answers) and len({str(answer) for answer in answers}) > 1


def test_a_difference_is_named(whisper, heard, tmp_path):
    """An engine that runs other weights than the model's."""
    loaded, other = load_model(str(whisper)), load_model(str(whisper))
    with torch.no_grad():
        other.model.net.model.decoder.layer_norm.weight.neg_()
    written = write_ctranslate2(other.model, tmp_path)
    (proof,) = prove(loaded.model, written.engines, heard[:2])
    assert len(proof.differences) == 2 and "for 0 of 2 utterances" in proof.sentence
    name, ours, theirs = proof.differences[0]
    assert name == str(heard[0].audio_filepath) and ours != theirs and ours


@pytest.mark.parametrize("pad", [0.0, 1.0])
def test_marian_that_starts_with_more_than_zeros(marian, language, tmp_path, pad):
    """Training moves the row of the padding, with which the decoder starts; CTranslate2 starts with zeros."""
    model = load_model(str(marian)).model
    with torch.no_grad():
        model.net.model.shared.weight[model.net.config.pad_token_id] = pad
    before = [tensor.clone() for tensor in model.net.parameters()]
    pairs = read_pairs(test=language["test"]).test[:5]
    written = write_ctranslate2(model, tmp_path)
    (proof,) = prove(model, written.engines, pairs)
    assert (proof.examples, proof.differences) == (5, ())
    assert all(torch.equal(old, new) for old, new in zip(before, model.net.parameters(), strict=True))
    if pad:  # the padding does change the answers
        changed = greedy_answer(model, pairs[0])
        model.net.model.shared.weight.data[model.net.config.pad_token_id] = 0
        assert changed != greedy_answer(model, pairs[0])


def test_options_reach_the_usage(marian, tmp_path):
    model = hf_translation(str(marian), prefix=">>de<< ").model
    written = write_ctranslate2(model, tmp_path, "int8")
    assert 'encode(">>de<< ...")' in written.usage and written.relation == "quantized"
    assert list(written.notes) == ["The weights are rounded to int8."]
    (proof,) = prove(model, written.engines, [Pair("a b")])
    assert proof.examples == 1


def test_what_is_not_supported(wav2vec2, whisper, tmp_path):
    model = load_model(str(wav2vec2)).model
    with pytest.raises(InputError, match="this is a Wav2Vec2ForCTC. For a CTC model, use format=onnx"):
        write_ctranslate2(model, tmp_path)
    with pytest.raises(InputError, match="dtype must be one of .*int16 for CTranslate2; got 'int4'"):
        write_ctranslate2(load_model(str(whisper)).model, tmp_path, "int4")


def test_without_ctranslate2(whisper, tmp_path, monkeypatch):
    monkeypatch.setattr("adapt.export.packages.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ctranslate2 is needed to write.*pip install 'innertune\[export\]'"):
        export_model(load_model(str(whisper)), tmp_path / "fast", "ctranslate2")
    assert list(tmp_path.iterdir()) == []
