"""Export a Whisper as the file of OpenAI's own package: `{"dims": ..., "model_state_dict": ...}`, a .pt.

`whisper.load_model(PATH)` reads it (github.com/openai/whisper, `whisper/__init__.py` and `whisper/model.py`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import Answer, spoken_language, text_ids
from adapt.export.proof import Engine, Written
from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq
from adapt.models.model import Model

NAME = "model.pt"
# OpenAI's names for those of transformers. The more special ones come first.
_NAMES = (
    ("encoder_attn_layer_norm", "cross_attn_ln"), ("self_attn_layer_norm", "attn_ln"), ("final_layer_norm", "mlp_ln"),
    ("encoder_attn", "cross_attn"), ("self_attn", "attn"), ("q_proj", "query"), ("k_proj", "key"),
    ("v_proj", "value"), ("out_proj", "out"), ("fc1", "mlp.0"), ("fc2", "mlp.2"), ("layers", "blocks"),
    ("embed_tokens", "token_embedding"), ("embed_positions.weight", "positional_embedding"),
    ("encoder.layer_norm", "encoder.ln_post"), ("decoder.layer_norm", "decoder.ln"),
)  # fmt: skip
_VOCABULARIES = (51864, 51865, 51866)  # of the English models, the multilingual ones, and those from large-v3 on
_OUTPUT = "proj_out.weight"


def write_openai(model: Model, made: Path, dtype: str = "float16") -> Written:
    """Write a Whisper as `model.pt`.

    The file has weights and sizes only: the package has the tokenizer, suppresses its own list of tokens, and takes
    the alignment heads of word times from the model's name, of which a file has none.

    Args:
        model: The model to export.
        made: An existing, empty folder.
        dtype: The type of the weights; OpenAI's files have float16.

    Raises:
        InputError: the model is not a Whisper, or one that OpenAI's code cannot build.
    """
    if not isinstance(model, HFSpeechSeq2Seq):
        raise InputError(f"format=openai is for Whisper, and this is a {type(model.net).__name__}. Use another format.")
    net = model.net
    if net.config.vocab_size not in _VOCABULARIES:
        raise InputError(
            f"OpenAI's package has the tokenizers of {', '.join(map(str, _VOCABULARIES))} tokens, and this Whisper has "
            f"{net.config.vocab_size}. Use format=transformers or format=ctranslate2."
        )
    state = openai_state(net, getattr(torch, dtype))
    torch.save({"dims": openai_sizes(net.config), "model_state_dict": state}, made / NAME)
    _check_file(made / NAME, net, state)
    engine = Engine("openai-whisper", ("whisper",), lambda: _whisper(model, made), net.config.max_target_positions // 2)
    notes = ["The tokens that the model never writes and its alignment heads are not part of such a file."]
    return Written("whisper", _usage(model), (engine,), notes)


def openai_sizes(config: Any) -> dict[str, int]:
    """Return the sizes of a Whisper by OpenAI's names (`ModelDimensions`)."""
    return {
        "n_mels": config.num_mel_bins, "n_vocab": config.vocab_size, "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model, "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers, "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model, "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }  # fmt: skip


def openai_state(net: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights of a Whisper by OpenAI's names.

    Raises:
        InputError: the network has a weight that OpenAI's lacks: a bias of keys, an output layer of its own, or a width
            of the feed-forward layers other than four times the model's.
    """
    weights: Mapping[str, Tensor] = net.state_dict()
    config = net.config
    if {config.encoder_ffn_dim, config.decoder_ffn_dim} != {4 * config.d_model}:
        raise InputError(
            "In OpenAI's code, feed-forward layers are four times as wide as the model. Use another format."
        )
    if not torch.equal(weights[_OUTPUT], weights["model.decoder.embed_tokens.weight"]):
        raise InputError(
            "In OpenAI's code, the output layer is the embedding, and here they differ. Use another format."
        )
    state = {}
    for name, tensor in weights.items():
        if name.endswith("k_proj.bias") or (name.startswith("proj_out.") and name != _OUTPUT):
            raise InputError(f"OpenAI's code has no '{name}'. Fold no intervention there, or use another format.")
        if name != _OUTPUT:
            state[openai_name(name)] = tensor.detach().to("cpu", dtype).contiguous().clone()
    return state


def openai_name(name: str) -> str:
    """Return OpenAI's name of a weight of transformers' Whisper."""
    name = name.removeprefix("model.")
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs)
    return name


def _check_file(path: Path, net: Any, state: Mapping[str, Tensor]) -> None:
    read = torch.load(path, weights_only=True, map_location="cpu")["model_state_dict"]
    names = {name for name in net.state_dict() if name != _OUTPUT}
    if len(read) != len(names) or not all(torch.equal(read[name], tensor) for name, tensor in state.items()):
        raise OSError(f"The weights in '{path}' differ from those that were written.")


def _whisper(model: HFSpeechSeq2Seq, made: Path) -> Callable[[Example], Answer]:
    import whisper  # pyright: ignore[reportMissingImports] (not in the extra: it needs numba)

    engine = whisper.load_model(str(made / NAME), device="cpu")
    suppressed = list(model.net.generation_config.suppress_tokens or [])

    def answer(example: Example) -> Answer:
        audio = whisper.pad_or_trim(model.reader.read(example).numpy())
        mel = whisper.log_mel_spectrogram(audio, n_mels=engine.dims.n_mels)
        language = spoken_language(model, example) if model.multilingual else "en"
        options = whisper.DecodingOptions(
            task=model.generation_options.task, language=language, without_timestamps=True, fp16=False,
            suppress_tokens=suppressed,
        )  # fmt: skip
        return text_ids(model, list(whisper.decode(engine, mel, options).tokens))

    return answer


def _usage(model: HFSpeechSeq2Seq) -> str:
    language = model.language_for(None) if model.multilingual else None
    given = f', language="{language}"' if language else ""
    return (
        "```python\nimport whisper\n\n"
        f'model = whisper.load_model("FOLDER/{NAME}")\nprint(model.transcribe("take.wav"{given})["text"])\n```'
    )
