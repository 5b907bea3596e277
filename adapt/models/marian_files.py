"""The files that a new Marian starts from: a tokenizer trained on the spot, and the config of a small network.

Source: Junczys-Dowmunt et al. 2018, "Marian: Fast Neural Machine Translation in C++"; Kudo and Richardson 2018,
"SentencePiece"; Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units" (BPE).
Needs `sentencepiece`.
"""

import io
import json
import string
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from adapt.errors import InputError
from adapt.models.hf import save_files

# Every text in English or German can be spelled with these, in whatever domain.
CHARACTERS = string.ascii_letters + "äöüÄÖÜß" + string.digits + ".,!?'-:"


def marian_config(
    folder: Path | str,
    sources: Iterable[str],
    targets: Iterable[str],
    vocabulary: int = 1000,
    d_model: int = 128,
    encoder_layers: int = 3,
    decoder_layers: int = 3,
    heads: int = 4,
    ffn: int = 512,
    dropout: float = 0.1,
    positions: int = 256,
    beams: int = 1,
) -> Path:
    """Write a folder that `model.config=` of a pretraining can name: config.json, generation_config.json, a tokenizer.

    The tokenizer is learned from the sentences: up to `vocabulary` pieces for each language (BPE), which have all
    single characters of the sentences and of `CHARACTERS` among them, and one joint vocabulary laid out as
    published Marian models have it: "</s>" is 0, "<unk>" is 1, "<pad>" is the last and starts the decoder. The network
    shares one embedding between encoder, decoder and output layer; `positions` is the longest sentence in tokens. The
    same sentences give the same bytes.

    Raises:
        InputError: there are no sentences, or they have more characters than the vocabulary has pieces.
    """
    import transformers

    pieces = {}
    with TemporaryDirectory() as made:
        for name, sentences in (("source", sources), ("target", targets)):
            model = _train(list(sentences), vocabulary, name)
            (Path(made) / f"{name}.spm").write_bytes(model)
            pieces |= dict.fromkeys(_pieces(model))
        tokens = ["</s>", "<unk>", *pieces, "<pad>"]
        vocab = Path(made) / "vocab.json"
        vocab.write_text(json.dumps({token: unit for unit, token in enumerate(tokens)}), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")  # which it does not use
            tokenizer = transformers.MarianTokenizer(
                source_spm=str(Path(made) / "source.spm"),
                target_spm=str(Path(made) / "target.spm"),
                vocab=str(vocab),
                model_max_length=positions,
            )
        pad = len(tokens) - 1
        config = transformers.MarianConfig(
            architectures=["MarianMTModel"],
            vocab_size=len(tokens),
            decoder_vocab_size=len(tokens),
            d_model=d_model,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=ffn,
            decoder_ffn_dim=ffn,
            dropout=dropout,
            activation_function="swish",
            scale_embedding=True,
            max_position_embeddings=positions,
            pad_token_id=pad,
            bos_token_id=None,
            eos_token_id=0,
            forced_eos_token_id=None,
            decoder_start_token_id=pad,
        )
        generation = transformers.GenerationConfig(
            max_length=positions,
            num_beams=beams,
            pad_token_id=pad,
            eos_token_id=0,
            decoder_start_token_id=pad,
            forced_eos_token_id=0,
            bad_words_ids=[[pad]],
        )
        save_files(Path(folder), tokenizer, generation, config)
    return Path(folder)


def _train(sentences: Sequence[str], vocabulary: int, name: str) -> bytes:
    """A SentencePiece model, as its file's content."""
    import sentencepiece

    if not any(sentence.strip() for sentence in sentences):
        raise InputError(f"There are no {name} sentences to learn a tokenizer from.")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary,
            model_type="bpe",
            hard_vocab_limit=False,  # few sentences make fewer pieces
            character_coverage=1.0,
            required_chars=CHARACTERS,
            split_digits=True,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(
            f"A vocabulary of {vocabulary} pieces cannot be learned from the {name} sentences: {error}"
        ) from None
    return model.getvalue()


def _pieces(model: bytes) -> list[str]:
    import sentencepiece

    read = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [read.id_to_piece(unit) for unit in range(len(read)) if not read.is_unknown(unit)]
