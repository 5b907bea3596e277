"""A Whisper in the format of CTranslate2 and faster-whisper, as the same network of transformers.

The folder has `model.bin`, `config.json` (tokens that are suppressed, languages, alignment heads) and the vocabulary,
and usually `tokenizer.json` and `preprocessor_config.json`. Without `tokenizer.json`, the tokenizer is made from the
vocabulary: the order of the tokens of a byte-level BPE is that of its merges.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.files import is_file, read_json
from adapt.models.ctranslate2_file import CTranslate2File, read_ctranslate2

log = logging.getLogger(__name__)
_LAYER = {
    "self_attention/layer_norm": "self_attn_layer_norm", "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm", "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj", "ffn/layer_norm": "final_layer_norm", "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}  # fmt: skip
# The linear maps that CTranslate2 has as one.
_FUSED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_TOP = {
    "conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm", "position_encodings": "embed_positions",
    "embeddings": "embed_tokens",
}  # fmt: skip
_KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}
_GELU = 3
_ENGLISH = 51864  # tokens of OpenAI's English models
_END, _START, _TIMES = "<|endoftext|>", "<|startoftranscript|>", re.compile(r"<\|\d+\.\d\d\|>")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")


def whisper_of_ctranslate2(path: Path) -> tuple[Any, Any]:
    """Return the network and the processor of a folder of CTranslate2. The weights have 32 bits.

    Args:
        path: Its `model.bin`.

    Raises:
        InputError: the model is not a Whisper, or a file is missing or damaged.
    """
    stored = read_ctranslate2(path)
    if stored.spec != "WhisperSpec":
        raise InputError(
            f"'{path}' is a {stored.spec.removesuffix('Spec')} of CTranslate2; innertune reads Whisper in this format. "
            "Give the model in the transformers format that it was converted from."
        )
    try:
        tokens, state = _vocabulary(path.parent), _state(stored)
        processor = _processor(path.parent, tokens, state["model.encoder.conv1.weight"].shape[1])
        net = _network(stored, state, tokens, processor.tokenizer)
        net.generation_config = _generation_config(path.parent, net, tokens)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise InputError(
            f"'{path.parent}' cannot be read as a Whisper of CTranslate2 ({message}). Expected model.bin, config.json, "
            "vocabulary.json or vocabulary.txt, and tokenizer.json, as ct2-transformers-converter writes them."
        ) from None
    if stored.rounded.startswith("int"):
        log.warning(
            "'%s' holds weights of %s bits. They are restored to 32 bits; what was rounded off is lost.",
            path, stored.rounded.removeprefix("int"),
        )  # fmt: skip
    return net, processor


def _state(stored: CTranslate2File) -> dict[str, Tensor]:
    """Return the weights under the names of transformers."""
    state: dict[str, Tensor] = {}
    for name in stored.arrays:
        place, _, kind = name.rpartition("/")
        if kind not in _KINDS or stored.arrays[name].dim() == 0:
            continue
        stack, _, module = place.partition("/")
        layer, _, inner = module.partition("/")
        if place == "decoder/projection":
            state["proj_out.weight"] = stored.weight(name)
        elif not layer.startswith("layer_") or layer == "layer_norm":
            state[f"model.{stack}.{_TOP[module]}.{_KINDS[kind]}"] = stored.weight(name)
        else:
            block, value = f"model.{stack}.layers.{layer.removeprefix('layer_')}", stored.weight(name)
            targets = _FUSED.get(inner) or (_LAYER[inner],)
            for target, part in zip(targets, value.chunk(len(targets)), strict=True):
                state[f"{block}.{target}.{_KINDS[kind]}"] = part.clone()
    return _without_key_biases(state)


def _without_key_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # The keys have no bias in a Whisper: it is the zeros of a fused map.
    for name in [name for name in state if name.endswith("k_proj.bias")]:
        if state.pop(name).any():
            raise ValueError(f"'{name}' is not zero, and a Whisper has no such bias")
    return state


def _network(stored: CTranslate2File, state: Mapping[str, Tensor], tokens: Sequence[str], tokenizer: Any) -> Any:
    import transformers

    def layers(stack: str) -> int:
        return 1 + max(int(name.split(".")[3]) for name in state if name.startswith(f"model.{stack}.layers."))

    if int(stored.arrays["decoder/activation"]) != _GELU:
        raise ValueError("its activation is not GELU")
    embedding, start, end = state["model.decoder.embed_tokens.weight"], tokens.index(_START), tokens.index(_END)
    heads = {stack: int(stored.arrays[f"{stack}/num_heads"]) for stack in ("encoder", "decoder")}
    config = transformers.WhisperConfig(
        vocab_size=len(embedding), d_model=embedding.shape[1],
        num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
        encoder_layers=layers("encoder"), decoder_layers=layers("decoder"),
        encoder_attention_heads=heads["encoder"], decoder_attention_heads=heads["decoder"],
        encoder_ffn_dim=len(state["model.encoder.layers.0.fc1.bias"]),
        decoder_ffn_dim=len(state["model.decoder.layers.0.fc1.bias"]),
        max_source_positions=len(state["model.encoder.embed_positions.weight"]),
        max_target_positions=len(state["model.decoder.embed_positions.weight"]),
        tie_word_embeddings=torch.equal(embedding, state.get("proj_out.weight", embedding)),
        bos_token_id=end, eos_token_id=end, pad_token_id=end, decoder_start_token_id=start,
        architectures=["WhisperForConditionalGeneration"], suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    with torch.device("meta"):
        net: Any = transformers.WhisperForConditionalGeneration(config)
    net.load_state_dict({**state, "proj_out.weight": state.get("proj_out.weight", embedding)}, assign=True)
    net.tie_weights()
    return net.eval()


def _generation_config(folder: Path, net: Any, tokens: Sequence[str]) -> Any:
    import transformers

    if is_file(folder / "generation_config.json"):  # innertune writes it, other converters do not
        return transformers.GenerationConfig.from_pretrained(folder)
    facts, config = read_json(folder / "config.json"), net.config
    units = {token: unit for unit, token in enumerate(tokens)}
    known: Any = transformers.GenerationConfig(
        bos_token_id=config.eos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id, max_length=config.max_target_positions,
        suppress_tokens=list(facts.get("suppress_ids") or []),
        begin_suppress_tokens=list(facts.get("suppress_ids_begin") or []),
    )  # fmt: skip
    known.no_timestamps_token_id, known.return_timestamps = units["<|notimestamps|>"], False
    if facts.get("alignment_heads"):
        known.alignment_heads = [list(head) for head in facts["alignment_heads"]]
    units_of_languages: list[int] = facts.get("lang_ids") or []
    languages = {tokens[unit]: unit for unit in units_of_languages if _LANGUAGE.fullmatch(tokens[unit])}
    # OpenAI's English models have the tokens of the languages too, but are told apart by their number of tokens.
    known.is_multilingual = bool(languages) and len(tokens) != _ENGLISH
    if known.is_multilingual:
        known.lang_to_id = languages
        known.task_to_id = {task: units[f"<|{task}|>"] for task in ("translate", "transcribe")}
    return known


def _processor(folder: Path, tokens: Sequence[str], bands: int) -> Any:
    import transformers

    if is_file(folder / "preprocessor_config.json"):
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    else:
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    if is_file(folder / "tokenizer.json"):
        tokenizer: Any = transformers.WhisperTokenizer.from_pretrained(folder)
    else:
        tokenizer = _tokenizer(tokens)
    return transformers.WhisperProcessor(extractor, tokenizer)


def _vocabulary(folder: Path) -> list[str]:
    """Return the tokens in the order of their ids. Older folders have them as text, one token a line."""
    if is_file(folder / "vocabulary.json"):
        return [str(token) for token in read_json(folder / "vocabulary.json")]
    if is_file(folder / "vocabulary.txt"):
        return (folder / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    raise InputError(f"'{folder}' has no vocabulary.json or vocabulary.txt. Copy all files of the model.")


def _tokenizer(tokens: Sequence[str]) -> Any:
    """Return the tokenizer whose vocabulary this is: text in order of the merges, then control tokens."""
    import transformers

    text = list(tokens[: tokens.index(_END)])
    special = [token for token in tokens[len(text) :] if not _TIMES.fullmatch(token)]
    vocab = {token: unit for unit, token in enumerate(text)}
    merges = [pair for token in text if len(token) > 1 and (pair := _parts(token, vocab)) is not None]
    made = transformers.WhisperTokenizer(vocab={**vocab, _END: len(text)}, merges=merges)
    made.add_special_tokens({"additional_special_tokens": special[1:]})
    made.set_prefix_tokens()
    known = made.get_vocab()
    if any(known.get(token) != unit for unit, token in enumerate(tokens[: len(text) + len(special)])):
        raise ValueError("its vocabulary does not have the order of a Whisper's, and there is no tokenizer.json")
    return made


def _parts(token: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """Return the two tokens of which BPE makes a token: what the merges before its own make of its characters."""
    parts, own = list(token), ranks[token]
    while len(parts) > 2:
        pairs = [
            (ranks.get(left + right, own), n) for n, (left, right) in enumerate(zip(parts, parts[1:], strict=False))
        ]
        rank, place = min(pairs)
        if rank >= own:
            return None
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]
