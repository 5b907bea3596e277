"""Write the files that a new Marian model starts from: a newly trained tokenizer and the config of a small network.

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

# With these characters, every English or German text can be encoded.
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
    """Write a folder for the option `config` of `hf_translation`, and return its path.

    The folder has config.json, generation_config.json and a tokenizer (BPE), which is trained on the sentences. The
    joint vocabulary has the layout of published Marian models: "</s>" is 0, "<unk>" is 1, and "<pad>" is the last
    token, which also starts the decoder. Encoder, decoder and output layer share one embedding. The same sentences
    always give the same files, byte for byte.

    Args:
        folder: The folder to write to.
        sources: Sentences in the source language.
        targets: Sentences in the target language.
        vocabulary: The maximum number of pieces per language, which include all single characters of the sentences and
            of `CHARACTERS`.
        d_model: The width of the network.
        encoder_layers: The number of encoder layers.
        decoder_layers: The number of decoder layers.
        heads: The number of attention heads per layer.
        ffn: The width of the feed-forward layers.
        dropout: The dropout probability.
        positions: The maximum length of a sentence in tokens.
        beams: The number of beams in decoding.

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
            # The tokenizer does not use sacremoses.
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
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
    """Train a SentencePiece model, and return the content of its file."""
    import sentencepiece

    if not any(sentence.strip() for sentence in sentences):
        raise InputError(f"There are no {name} sentences to train a tokenizer on.")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary,
            model_type="bpe",
            hard_vocab_limit=False,  # few sentences yield fewer pieces
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
            f"A vocabulary of {vocabulary} pieces cannot be trained on the {name} sentences: {error}"
        ) from None
    return model.getvalue()


def _pieces(model: bytes) -> list[str]:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(unit) for unit in range(len(processor)) if not processor.is_unknown(unit)]
