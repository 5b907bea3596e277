"""Small random translation models in the transformers format, with newly trained tokenizers."""

import json
import random
from pathlib import Path
from typing import Any

import torch

from adapt.data.pairs import Pair, write_pairs

SENTENCES = [
    f"{a} {b} {c}" for a in ("ada", "bea", "cid") for b in ("dab", "ebb", "fed") for c in ("gab", "had", "bid")
]
LETTERS = "abcdefghi"
SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "dropout": 0.1,
}  # fmt: skip
FAMILIES = ("marian", "separate", "m2m100", "nllb", "mbart", "mbart50", "t5")


def save_translation(folder: Path, family: str = "marian", **options: Any) -> Path:
    """A model of some 40 k weights. "separate" is a Marian with separate source and target vocabularies."""
    import transformers

    folder.mkdir(parents=True)
    tokenizer = _tokenizer(folder, family)
    torch.manual_seed(0)
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": padding, "eos_token_id": end, **SIZES}
    if family in ("marian", "separate"):
        known = {"decoder_start_token_id": padding, "share_encoder_decoder_embeddings": family == "marian"}
        if family == "separate":
            known["decoder_vocab_size"] = len(tokenizer.target_encoder)
            known["decoder_start_token_id"] = known["pad_token_id"] = padding
        net = transformers.MarianMTModel(transformers.MarianConfig(**{**sizes, **known, **options}))
    elif family in ("m2m100", "nllb"):
        units = max([len(tokenizer) - 1, *getattr(tokenizer, "lang_code_to_id", {}).values()]) + 1
        known = {"decoder_start_token_id": end, "bos_token_id": 0, "vocab_size": units}
        net = transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**{**sizes, **known, **options}))
    elif family in ("mbart", "mbart50"):
        known = {"decoder_start_token_id": end, "bos_token_id": 0, "forced_eos_token_id": end}
        net = transformers.MBartForConditionalGeneration(transformers.MBartConfig(**{**sizes, **known, **options}))
    else:
        sizes = {"vocab_size": len(tokenizer), "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
        known = {"decoder_start_token_id": padding, "pad_token_id": padding, "eos_token_id": end}
        net = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**sizes, **known, **options}))
    with torch.no_grad():  # with small weights, a random network has the same output for every input
        for parameter in net.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.mul_(1 if family == "t5" else 8)
    net.generation_config.min_length, net.generation_config.max_length = 6, 24
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_language(path: Path, count: int, seed: int) -> Path:
    """Write sentence pairs whose target has the source's words reversed; each file has different words."""
    draw = random.Random(seed)
    pairs = []
    for number in range(count):
        words = ["".join(draw.choices(LETTERS, k=4)) for _ in range(draw.randint(1, 3))]
        target = " ".join(word[::-1] for word in words)
        pairs.append(Pair(" ".join(words), target, domain="ab"[number % 2], id=f"{path.stem}-{number}"))
    write_pairs(path, pairs)
    return path


def _tokenizer(folder: Path, family: str) -> Any:
    import transformers

    pieces = ["▁", *(f"▁{letter}" for letter in LETTERS), *LETTERS]
    scored = [(piece, -float(len(pieces) - len(piece))) for piece in pieces]
    if family == "t5":
        vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored]
        return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    if family in ("mbart", "mbart50"):
        vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored]
        kind = transformers.MBartTokenizer if family == "mbart" else transformers.MBart50Tokenizer
        return kind(vocab=vocabulary, src_lang="en_XX", tgt_lang="de_DE")
    if family == "nllb":
        vocabulary = {token: unit for unit, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
        return transformers.NllbTokenizer(vocab=vocabulary, merges=[("▁", letter) for letter in LETTERS])
    model = _sentencepiece(folder)
    vocabulary = {token: unit for unit, token in enumerate(model)}
    if family == "m2m100":
        units = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
        units |= {token: len(units) + n for n, token in enumerate(t for t in vocabulary if t not in units)}
        (folder / "vocab.json").write_text(json.dumps(units))
        return transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "source.spm"))
    # As in published Marian vocabularies: the end token first, padding last.
    units = {"</s>": 0, "<unk>": 1}
    units |= {token: len(units) + n for n, token in enumerate(t for t in vocabulary if t not in ("<s>", *units))}
    units["<pad>"] = len(units)
    (folder / "vocab.json").write_text(json.dumps(units))
    files = [str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json")]
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de"}
    if family == "separate":
        (folder / "target_vocab.json").write_text(json.dumps(units))
        options |= {"target_vocab_file": str(folder / "target_vocab.json"), "separate_vocabs": True}
    return transformers.MarianTokenizer(*files, **options)


def _sentencepiece(folder: Path) -> list[str]:
    import sentencepiece

    text = folder / "sentences.txt"
    text.write_text("\n".join(SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "source"), vocab_size=32, character_coverage=1.0,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    text.unlink()
    (folder / "source.vocab").unlink()
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    model = sentencepiece.SentencePieceProcessor(str(folder / "source.spm"))
    return [model.id_to_piece(unit) for unit in range(model.get_piece_size())]
