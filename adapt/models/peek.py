"""The family of a stored model, read from its header or its config.json. It imports nothing heavy and never fails."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import is_file
from adapt.models.locate import CTRANSLATE2, locate

_SPEECH_DECODERS = ("Whisper", "Speech2Text", "Moonshine", "SpeechEncoderDecoder")
_HEADER_BYTES = 100_000_000  # the largest header that safetensors allows


def stored_model(reference: str) -> Mapping[str, Any]:
    """Return the header of a model on disk, with at least "family"; empty if it is unknown, as of a model on the hub.

    Args:
        reference: As in `load_model`.
    """
    try:
        path = locate(reference)
        if path.name == "adaptation.json":
            header = json.loads(path.read_text(encoding="utf-8"))["model"]
        elif path.name == CTRANSLATE2:
            header = {"family": "hf_speech_seq2seq"}  # no other model is read in this format
        elif path.name == "config.json":
            header = _of_transformers(json.loads(path.read_text(encoding="utf-8")))
        else:
            header = _of_safetensors(path)
        return header if isinstance(header, dict) and "family" in header else {}
    except (InputError, OSError, ValueError, KeyError, TypeError, RuntimeError):
        return {}  # loading the model reports what is wrong with it


def _of_transformers(config: dict[str, Any]) -> dict[str, Any]:
    names = [str(name) for name in config.get("architectures") or []]
    if any(name.endswith("ForCTC") for name in names):
        return {"family": "hf_ctc"}
    if any(name.startswith(_SPEECH_DECODERS) for name in names):
        return {"family": "hf_speech_seq2seq"}
    return {"family": "hf_translation"} if config.get("is_encoder_decoder") else {}


def _of_safetensors(path: Path) -> Any:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(min(size, _HEADER_BYTES))).get("__metadata__", {})
    exported = path.with_name("model.json")
    if "innertune" not in metadata and is_file(exported):
        return json.loads(exported.read_text(encoding="utf-8"))
    return json.loads(metadata.get("innertune", "{}"))
