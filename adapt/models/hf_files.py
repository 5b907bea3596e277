"""Check the files of a transformers model before transformers reads them.

transformers loads more than `config.json` and `model.safetensors` says: shards that an index names, which may be
pickles; an adapter, which is added to the network, or whose base replaces it; and code for attention from the hub.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import is_file, is_folder, user_path

_INDEX = "model.safetensors.index.json"
_LARGEST = 2**31 - 1  # of a number in config.json; larger ones take memory before they fail


@contextmanager
def reading(reference: str) -> Iterator[None]:
    """Within this context, whatever goes wrong with a model's files raises InputError.

    transformers does not check its files, so that wrong values raise errors of any type, anywhere.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        if is_folder(Path(reference)):
            raise InputError(
                f"The folder '{reference}' cannot be read as a transformers model ({message}). Expected config.json, "
                "model.safetensors (not a pickle: save the model again by save_pretrained), and the files of its "
                "processor."
            ) from error
        raise InputError(
            f"There is no folder '{reference}', and no model of that name could be downloaded from the Hugging Face "
            f"hub ({message}). Give a folder, or OWNER/NAME; a model that was downloaded once also loads offline."
        ) from error


def check_files(reference: str) -> None:
    """Check a folder in the transformers format, or OWNER/NAME on the hub.

    Raises:
        InputError: there is an adapter, the index names something other than safetensors files of the folder, or
            `config.json` names code of the hub or a size beyond that of any model.
    """
    if _find(reference, "adapter_config.json") is not None:
        raise InputError(
            f"'{reference}' has an adapter_config.json. transformers would add its adapter to the network, or load "
            "the base that it names. Merge the adapter (peft: merge_and_unload) and save the model, or remove the file."
        )
    if (config := _find(reference, "config.json")) is not None:
        _check_config(config)
    if _find(reference, "model.safetensors") is None and (index := _find(reference, _INDEX)) is not None:
        _check_index(index, Path(reference) if is_folder(Path(reference)) else None)


def check_tokens(config: Any, reference: str) -> None:
    """Check that the tokens with which a decoder starts and pads are among its tokens.

    Args:
        config: The config of an encoder-decoder, as transformers has read it, with the defaults for what it lacks.
        reference: The model, for the message.

    Raises:
        InputError: a token is not in the vocabulary.
    """
    decoder = getattr(config, "decoder", config)
    units = getattr(decoder, "decoder_vocab_size", None) or getattr(decoder, "vocab_size", None)
    for key in ("decoder_start_token_id", "pad_token_id"):
        value = getattr(config, key, None)
        if type(units) is int and type(value) is int and not 0 <= value < units:
            raise InputError(f"The config.json of '{reference}' has {key}={value}, but {units} tokens. Correct it.")


def _check_config(path: Path) -> None:
    for key, value in _walk(_read(path)):
        problem = ""
        if type(value) is int and abs(value) > _LARGEST:
            problem = "a number beyond the sizes of any model"
        elif "drop" in key and type(value) in (int, float) and not 0 <= value <= 1:
            problem = "no probability"
        elif "attn_implementation" in key and isinstance(value, str) and "/" in value:
            problem = "code for attention from the hub, which innertune does not run"
        if problem:
            raise InputError(f"'{path}' has {key}={str(value)[:40]}: {problem}. Correct the file.")


def _check_index(path: Path, folder: Path | None) -> None:
    shards = _read(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"'{path}' has no weight_map from names of weights to files. Restore the file.")
    for file in shards.values():
        inside = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not inside or not file.endswith(".safetensors"):
            raise InputError(
                f"'{path}' names {file!r}. Expected safetensors files in the same folder: other files may be pickles, "
                "which can run code and are not read. Save the model again by save_pretrained."
            )
        if folder is not None and not is_file(folder / file):
            raise InputError(f"'{path}' names '{file}', which is not in the folder. Copy all files of the model.")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not valid JSON ({' '.join(str(error).split())[:200]}).") from None
    if not isinstance(content, dict):
        raise InputError(f"'{path}' must hold a JSON object; got a {type(content).__name__}.")
    return content


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)
    else:
        yield key, value


def _find(reference: str, name: str) -> Path | None:
    folder = user_path(reference)
    if is_folder(folder):
        return folder / name if is_file(folder / name) else None
    from transformers.utils.hub import cached_file

    quiet = ("missing_entries", "connection_errors", "gated_repo")
    with reading(reference):
        found = cached_file(reference, name, **{f"_raise_exceptions_for_{one}": False for one in quiet})
    return None if found is None else Path(found)
