"""A Whisper in the format of CTranslate2 is the same network as the one that was converted."""

import json
import random
import shutil
import struct

import pytest
import torch
from real_whisper import native_speech, whisper_tiny
from small_hf import save_whisper

from adapt.errors import InputError
from adapt.export.ctranslate2_folder import write_ctranslate2
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.ctranslate2_file import read_ctranslate2
from adapt.models.peek import stored_model

AUDIO = 0.1 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([20_000, 15_000])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    pytest.importorskip("ctranslate2")
    folder = save_whisper(tmp_path_factory.mktemp("hf") / "whisper", texts=("a bad cab", "dead beef", "a babe"))
    return load_model(str(folder))


@pytest.fixture(scope="module")
def converted(original, tmp_path_factory):
    """The folders by type."""
    place = tmp_path_factory.mktemp("ctranslate2")
    folders = {dtype: place / dtype for dtype in ("float32", "float16", "bfloat16", "int8", "int16")}
    for dtype, folder in folders.items():
        folder.mkdir()
        write_ctranslate2(original.model, folder, dtype)
    return folders


def test_float32_is_bit_equal(original, converted):
    loaded = load_model(str(converted["float32"]))
    assert loaded.fingerprint == original.fingerprint and loaded.reference == str(converted["float32"])
    assert loaded.model.generate(AUDIO, LENGTHS, ["en", "de"]) == original.model.generate(AUDIO, LENGTHS, ["en", "de"])
    assert stored_model(str(converted["float32"])) == {"family": "hf_speech_seq2seq"}
    german = load_model(str(converted["float32"]), language="german").model
    assert german.generate(AUDIO, LENGTHS) == original.model.generate(AUDIO, LENGTHS, ["de", "de"])
    assert load_model(str(converted["float32"] / "model.bin")).fingerprint == original.fingerprint


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_equal_after_rounding(original, converted, dtype):
    state = load_model(str(converted[dtype])).model.net.state_dict()
    for name, tensor in original.model.net.state_dict().items():
        assert torch.equal(state[name], tensor.to(getattr(torch, dtype)).float()), name


@pytest.mark.parametrize(("dtype", "levels"), [("int8", 127), ("int16", 1024)])
def test_integers_are_within_half_a_step(original, converted, dtype, levels, caplog):
    state = load_model(str(converted[dtype])).model.net.state_dict()
    assert f"weights of {dtype.removeprefix('int')} bits" in caplog.text and "rounded off is lost" in caplog.text
    rounded = 0
    for name, tensor in original.model.net.state_dict().items():
        flat = tensor.flatten(1) if tensor.dim() > 1 else tensor
        largest = flat.abs().amax(1, keepdim=True) if levels == 127 and tensor.dim() > 1 else tensor.abs().max()
        if dtype == "int16":  # query, key and value share one scale
            largest = largest * 10
        off = (state[name].flatten(1) if tensor.dim() > 1 else state[name]) - flat
        assert (off.abs() <= largest / levels / 2 * 1.001 + 1e-6).all(), name
        rounded += int(off.any())
    assert rounded > 10


def test_what_other_converters_do_not_write(original, converted, tmp_path):
    """Without tokenizer, preprocessor and generation config, as in older folders, and with the vocabulary as text."""
    for name in ("model.bin", "config.json"):
        shutil.copy(converted["float32"] / name, tmp_path)
    tokens = json.loads((converted["float32"] / "vocabulary.json").read_text())
    (tmp_path / "vocabulary.txt").write_text("\n".join(tokens) + "\n")
    preprocessor = converted["float32"] / "preprocessor_config.json"  # its windows have 2 s
    shutil.copy(preprocessor, tmp_path)
    loaded, before = load_model(str(tmp_path)), original.model.net.generation_config
    assert loaded.fingerprint == original.fingerprint
    for text in ("a bad cab", "beef", " a  dead-babe"):
        assert loaded.model.encode(text, "de") == original.model.encode(text, "de")
    known = loaded.model.net.generation_config
    names = ("suppress_tokens", "begin_suppress_tokens", "lang_to_id", "task_to_id", "no_timestamps_token_id")
    assert {name: getattr(known, name) for name in names} == {name: getattr(before, name) for name in names}


def test_an_adaptation_of_it_loads(original, converted, tmp_path):
    weights = load_model(str(converted["float32"])).model.net.parameters()
    places = [parameter.untyped_storage().data_ptr() for parameter in weights]
    assert len({*places}) == len(places)  # equal weights are stored once, and must not train as one
    base, changed = (load_model(str(converted["float32"])) for _ in range(2))
    with torch.no_grad():
        changed.model.net.model.encoder.layer_norm.bias.add_(1)
    save_adaptation(tmp_path / "adaptation", base, changed.model)
    again = load_model(str(tmp_path)).model.net.state_dict()
    assert torch.equal(again["model.encoder.layer_norm.bias"], changed.model.net.model.encoder.layer_norm.bias)


def test_damaged_files_are_errors(converted, tmp_path):
    data = (converted["int8"] / "model.bin").read_bytes()
    draw, path = random.Random(0), tmp_path / "model.bin"
    cases = [data[: draw.randrange(len(data))] for _ in range(20)]
    cases += [b"", struct.pack("<I", 7) + data[4:], b"\xff" * 64, data[:4] + b"\xff\xff" + data[6:]]
    for place in (22, 24, 40, 60):
        cases.append(data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :])
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(InputError, match=r"model\.bin' is not a complete model\.bin of CTranslate2"):
            read_ctranslate2(path)


def test_what_is_missing_is_named(converted, marian, tmp_path):
    shutil.copytree(converted["float32"], tmp_path / "whisper")
    (tmp_path / "whisper" / "vocabulary.json").unlink()
    with pytest.raises(InputError, match=r"has no vocabulary.json or vocabulary.txt"):
        load_model(str(tmp_path / "whisper"))
    (tmp_path / "whisper" / "vocabulary.json").write_text('["a", "b"]')
    with pytest.raises(InputError, match="cannot be read as a Whisper of CTranslate2"):
        load_model(str(tmp_path / "whisper"))
    (tmp_path / "marian").mkdir()
    write_ctranslate2(load_model(str(marian)).model, tmp_path / "marian")
    with pytest.raises(InputError, match="is a Transformer of CTranslate2; innertune reads Whisper"):
        load_model(str(tmp_path / "marian"))


@pytest.mark.slow
def test_a_published_whisper(tmp_path):
    pytest.importorskip("ctranslate2")
    (utterance,) = native_speech(1)
    loaded = load_model(str(whisper_tiny()))
    write_ctranslate2(loaded.model, tmp_path, "float16")
    for name in ("tokenizer.json", "generation_config.json"):
        (tmp_path / name).unlink()
    again = load_model(str(tmp_path))
    assert again.fingerprint == loaded.fingerprint  # its weights were published in 16 bits
    assert again.model.multilingual is False
    assert again.model.encode(utterance.text) == loaded.model.encode(utterance.text)
    before, after = (one.model.net.generation_config for one in (loaded, again))
    assert (after.suppress_tokens, after.alignment_heads) == (before.suppress_tokens, before.alignment_heads)
