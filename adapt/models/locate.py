"""Find the file that a reference to a model stands for."""

import re
from pathlib import Path

from adapt.errors import InputError
from adapt.files import exists, is_file, is_folder, read_json, user_path

EMBEDDED = Path(__file__).parent / "embedded"
CTRANSLATE2 = "model.bin"  # the weights in a folder of CTranslate2 or faster-whisper


def locate(reference: str) -> Path:
    """Return the file to load: an adaptation.json, a config.json of transformers, a model.bin of CTranslate2, or a
    .safetensors file.

    `reference` is a run's folder, a file, a folder in the format of transformers or CTranslate2, or the name of an
    embedded model.

    Raises:
        InputError: there is no such model, or its training was not finished.
    """
    path = user_path(reference)
    candidates = [path / "adaptation" / "adaptation.json", path / "adaptation.json"]
    if is_transformers_folder(path):
        candidates.append(path / "config.json")
    elif is_file(path / "config.json"):
        candidates.append(path / CTRANSLATE2)
    candidates.append(path / "model.safetensors")
    if is_file(path):
        candidates.insert(0, path)
    if re.fullmatch(r"[\w-]+", reference):
        candidates += [EMBEDDED / f"{reference}.safetensors", EMBEDDED / reference / "config.json"]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    if is_folder(path) and is_folder(path / "checkpoints"):
        raise InputError(f"The run in '{path}' was not finished. To continue it, repeat its command with resume=true.")
    names = ", ".join(embedded_models()) or "none"
    raise InputError(
        f"There is no model at '{reference}'. Give the folder of a finished run, a .safetensors file, a folder in the "
        f"transformers format, or the name of an embedded model ({names})."
    )


def embedded_models() -> list[str]:
    """Return the names of the models that come with the package."""
    files = {file.stem for file in EMBEDDED.glob("*.safetensors")}
    return sorted(files | {folder.name for folder in EMBEDDED.iterdir() if is_transformers_folder(folder)})


def is_transformers_folder(path: Path) -> bool:
    """Return whether a folder holds a model in the transformers format."""
    try:
        return "model_type" in read_json(path / "config.json")
    except (OSError, ValueError, TypeError):
        return False


def is_hub_id(reference: str) -> bool:
    """Return whether a reference has the form OWNER/NAME of the Hugging Face hub, and no such path exists."""
    return re.fullmatch(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*", reference) is not None and not (
        exists(reference) or Path(reference).suffix in (".safetensors", ".json")
    )


def absolute(reference: str) -> str:
    """Return the absolute path of a reference that is a path; other references stay as they are."""
    path = user_path(reference)
    return str(path.absolute()) if exists(path) else reference
