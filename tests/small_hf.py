"""Small random models in the transformers format, with real processors."""

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


def save_ctc(
    folder: Path,
    kind: str = "Wav2Vec2",
    do_normalize: bool = True,
    seed: int = 0,
    letters: str = LETTERS,
    gap: int = 0,
    **options: Any,
) -> Path:
    """A CTC model of some 40 k weights; one step is 10 ms. The ids have a `gap` before the last letter."""
    import transformers

    folder.mkdir(parents=True)
    vocabulary = {token: unit for unit, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    vocabulary[letters[-1]] += gap
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True)
    torch.manual_seed(seed)
    sizes = {**SIZES, "vocab_size": len(vocabulary) + gap, "pad_token_id": 0, "ctc_loss_reduction": "mean", **options}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    net = getattr(transformers, f"{kind}ForCTC")(config)
    with torch.no_grad():  # with small weights, a random network has the same output for every input
        net.lm_head.weight.mul_(20)
    net.save_pretrained(folder)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    return folder


def save_whisper(
    folder: Path,
    languages: tuple[str, ...] = ("en", "de"),
    seconds: int = 2,
    texts: tuple[str, ...] = (),
    spaces: bool = True,
    **options: Any,
) -> Path:
    """A Whisper of some 40 k weights with windows of `seconds`; without languages it is like the English-only ones.

    It has a token for each byte, and writes a few letters, and spaces if wanted. With `texts`, it has further tokens
    that are learned from these, and writes all of them but brackets, as published models do.
    """
    import transformers
    from tokenizers import ByteLevelBPETokenizer, pre_tokenizers

    folder.mkdir(parents=True)
    vocabulary = {letter: unit for unit, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    if texts:
        learned = ByteLevelBPETokenizer()
        learned.train_from_iterator(
            [f" {text}" for text in texts], vocab_size=400, min_frequency=1, show_progress=False
        )
        model = json.loads(learned.to_str())["model"]
        vocabulary, merges = model["vocab"], [tuple(pair) for pair in model["merges"]]
    special = ["<|endoftext|>", "<|startoftranscript|>", *[f"<|{language}|>" for language in languages]]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"]
    special += ["<|notimestamps|>"]
    units = {token: len(vocabulary) + number for number, token in enumerate(special)}
    tokenizer = transformers.WhisperTokenizerFast(vocab={**vocabulary, special[0]: units[special[0]]}, merges=merges)
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
    known._from_model_config = False  # otherwise it is not loaded again
    net.generation_config = known
    known.max_length, known.no_timestamps_token_id = 16, units["<|notimestamps|>"]
    written = (*LETTERS.lower(), *("\u0120" if spaces else ""), special[0])  # \u0120 is the space
    known.is_multilingual = bool(languages)
    known.suppress_tokens = [unit for letter, unit in {**vocabulary, **units}.items() if letter not in written]
    if texts:
        known.suppress_tokens = [unit for token, unit in vocabulary.items() if {*token} & {*"()[]<>|"}]
    known.begin_suppress_tokens = [vocabulary["\u0120"]]
    with torch.no_grad():  # a random network would otherwise write little but spaces
        for layer in {net.model.decoder.embed_tokens, net.proj_out} if spaces else ():
            layer.weight[vocabulary["\u0120"]] = 0
    if languages:
        known.lang_to_id = {f"<|{language}|>": units[f"<|{language}|>"] for language in languages}
        known.task_to_id = {task: units[f"<|{task}|>"] for task in ("translate", "transcribe")}
    net.save_pretrained(folder)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def save_speech2text(folder: Path, languages: bool = False, **options: Any) -> Path:
    """A Speech2Text of some 40 k weights; one step is 40 ms. With `languages` it has those of MuST-C."""
    import transformers

    folder.mkdir(parents=True)
    codes = [f"<lang:{code}>" for code in ("pt", "fr", "ru", "nl", "ro", "it", "es", "de")] if languages else []
    tokenizer = _pieces(folder, codes, "mustc" if languages else None)
    extractor = transformers.Speech2TextFeatureExtractor(feature_size=20, num_mel_bins=20)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "input_feat_per_channel": 20, "conv_channels": 24, "max_target_positions": 24, "init_std": 0.3,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    }  # fmt: skip
    net = transformers.Speech2TextForConditionalGeneration(transformers.Speech2TextConfig(**{**sizes, **options}))
    return _save(folder, net, transformers.Speech2TextProcessor(extractor, tokenizer))


