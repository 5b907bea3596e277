"""The formats of an export, and the types of weights that each can have."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from adapt.checks import check_choice
from adapt.errors import InputError

Format = Literal["transformers", "peft", "ctranslate2", "onnx", "openai"]
DType = Literal["float32", "float16", "bfloat16", "int8", "int8_float16", "int8_bfloat16", "int16"]
TYPES: tuple[str, ...] = get_args(DType)
_OF_FORMAT: dict[str, Sequence[str]] = {
    "transformers": TYPES[:3], "openai": TYPES[:3], "peft": TYPES[:1], "onnx": TYPES[:1], "ctranslate2": TYPES,
}  # fmt: skip


def check_export(format: Any, dtype: Any) -> None:
    """Check that there is a format, and that it has a type of weights. Raises InputError."""
    check_choice("format", format, get_args(Format))
    if dtype not in _OF_FORMAT[format]:
        raise InputError(f"dtype must be one of {', '.join(_OF_FORMAT[format])} with format={format}; got {dtype!r}.")
