"""transformers and torchaudio load exported models by themselves, and compute the same as the original model."""

import pytest
import torch
import transformers
from safetensors.torch import load_file
from small_hf import save_speech_encoder_decoder

from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.export import export
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.hf_translation import hf_translation
from adapt.models.labels import Labels
from adapt.models.model_files import save_model
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from interventions.ablate import Ablate
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.sites import site_at
from interventions.steer import Steer
from interventions.store import save

AUDIO = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))


def adapted(pretrained, folder):
    """An adaptation of a model with small changes of some weights."""
    base, model = load_model(str(pretrained)), load_model(str(pretrained)).model
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            if number % 3 == 0 and name not in model.never_trained:
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=draw))
    save_adaptation(folder / "adaptation", base, model)
    return load_model(str(folder)).model


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_ctc(wav2vec2, tmp_path):
    model = adapted(wav2vec2, tmp_path / "run").eval()
    before = bits(model)
    names = export(model, tmp_path / "plain")
    assert (
        {"config.json", "model.safetensors", "vocab.json"}
        <= set(names)
        == {path.name for path in (tmp_path / "plain").iterdir()}
    )
    assert same(bits(model), before)
    (tmp_path / "mine").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "plain").iterdir()}
    assert modes == {(tmp_path / "mine").stat().st_mode}
    net = transformers.AutoModelForCTC.from_pretrained(tmp_path / "plain").eval()
    assert type(net) is transformers.Wav2Vec2ForCTC
    heard = transformers.AutoProcessor.from_pretrained(tmp_path / "plain")(
        AUDIO[0].numpy(), sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        logits = net(**heard).logits
        ours = model(AUDIO, torch.tensor([AUDIO.shape[1]])).log_probs
    torch.testing.assert_close(logits.log_softmax(-1), ours, rtol=1e-4, atol=1e-4)


def test_whisper_writes_its_language(whisper, tmp_path):
    model = hf_speech_seq2seq(str(whisper), language="german", beams=2).model
    export(model, tmp_path / "plain")
    net = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "plain").eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "plain")
    assert (net.generation_config.language, net.generation_config.num_beams) == ("german", 2)
    heard = processor(AUDIO[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    said = processor.batch_decode(net.generate(heard), skip_special_tokens=True)
    assert [text.strip() for text in said] == model.generate(AUDIO, torch.tensor([AUDIO.shape[1]]))


def test_a_speech_encoder_with_a_decoder(tmp_path):
    model = load_model(str(save_speech_encoder_decoder(tmp_path / "made"))).model
    export(model, tmp_path / "plain")
    net = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "plain").eval()
    assert same(
        net.state_dict(), transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "made").state_dict()
    )
    heard = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "plain")(
        AUDIO[0].numpy(), sampling_rate=16_000, return_tensors="pt"
    )
    said = transformers.AutoTokenizer.from_pretrained(tmp_path / "plain").batch_decode(
        net.generate(**heard), skip_special_tokens=True
    )
    assert [text.strip() for text in said] == model.generate(AUDIO, torch.tensor([AUDIO.shape[1]]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_translation(marian, tmp_path, dtype):
    adapted(marian, tmp_path / "run")
    model = hf_translation(str(tmp_path / "run"), beams=2, max_tokens=9).model
    export(model, tmp_path / "plain", dtype)
    net = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "plain").eval()
    assert net.dtype == getattr(torch, dtype)
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {net.dtype}
    assert all(torch.equal(tensor, model.net.state_dict()[name].to(net.dtype)) for name, tensor in stored.items())
    if dtype == "float32":
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "plain")
        text = "a b"
        said = tokenizer.batch_decode(net.generate(**tokenizer(text, return_tensors="pt")), skip_special_tokens=True)
        tokens = model.reader.read(Pair(text)).unsqueeze(0)
        assert [one.strip() for one in said] == model.generate(tokens, torch.tensor([tokens.shape[1]]))


