"""OpenAI's file: its layout, its names, and the same logits from a network that is built as OpenAI's code builds it."""

import pytest
import torch
from small_hf import save_whisper
from torch import nn

from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.export.export import export_model
from adapt.export.openai_file import openai_name, write_openai
from adapt.models.checkpoint import load_model


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, x, source=None, causal=False):
        source = x if source is None else source
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(source), self.value(source))
        )
        return self.out(
            nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        )


class Block(nn.Module):
    def __init__(self, width, heads, cross):
        super().__init__()
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.cross = cross
        if cross:
            self.cross_attn, self.cross_attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x, heard=None):
        x = x + self.attn(self.attn_ln(x), causal=self.cross)
        if self.cross:
            x = x + self.cross_attn(self.cross_attn_ln(x), heard)
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    def __init__(self, dims):
        super().__init__()
        width = dims["n_audio_state"]
        self.conv1 = nn.Conv1d(dims["n_mels"], width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", torch.empty(dims["n_audio_ctx"], width))
        self.blocks = nn.ModuleList(Block(width, dims["n_audio_head"], False) for _ in range(dims["n_audio_layer"]))
        self.ln_post = nn.LayerNorm(width)

    def forward(self, x):
        gelu = nn.functional.gelu
        x = gelu(self.conv2(gelu(self.conv1(x)))).transpose(1, 2) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class Decoder(nn.Module):
    def __init__(self, dims):
        super().__init__()
        width = dims["n_text_state"]
        self.token_embedding = nn.Embedding(dims["n_vocab"], width)
        self.positional_embedding = nn.Parameter(torch.empty(dims["n_text_ctx"], width))
        self.blocks = nn.ModuleList(Block(width, dims["n_text_head"], True) for _ in range(dims["n_text_layer"]))
        self.ln = nn.LayerNorm(width)

    def forward(self, tokens, heard):
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, heard)
        return self.ln(x) @ self.token_embedding.weight.T


class Whisper(nn.Module):
    """The modules of `whisper/model.py` of OpenAI's package, by their published names."""

    def __init__(self, dims):
        super().__init__()
        self.encoder, self.decoder = Encoder(dims), Decoder(dims)

    def forward(self, mel, tokens):
        return self.decoder(tokens, self.encoder(mel))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(str(save_whisper(tmp_path_factory.mktemp("hf") / "whisper", vocab_size=51865, encoder_ffn_dim=128,
                                       decoder_ffn_dim=128)))  # fmt: skip


def test_openais_code_reads_it(loaded, tmp_path):
    written = write_openai(loaded.model, tmp_path, "float32")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content.keys() == {"dims", "model_state_dict"}
    assert set(content["dims"]) == {
        "n_mels", "n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer", "n_text_ctx",
        "n_text_state", "n_text_head", "n_text_layer",
    }  # fmt: skip
    theirs = Whisper(content["dims"])
    theirs.load_state_dict(content["model_state_dict"])
    net = loaded.model.net
    draw = torch.Generator().manual_seed(0)
    mel, tokens = torch.randn(1, 20, 200, generator=draw), torch.randint(0, 250, (1, 7), generator=draw)
    with torch.no_grad():
        ours = net(input_features=mel, decoder_input_ids=tokens).logits
        torch.testing.assert_close(theirs(mel, tokens), ours, rtol=1e-4, atol=1e-4)
    assert 'whisper.load_model("FOLDER/model.pt")' in written.usage


def test_half_as_openais_own_files_and_back(loaded, tmp_path):
    write_openai(loaded.model, tmp_path, "float16")
    state = torch.load(tmp_path / "model.pt", weights_only=True)["model_state_dict"]
    for name, tensor in loaded.model.net.state_dict().items():
        if name != "proj_out.weight":
            assert torch.equal(state.pop(openai_name(name)), tensor.half()), name
    assert state == {}


def test_names():
    names = {
        "model.encoder.layers.3.self_attn_layer_norm.bias": "encoder.blocks.3.attn_ln.bias",
        "model.decoder.layers.0.encoder_attn_layer_norm.weight": "decoder.blocks.0.cross_attn_ln.weight",
        "model.decoder.layers.0.encoder_attn.v_proj.weight": "decoder.blocks.0.cross_attn.value.weight",
        "model.encoder.layer_norm.weight": "encoder.ln_post.weight",
        "model.decoder.layer_norm.weight": "decoder.ln.weight",
        "model.encoder.embed_positions.weight": "encoder.positional_embedding",
        "model.decoder.embed_tokens.weight": "decoder.token_embedding.weight",
        "model.decoder.layers.1.final_layer_norm.weight": "decoder.blocks.1.mlp_ln.weight",
        "model.encoder.conv1.weight": "encoder.conv1.weight",
    }
    assert {name: openai_name(name) for name in names} == names


def test_what_openais_code_cannot_build(loaded, whisper, wav2vec2, tmp_path):
    with pytest.raises(InputError, match="51864, 51865, 51866 tokens, and this Whisper has"):
        write_openai(load_model(str(whisper)).model, tmp_path)
    with pytest.raises(InputError, match="is for Whisper, and this is a Wav2Vec2ForCTC"):
        write_openai(load_model(str(wav2vec2)).model, tmp_path)
    narrow = save_whisper(tmp_path / "narrow", vocab_size=51865)
    with pytest.raises(InputError, match="four times as wide"):
        write_openai(load_model(str(narrow)).model, tmp_path)


def test_without_the_package_it_says_what_is_not_proven(loaded, tmp_path, speech):
    examples = read_manifest(speech["low_test"])[0][:1]
    exported = export_model(loaded, tmp_path / "openai", "openai", "float16", examples=examples)
    (proof,) = exported.proofs
    assert proof.sentence == (
        "Not proven with openai-whisper: whisper is not installed. Install it with: pip install openai-whisper"
    )
    assert proof.sentence in (tmp_path / "openai" / "README.md").read_text()
