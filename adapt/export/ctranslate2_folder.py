"""Export to CTranslate2, in whose format faster-whisper reads a Whisper, by CTranslate2's own converter."""

import copy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import Answer, spoken_language, text_ids, whisper_features
from adapt.export.packages import need, quiet, version_of
from adapt.export.proof import Engine, Written
from adapt.export.types import TYPES
from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq
from adapt.models.hf_translation import MAX_TOKENS, HFTranslation
from adapt.models.model import Model

_WHISPER_FILES = ("generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
_FASTER_WHISPER_WINDOW = 480_000  # samples; it reads windows of 30 s only
_IN_CTRANSLATE2 = ("config.json", "model.bin", "generation_config.json")  # written by the converter, or of no use


def write_ctranslate2(model: Model, made: Path, dtype: str = "float32") -> Written:
    """Write a Whisper or a translation model into a folder that CTranslate2 loads.

    A Whisper's folder has its tokenizer and preprocessor, the languages, the suppressed tokens and the alignment heads,
    so that faster-whisper reads it as it is. A translation model's has its tokenizer.

    Args:
        model: The model to export.
        made: An existing, empty folder.
        dtype: One of `TYPES`. With int8, matrices have 8 bits and one scale per row.

    Raises:
        InputError: CTranslate2 is not installed, or its converter does not support the model.
    """
    if dtype not in TYPES:
        raise InputError(f"dtype must be one of {', '.join(TYPES)} for CTranslate2; got {dtype!r}.")
    if not isinstance(model, (HFSpeechSeq2Seq, HFTranslation)):
        raise InputError(
            f"CTranslate2 runs Whisper and translation models, and this is a {type(model.net).__name__}. "
            "For a CTC model, use format=onnx; for others, format=transformers."
        )
    if isinstance(model, HFTranslation) and getattr(model.tokenizer, "separate_vocabs", False):
        raise InputError("CTranslate2's converter reads Marians with one vocabulary for both languages only.")
    need("ctranslate2", "to write this format")
    with TemporaryDirectory() as temporary:
        files = Path(temporary)
        model.save_files(files)
        _convert(model, files, made, dtype)
        if isinstance(model, HFSpeechSeq2Seq):
            model.processor.feature_extractor.save_pretrained(files)  # alone, as faster-whisper reads it
        kept = _WHISPER_FILES if isinstance(model, HFSpeechSeq2Seq) else None
        for path in files.iterdir():
            if path.name in kept if kept else path.name not in _IN_CTRANSLATE2:
                (made / path.name).write_bytes(path.read_bytes())
    rounded = () if dtype == "float32" else (f"The weights are rounded to {dtype}.",)
    relation = "finetune" if dtype == "float32" else "quantized"
    if isinstance(model, HFSpeechSeq2Seq):
        return Written("ctranslate2", _whisper_usage(model), _whisper_engines(model, made), rounded, relation)
    engine = Engine(
        version_of("ctranslate2", "CTranslate2"), ("ctranslate2",), lambda: _translator(model, made),
        _longest(model) - 2,  # where the end is forced differs by a token
    )  # fmt: skip
    return Written("ctranslate2", _translation_usage(model), (engine,), rounded, relation)


def _convert(model: Any, files: Path, made: Path, dtype: str) -> None:
    from ctranslate2.converters import TransformersConverter

    net, tokenizer = _prepared(model), model.tokenizer

    class InMemory(TransformersConverter):
        """The converter, with the model that is in memory."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            return net

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

    try:
        InMemory(str(files)).convert(str(made), quantization=dtype, force=True)
    except (ValueError, NotImplementedError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        raise InputError(
            f"CTranslate2's converter cannot convert a {type(net).__name__} ({message}). Use format=transformers."
        ) from error


def _prepared(model: Any) -> Any:
    """Return a copy of the network for the converter."""
    net = copy.deepcopy(model.net).eval()
    known = net.generation_config
    if isinstance(model, HFSpeechSeq2Seq):
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            setattr(known, name, list(getattr(known, name, None) or []))
        if not model.multilingual:
            known.lang_to_id = {}
    elif net.config.model_type == "marian":
        # CTranslate2 starts a Marian's decoder with zeros. Published Marians have zeros for the padding, with which
        # transformers starts it; training changes them, through the output layer that is tied to them. The start is
        # always at the first position, so what it has there besides is exactly the same.
        decoder = net.get_decoder()
        with torch.no_grad():
            start = decoder.embed_tokens.weight[net.config.decoder_start_token_id]
            scale = net.config.d_model**0.5 if net.config.scale_embedding else 1.0
            decoder.embed_positions.weight[0] += start * scale
    return net


def _whisper_engines(model: HFSpeechSeq2Seq, made: Path) -> list[Engine]:
    most = model.net.config.max_target_positions // 2  # as OpenAI's code, CTranslate2 writes no more tokens than this
    faster = partial(Engine, packages=("ctranslate2", "faster_whisper"), limit=most)
    name = version_of("faster_whisper", "faster-whisper")
    if model.processor.feature_extractor.n_samples != _FASTER_WHISPER_WINDOW or find_spec("faster_whisper") is None:
        plain = Engine(version_of("ctranslate2", "CTranslate2"), ("ctranslate2",), lambda: _whisper(model, made), most)
        return [plain]
    padded = faster(name=f"{name}, with silence up to 30 s,", start=lambda: _faster_whisper(model, made, silence=True))
    plain = faster(
        name=f"{name} as it is", start=lambda: _faster_whisper(model, made, silence=False),
        about="It fills the window with zeros in the spectrogram, where a Whisper was trained on silence in the audio.",
    )  # fmt: skip
    return [padded, plain]


def _whisper(model: HFSpeechSeq2Seq, made: Path) -> Callable[[Example], Answer]:
    import ctranslate2

    engine = ctranslate2.models.Whisper(str(made), device="cpu", compute_type=_compute(made))

    def answer(example: Example) -> Answer:
        features = ctranslate2.StorageView.from_array(whisper_features(model, example).numpy())
        language = spoken_language(model, example) if model.multilingual else None
        prompt = [model.net.config.decoder_start_token_id, *model.encode("", language)[:-1]]
        longest = model.net.config.max_target_positions
        results: Any = engine.generate(features, [prompt], beam_size=1, max_length=longest)
        return text_ids(model, results[0].sequences_ids[0])

    return answer


def _faster_whisper(model: HFSpeechSeq2Seq, made: Path, silence: bool) -> Callable[[Example], Answer]:
    from faster_whisper import WhisperModel

    engine = WhisperModel(str(made), device="cpu", compute_type=_compute(made))
    options: dict[str, Any] = {
        "beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False,
        "no_speech_threshold": None, "log_prob_threshold": None, "compression_ratio_threshold": None,
        "suppress_tokens": list(model.net.generation_config.suppress_tokens or []),
    }  # fmt: skip

    def answer(example: Example) -> Answer:
        language = spoken_language(model, example) if model.multilingual else "en"
        audio = model.reader.read(example).numpy()
        if silence:
            audio = np.pad(audio, (0, max(0, _FASTER_WHISPER_WINDOW - len(audio))))
        with quiet("faster_whisper"):
            segments, _ = engine.transcribe(audio, language=language, task=model.generation_options.task, **options)
            return text_ids(model, [token for segment in segments for token in segment.tokens])

    return answer


def _translator(model: HFTranslation, made: Path) -> Callable[[Example], Answer]:
    import ctranslate2

    engine = ctranslate2.Translator(str(made), device="cpu", compute_type=_compute(made))
    tokenizer, options = model.tokenizer, model.generation_arguments
    first = options.get("forced_bos_token_id", options.get("decoder_start_token_id"))
    prefix = None if first is None else [tokenizer.convert_ids_to_tokens([first])]

    def answer(example: Any) -> Answer:
        source = tokenizer.convert_ids_to_tokens(model.reader.read(example).tolist())
        results: Any = engine.translate_batch(
            [source], target_prefix=prefix, beam_size=1, max_decoding_length=_longest(model), max_input_length=0
        )
        return text_ids(model, tokenizer.convert_tokens_to_ids(results[0].hypotheses[0]))

    return answer


def _longest(model: HFTranslation) -> int:
    options, known = model.generation_arguments, model.net.generation_config
    return options.get("max_new_tokens") or options.get("max_length") or known.max_new_tokens or MAX_TOKENS


def _compute(made: Path) -> str:
    # "default" is the type of the file, where the processor has it.
    from adapt.models.ctranslate2_file import read_ctranslate2

    return "default" if read_ctranslate2(made / "model.bin").rounded else "float32"


def _whisper_usage(model: HFSpeechSeq2Seq) -> str:
    options = model.generation_options
    language = f', language="{model.language_for(None)}"' if model.multilingual and options.language else ""
    task = f', task="{options.task}"' if options.task != "transcribe" else ""
    suppressed = "" if model.net.generation_config.suppress_tokens else ", suppress_tokens=None"
    return (
        "```python\nimport numpy as np\nfrom faster_whisper import WhisperModel, decode_audio\n\n"
        'model, audio = WhisperModel("FOLDER"), decode_audio("take.wav")\n'
        "audio = np.pad(audio, (0, -len(audio) % 480_000))  # silence up to 30 s, as the model was trained with\n"
        f"segments, _ = model.transcribe(audio, beam_size={options.beams}{language}{task}{suppressed})\n"
        'print(" ".join(segment.text.strip() for segment in segments))\n```'
    )


def _translation_usage(model: HFTranslation) -> str:
    first = model.generation_arguments.get(
        "forced_bos_token_id", model.generation_arguments.get("decoder_start_token_id")
    )
    prefix = "" if first is None else f', target_prefix=[["{model.tokenizer.convert_ids_to_tokens([first])[0]}"]]'
    return (
        "```python\nimport ctranslate2\nfrom transformers import AutoTokenizer\n\n"
        'translator, tokenizer = ctranslate2.Translator("FOLDER"), AutoTokenizer.from_pretrained("FOLDER")\n'
        f'source = tokenizer.convert_ids_to_tokens(tokenizer.encode("{model.translation_options.prefix}..."))\n'
        f"target = translator.translate_batch([source]{prefix})[0].hypotheses[0]\n"
        "print(tokenizer.decode(tokenizer.convert_tokens_to_ids(target), skip_special_tokens=True))\n```"
    )
