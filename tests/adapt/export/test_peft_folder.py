"""peft puts an exported adapter on the base, and computes what the adapted model does."""

import json

import pytest
import torch
import transformers

from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.export.card import CardOptions
from adapt.export.export import export_model
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import add_factors, merge_factors


def adapted(pretrained, folder, groups, beside=()):
    """An adaptation by factors with random values; `beside` names parameters that changed too."""
    base, model = load_model(str(pretrained)), load_model(str(pretrained)).model
    draw = torch.Generator().manual_seed(0)
    for method, options, modules in groups:
        names = add_factors(model, modules, method, options)
        with torch.no_grad():
            for name in names:
                parameter = model.get_parameter(name)
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    merged = merge_factors(model)
    with torch.no_grad():
        for name in beside:
            model.get_parameter(name).add_(0.3)
    save_adaptation(folder / "adaptation", base, model, merged.factors)
    return load_model(str(folder))


WAV2VEC2 = "net.wav2vec2.encoder.layers"
WHISPER = "net.model.decoder.layers"


def test_lora_on_ctc_with_norms_beside(wav2vec2, tmp_path, speech):
    groups = [
        ("LORA", {"r": 2, "lora_alpha": 4}, [f"{WAV2VEC2}.0.attention.q_proj", f"{WAV2VEC2}.1.attention.v_proj"]),
        ("LORA", {"r": 3, "lora_alpha": 8}, [f"{WAV2VEC2}.1.attention.q_proj"]),
    ]
    loaded = adapted(wav2vec2, tmp_path / "run", groups, [f"{WAV2VEC2}.0.layer_norm.bias"])
    examples = read_manifest(speech["low_test"])[0][:2]
    exported = export_model(loaded, tmp_path / "adapter", "peft", examples=examples)
    assert set(exported.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert [(proof.examples, len(proof.differences)) for proof in exported.proofs] == [(2, 0)]
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] is None and config["base_model_name_or_path"] == str(wav2vec2)
    assert config["auto_mapping"]["base_model_class"] == "Wav2Vec2ForCTC"
    assert config["modules_to_save"] == ["wav2vec2.encoder.layers.0.layer_norm"]

    from peft import PeftModel

    base = transformers.Wav2Vec2ForCTC.from_pretrained(wav2vec2).eval()
    audio = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = base(audio).logits
        ours = load_model(str(tmp_path / "run")).model.net(audio).logits
        theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()(input_values=audio).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert (plain - ours).abs().max() > 0.01


def test_dora_on_whisper(whisper, tmp_path):
    loaded = adapted(whisper, tmp_path / "run", [("LORA", {"r": 2, "lora_alpha": 4, "use_dora": True},
                                                  [f"{WHISPER}.0.self_attn.q_proj"])])  # fmt: skip
    export_model(loaded, tmp_path / "adapter", "peft", examples=[], card=CardOptions(base_model="openai/whisper-tiny"))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] is None and config["base_model_name_or_path"] == "openai/whisper-tiny"
    assert config["use_dora"] is True


def test_translation_has_its_task_type(marian, tmp_path):
    loaded = adapted(marian, tmp_path / "run", [("LOHA", {"r": 2}, ["net.model.encoder.layers.0.fc1"])])
    exported = export_model(loaded, tmp_path / "adapter", "peft", examples=[])
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["task_type"], config["peft_type"]) == ("SEQ_2_SEQ_LM", "LOHA")
    assert "no examples were given" in exported.proofs[0].sentence

    from peft import AutoPeftModelForSeq2SeqLM

    theirs, tokens = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "adapter").eval(), torch.tensor([[5, 6, 0]])
    with torch.no_grad():
        answers = [net(input_ids=tokens, decoder_input_ids=tokens).logits for net in (theirs, loaded.model.net)]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


def test_what_an_adapter_cannot_hold_is_refused_and_leaves_nothing(whisper, marian, tmp_path):
    lora = [("LORA", {"r": 2, "lora_alpha": 4}, [f"{WHISPER}.0.self_attn.q_proj"])]
    with pytest.raises(InputError, match="is a whole model. Use format=transformers"):
        export_model(load_model(str(whisper)), tmp_path / "a", "peft")
    plain = adapted(whisper, tmp_path / "plain", [], [f"{WHISPER}.0.fc1.bias"])
    with pytest.raises(InputError, match=r"trained factors \(tuning=lora\); '.*' changed the weights themselves"):
        export_model(plain, tmp_path / "a", "peft")
    tied = adapted(whisper, tmp_path / "tied", lora, ["net.model.decoder.embed_tokens.weight"])
    with pytest.raises(InputError, match="peft cannot store 'model.decoder.embed_tokens.weight'"):
        export_model(tied, tmp_path / "a", "peft")
    mixed = adapted(whisper, tmp_path / "mixed", [*lora, ("LOHA", {"r": 2}, [f"{WHISPER}.1.fc1"])])
    with pytest.raises(InputError, match="mixes several of peft's methods"):
        export_model(mixed, tmp_path / "a", "peft")
    on_top = adapted(tmp_path / "plain", tmp_path / "top", lora)
    with pytest.raises(InputError, match="which transformers does not load by itself"):
        export_model(on_top, tmp_path / "a", "peft")
    assert not (tmp_path / "a").exists() and not list(tmp_path.glob(".a*"))
