"""Small random models in the transformers format, with real processors, saved as a user would have them."""

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = "ABCDE"  # upper case and "|" between words, as published wav2vec2 vocabularies have them
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 4), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_length": 2, "layerdrop": 0.0,
}  # fmt: skip


def save_ctc(folder: Path, kind: str = "Wav2Vec2", do_normalize: bool = True, seed: int = 0, **options: Any) -> Path:
    """A CTC model of some 40 k weights; one step is 10 ms."""
    import transformers

    folder.mkdir(parents=True)
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({token: unit for unit, token in enumerate(vocabulary)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True)
    torch.manual_seed(seed)
    sizes = {**SIZES, "vocab_size": len(vocabulary), "pad_token_id": 0, "ctc_loss_reduction": "mean", **options}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    net = getattr(transformers, f"{kind}ForCTC")(config)
    with torch.no_grad():  # a random network answers the same to everything, unless its output layer is loud
        net.lm_head.weight.mul_(20)
    net.save_pretrained(folder)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    return folder


def save_whisper(folder: Path, languages: tuple[str, ...] = ("en", "de"), seconds: int = 2, **options: Any) -> Path:
    """A Whisper of some 40 k weights over windows of `seconds`; without languages it is as the English-only ones."""
    import transformers
    from tokenizers import pre_tokenizers

    folder.mkdir(parents=True)
    vocabulary = {letter: unit for unit, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    special = ["<|endoftext|>", "<|startoftranscript|>", *[f"<|{language}|>" for language in languages]]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"]
    special += ["<|notimestamps|>"]
    units = {token: len(vocabulary) + number for number, token in enumerate(special)}
    tokenizer = transformers.WhisperTokenizerFast(vocab={**vocabulary, special[0]: units[special[0]]}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in special} == units
    extractor = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=seconds)
    torch.manual_seed(0)
    start, end = units["<|startoftranscript|>"], units["<|endoftext|>"]
    sizes = {
        "vocab_size": len(vocabulary) + len(special), "d_model": 32, "num_mel_bins": 20, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "max_source_positions": 50 * seconds, "max_target_positions": 24, "init_std": 0.5,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start,
        "suppress_tokens": [], "begin_suppress_tokens": [],
    }  # fmt: skip
    net = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**{**sizes, **options}))
    known = transformers.GenerationConfig.from_model_config(net.config)
    known._from_model_config = False  # else it is not read back
    net.generation_config = known
    known.max_length, known.no_timestamps_token_id = 16, units["<|notimestamps|>"]
    written = (*LETTERS.lower(), special[0])
    known.is_multilingual = bool(languages)
    known.suppress_tokens = [unit for letter, unit in {**vocabulary, **units}.items() if letter not in written]
    if languages:
        known.lang_to_id = {f"<|{language}|>": units[f"<|{language}|>"] for language in languages}
        known.task_to_id = {task: units[f"<|{task}|>"] for task in ("translate", "transcribe")}
    net.save_pretrained(folder)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