def save_moonshine(folder: Path, **options: Any) -> Path:
    """A Moonshine of some 40 k weights; one step is 24 ms."""
    import transformers

    folder.mkdir(parents=True)
    tokenizer = _words(bos="<s>", eos="</s>")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "encoder_num_hidden_layers": 2,
        "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2,
        "max_position_embeddings": 24, "initializer_range": 0.3, "bos_token_id": tokenizer.bos_token_id,
        "decoder_start_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    net = transformers.MoonshineForConditionalGeneration(transformers.MoonshineConfig(**{**sizes, **options}))
    return _save(folder, net, transformers.Wav2Vec2Processor(extractor, tokenizer))


def save_speech_encoder_decoder(
    folder: Path,
    encoder: str = "Wav2Vec2",
    decoder: str = "Bart",
    decoding: dict[str, Any] | None = None,
    **hearing: Any,
) -> Path:
    """A SpeechEncoderDecoderModel of some 40 k weights, with a feature extractor and a tokenizer.

    `hearing` and `decoding` are options of the encoder's and of the decoder's config.
    """
    import transformers

    folder.mkdir(parents=True)
    bert = decoder == "Bert"
    tokenizer = _words(bos="[CLS]", eos="[SEP]", pad="[PAD]", unk="[UNK]") if bert else _words()
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    torch.manual_seed(0)
    names = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    names |= {"eos_token_id": tokenizer.eos_token_id}
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "is_decoder": True, "add_cross_attention": True, **names}
    if decoder in ("Bart", "MBart", "Marian", "TrOCR"):
        sizes |= {"d_model": 24, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
        sizes |= {"max_position_embeddings": 24, "init_std": 0.3, "forced_eos_token_id": None}
    elif decoder == "GPT2":
        sizes |= {"n_embd": 32, "n_layer": 2, "n_head": 2}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
        sizes |= {"max_position_embeddings": 24, "initializer_range": 0.3}
    known = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        getattr(transformers, f"{encoder}Config")(**{**SIZES, **hearing}),
        getattr(transformers, f"{decoder}Config")(**{**sizes, **(decoding or {})}),
    )
    for name, unit in names.items():
        setattr(known, name, unit)
    known.decoder_start_token_id = tokenizer.bos_token_id
    net = transformers.SpeechEncoderDecoderModel(known)
    return _save(folder, net, extractor, tokenizer)


def _save(folder: Path, net: Any, *parts: Any) -> Path:
    with torch.no_grad():  # with small weights, a random network has the same output for every input
        for name, parameter in net.named_parameters():
            if "encoder_attn.v_proj.weight" in name or "crossattention.self.value.weight" in name:
                parameter.mul_(20)
    known, units = net.generation_config, parts[-1].tokenizer if hasattr(parts[-1], "tokenizer") else parts[-1]
    known.min_length, known.max_length = 5, 16
    known.suppress_tokens = [units.bos_token_id, units.pad_token_id, units.unk_token_id]
    for part in (net, *parts):
        part.save_pretrained(folder)
    return folder


def _words(bos: str = "<s>", eos: str = "</s>", pad: str = "<pad>", unk: str = "<unk>") -> Any:
    # Letters and a mark for spaces, with start and end tokens, as in the tokenizers of BART, BERT and Llama.
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: unit for unit, token in enumerate([bos, pad, eos, unk, "▁", *LETTERS.lower()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unk))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    ends = [(token, vocabulary[token]) for token in (bos, eos)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A {eos}", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, unk_token=unk
    )


def _pieces(folder: Path, codes: list[str], known: str | None) -> Any:
    import sentencepiece
    import transformers

    text = folder / "sentences.txt"
    text.write_text("\n".join(f"{a}{b} {b}a{c} {c}e" for a in "abcde" for b in "abcde" for c in "abcde"))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "pieces"), vocab_size=24 + len(codes), character_coverage=1.0,
        hard_vocab_limit=False, minloglevel=2, user_defined_symbols=codes, bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    text.unlink()
    model = sentencepiece.SentencePieceProcessor(str(folder / "pieces.model"))
    units = {model.id_to_piece(unit): unit for unit in range(model.get_piece_size())}
    (folder / "vocab.json").write_text(json.dumps(units))
    (folder / "pieces.vocab").unlink()
    (folder / "pieces.model").rename(folder / "sentencepiece.bpe.model")
    return transformers.Speech2TextTokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), lang_codes=known
    )
