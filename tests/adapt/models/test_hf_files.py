"""What transformers would load besides the weights of a folder is refused: pickles, adapters, code."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapt.errors import InputError
from adapt.models.checkpoint import load_model


class Opens:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def folder(wav2vec2, tmp_path):
    return shutil.copytree(wav2vec2, tmp_path / "model")


def with_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def sharded(folder, second):
    """Split the weights over two files; the index calls the second one `second`."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"first.safetensors": names[::2], "second.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {name: "first.safetensors" for name in names[::2]} | {name: second for name in names[1::2]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return {name: weights[name] for name in names[1::2]}


def test_shards_are_read(folder, wav2vec2):
    sharded(folder, "second.safetensors")
    assert load_model(str(folder)).fingerprint == load_model(str(wav2vec2)).fingerprint


def test_a_pickle_among_the_shards_is_not_read(folder, tmp_path):
    second = sharded(folder, "second.bin")
    torch.save(second, folder / "second.bin")  # transformers would load it
    with pytest.raises(InputError, match="names 'second.bin'. Expected safetensors files in the same folder"):
        load_model(str(folder))
    (folder / "second.bin").write_bytes(pickle.dumps(Opens(tmp_path / "executed")))
    with pytest.raises(InputError, match="other files may be pickles"):
        load_model(str(folder))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["../second.safetensors", "{tmp}/second.safetensors", "sub/second.safetensors", "", 3,
                                  None, "..", "a\\second.safetensors"])  # fmt: skip
def test_a_shard_outside_of_the_folder_is_not_read(folder, tmp_path, name):
    name = name.format(tmp=tmp_path) if isinstance(name, str) else name
    sharded(folder, name)
    (tmp_path / "second.safetensors").write_bytes((folder / "second.safetensors").read_bytes())
    with pytest.raises(InputError, match="Expected safetensors files in the same folder"):
        load_model(str(folder))


def test_a_missing_shard_is_named(folder):
    sharded(folder, "third.safetensors")
    with pytest.raises(InputError, match="names 'third.safetensors', which is not in the folder"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": []}', '{"weight_map": {}}', "{}", "[" * 100_000])
def test_a_damaged_index_is_named(folder, text):
    sharded(folder, "second.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match="index.json' (has no weight_map|is not valid JSON|must hold a JSON object)"):
        load_model(str(folder))


def test_pickled_weights_are_not_read(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(tmp_path / "executed")))
    with pytest.raises(InputError, match="model.safetensors \\(not a pickle"):
        load_model(str(folder))
    assert not (tmp_path / "executed").exists()


def test_an_adapter_in_a_folder_is_refused(folder, wav2vec2):
    """transformers used to add it: the model was another one, and nothing said so."""
    import peft
    import transformers

    net = transformers.AutoModelForCTC.from_pretrained(wav2vec2)
    adapted = peft.get_peft_model(net, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(folder)
    assert (folder / "adapter_config.json").is_file()
    with pytest.raises(InputError, match="has an adapter_config.json.*merge_and_unload"):
        load_model(str(folder))
    (folder / "adapter_config.json").unlink()
    assert load_model(str(folder)).fingerprint == load_model(str(wav2vec2)).fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "32"}, "cannot be read as a transformers model"),
        ({"hidden_size": None}, "cannot be read as a transformers model"),
        ({"hidden_size": []}, "cannot be read as a transformers model"),
        ({"hidden_size": 2**40}, f"hidden_size={2**40}: a number beyond the sizes of any model"),
        ({"hidden_size": 0}, "cannot be read as a transformers model"),
        ({"hidden_size": -32}, "cannot be read as a transformers model"),
        ({"conv_stride": 5}, "cannot be read as a transformers model"),
        ({"conv_stride": [5, "8", 4]}, "cannot be read as a transformers model"),
        ({"conv_kernel": []}, "cannot be read as a transformers model"),
        ({"hidden_dropout": -0.1}, "hidden_dropout=-0.1: no probability"),
        ({"hidden_dropout": float("nan")}, "hidden_dropout=nan: no probability"),
        ({"architectures": 3}, "cannot be read as a transformers model"),
        ({"architectures": ["Wav2Vec2Model"]}, "Expected a transformers model for CTC"),
        ({"model_type": ["wav2vec2"]}, "cannot be read as a transformers model"),
        ({"vocab_size": True}, "cannot be read as a transformers model"),
        ({"_attn_implementation": "someone/attention"}, "code for attention from the hub"),
        ({"attn_implementation": "someone/attention"}, "code for attention from the hub"),
    ],
)
def test_a_wrong_config_is_refused_with_a_sentence(folder, changes, said):
    with_config(folder, **changes)
    with pytest.raises(InputError, match=said):
        load_model(str(folder))


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_start_token_outside_of_the_vocabulary_is_named(marian, tmp_path, token):
    folder = shutil.copytree(marian, tmp_path / "model")
    with_config(folder, decoder_start_token_id=token)
    with pytest.raises(InputError, match=f"decoder_start_token_id={token}, but "):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": ["b"]}', "[" * 100_000])
def test_a_damaged_file_of_the_processor_is_refused_or_harmless(folder, wav2vec2, name, text):
    path = folder / name
    if not path.is_file():
        path = folder / "processor_config.json"
    path.write_text(text)
    try:
        loaded = load_model(str(folder))
    except InputError as error:
        assert str(folder) in str(error) or "tokenizer" in str(error)
    else:
        assert loaded.fingerprint == load_model(str(wav2vec2)).fingerprint
