"""The command export: its files, what it prints, what it refuses before it begins."""

import pytest
from safetensors.torch import load_file

from adapt.errors import InputError
from adapt.models.checkpoint import load_model


def test_formats_and_examples(innertune, whisper, speech, tmp_path, capsys):
    pytest.importorskip("ctranslate2")
    fast = tmp_path / "fast"
    innertune("export", f"model.pretrained={whisper}", "+model.language=de", f"output={fast}", "format=ctranslate2",
              "dtype=int8", f"examples={speech['low_test']}", "card.license=mit")  # fmt: skip
    said = capsys.readouterr().out
    assert "model.bin" in said and "The weights are rounded to int8." in said
    assert "tokens as the model for" in said and "utterances (greedy decoding)" in said
    assert "license: mit" in (fast / "README.md").read_text()
    assert load_model(str(fast)).model.net.config.d_model == 32
    with pytest.raises(InputError, match="is not empty"):
        innertune("export", f"model.pretrained={whisper}", f"output={fast}")
    assert "license: mit" in (fast / "README.md").read_text()


def test_a_run_proves_itself_on_its_test_data(innertune, base, tmp_path, capsys):
    innertune("export", f"model.pretrained={base}", f"output={tmp_path / 'plain'}", "examples=off")
    assert "no examples were given" in capsys.readouterr().out
    assert {"model.safetensors", "model.json", "README.md"} == {path.name for path in (tmp_path / "plain").iterdir()}
    assert load_file(tmp_path / "plain" / "model.safetensors")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["format=onnx", "dtype=float16"], "dtype must be one of float32 with format=onnx; got 'float16'"),
        (["format=gguf"], "format must be one of transformers, peft, ctranslate2, onnx, openai"),
        (["private=true"], "private=true is for a repository on the hub"),
        (["push=scottish"], "push=scottish: expected OWNER/NAME"),
        (["card.base_model=tiny"], "card.base_model must be OWNER/NAME"),
        (["examples=nowhere.jsonl"], r"nowhere\.jsonl"),
    ],
)
def test_what_is_refused_leaves_nothing(innertune, base, tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        innertune("export", f"model.pretrained={base}", f"output={tmp_path / 'plain'}", *options)
    assert list(tmp_path.iterdir()) == []