def test_torchaudios_wav2letter(tmp_path):
    from torchaudio.models import Wav2Letter

    torch.manual_seed(0)
    made = Wav2LetterCTC(Wav2LetterShape("mfcc", 13), Labels.of(" ab"))
    save_model(tmp_path / "m.safetensors", made)
    model = load_model(str(tmp_path / "m.safetensors")).model
    assert export(model, tmp_path / "plain", "float16") == ["model.json", "model.safetensors"]
    net = Wav2Letter(num_classes=4, input_type="mfcc", num_features=13)
    net.load_state_dict(load_file(tmp_path / "plain" / "model.safetensors"))
    assert all(torch.equal(net.state_dict()[name], own.half().float()) for name, own in model.net.state_dict().items())
    assert '"torchaudio.models.wav2letter.Wav2Letter"' in (tmp_path / "plain" / "model.json").read_text()


def test_folded_interventions(marian, tmp_path):
    loaded = load_model(str(marian))
    model = loaded.model
    before = bits(model)
    site = site_at(model, "net.model.decoder.layers.1.fc2")
    draw = torch.Generator().manual_seed(0)
    edits = (Steer(site, torch.randn(site.units, generator=draw), 3.0), Ablate(Neurons({site: [1, 4]})))
    export(model, tmp_path / "plain", interventions=edits)
    assert same(bits(model), before)
    net = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "plain").eval()
    tokens = torch.tensor([[5, 6, 7, 0]])
    with torch.no_grad():
        plain = net(input_ids=tokens, decoder_input_ids=tokens).logits
        bare = model.net(input_ids=tokens, decoder_input_ids=tokens).logits
        with intervene(model, *edits):
            edited = model.net(input_ids=tokens, decoder_input_ids=tokens).logits
    torch.testing.assert_close(plain, edited, rtol=1e-4, atol=1e-4)
    assert (plain - bare).abs().max() > 0.1


def test_what_a_plain_folder_cannot_hold_is_an_error_that_leaves_no_files(tmp_path, whisper):
    model = load_model(str(whisper)).model
    before = bits(model)
    tied, bare = (site_at(model, name) for name in ("net.proj_out", "net.model.encoder.layers.0.self_attn.k_proj"))
    for site, says in (
        (tied, r"cannot be folded: .*tied to"),
        (bare, r"A plain WhisperForConditionalGeneration cannot store the value of '.*k_proj.bias'"),
    ):
        with pytest.raises(InputError, match=says):
            export(model, tmp_path / "plain", interventions=[Steer(site, torch.ones(site.units), 1.0)])
    assert not list(tmp_path.iterdir()) and same(bits(model), before)


def test_a_folder_that_is_not_empty_and_unknown_types_are_errors(tmp_path, marian):
    model = load_model(str(marian)).model
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        export(model, tmp_path)
    with pytest.raises(InputError, match=r"mine\.txt' is a file"):
        export(model, tmp_path / "mine.txt" / "plain")
    with pytest.raises(InputError, match="dtype must be"):
        export(model, tmp_path / "plain", "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_command(innertune, marian, tmp_path, capsys):
    loaded = load_model(str(marian))
    site = site_at(loaded.model, "net.model.encoder.layers.0.fc1")
    save(tmp_path / "edits.safetensors", [Ablate(Neurons({site: [3]}))], loaded.fingerprint)
    innertune("export", f"model.pretrained={marian}", f"output={tmp_path / 'plain'}",
              f"fold={tmp_path / 'edits.safetensors'}")  # fmt: skip
    assert "model.safetensors" in capsys.readouterr().out
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    assert not stored["model.encoder.layers.0.fc1.weight"][3].any()
    with pytest.raises(InputError, match="fold=.*belongs to another model"):
        innertune("export", f"model.pretrained={tmp_path / 'plain'}", f"output={tmp_path / 'again'}",
                  f"fold=[{tmp_path / 'edits.safetensors'}]")  # fmt: skip
