"""Load a model from disk or from the Hugging Face hub, and return it with its fingerprint."""

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import exists, is_file, resolved
from adapt.models import hf
from adapt.models.adaptation_files import adapted_fingerprint, adapted_tensors, read_facts
from adapt.models.ctranslate2_file import is_ctranslate2
from adapt.models.hf_files import reading
from adapt.models.loaded import Loaded
from adapt.models.locate import CTRANSLATE2, EMBEDDED, absolute, is_hub_id, locate
from adapt.models.model import Model
from adapt.models.model_files import FORMAT, check_sizes, damaged, read_header, read_safetensors
from adapt.models.peek import stored_model
from adapt.models.state import load_weights, model_fingerprint, weights


def load_model(pretrained: str, base: str | None = None, **options: Any) -> Loaded:
    """Load a model, in eval mode.

    Args:
        pretrained: A run's folder, an adaptation, a safetensors file, the name of an embedded model (us-english), a
            folder in the transformers format, a Whisper in the format of CTranslate2 (faster-whisper), or OWNER/NAME
            on the Hugging Face hub.
        base: The base of the adaptation; needed if the base was moved.
        **options: Options of the model's own family, such as `language` and `beams` of `hf_speech_seq2seq`. None
            leaves an option as it is in the model's files.

    Raises:
        InputError: there is no such model, the file is damaged or a pickle, the adaptation has another base, `base` is
            given for a model that is no adaptation, or the family does not have an option.
    """
    if base is not None and (is_hub_id(pretrained) or locate(pretrained).name != "adaptation.json"):
        raise InputError(f"base={base} is for an adaptation whose base was moved; '{pretrained}' is not an adaptation.")
    options = {name: value for name, value in options.items() if value is not None}
    if not options:
        return _load(pretrained, base, None, frozenset())
    return _load_with_options(pretrained, base, options)


def _load_with_options(pretrained: str, base: str | None, options: Mapping[str, Any]) -> Loaded:
    # Without a header, as of a model on the hub, the family is known only once the model is loaded.
    header = stored_model(pretrained) or _load(pretrained, base, None, frozenset()).model.header()
    name = str(header["family"])
    module = _family_module(name)
    small = name == "wav2letter" and header.get("shape", {}).get("inner") is not None
    family = module.wav2letter_small if small else getattr(module, name)
    own = [option for option in signature(family).parameters if option not in ("pretrained", "base", "config")]
    for option, value in options.items():
        if option not in own:
            raise InputError(
                f"{option}={value}: '{pretrained}' is a model of the family {name}, which has no such option. "
                f"Its options: {', '.join(own)}."
            )
    return family(pretrained=pretrained, base=base, **options)


def has_header(reference: str) -> bool:
    """Return whether a model's files have a header, unlike a plain state dict. Raises InputError without a file."""
    path = locate(reference)
    return path.suffix == ".json" or path.name == CTRANSLATE2 or bool(read_safetensors(path)[0])


def load_transformers(reference: str) -> Loaded:
    """Load a folder in the transformers format, or a hub id, in eval mode.

    Raises:
        InputError: the files cannot be read (see `hf.read`), or the architecture is not supported.
    """
    with reading(reference):
        return _family_module(hf.family(reference)).load(reference)


def _load(pretrained: str, base: str | None, base_header: Any, visited: frozenset[Path]) -> Loaded:
    # `base_header` describes a base whose own file has no header; `visited` has the adaptations on top of the base.
    if is_hub_id(pretrained):
        return load_transformers(pretrained)
    path = locate(pretrained)
    if path.name == "config.json":
        return _load_transformers_folder(path, pretrained)
    if path.name == "adaptation.json":
        if resolved(path) in visited:
            raise InputError(f"'{path}' names itself as its base.")
        return _load_adaptation(path, pretrained, base, visited | {resolved(path)})
    if path.name == CTRANSLATE2 and is_ctranslate2(path):
        loaded = _family_module("hf_speech_seq2seq").load_ctranslate2(path)
        return replace(loaded, reference=absolute(pretrained))
    header, state = read_safetensors(path)
    header = header or base_header
    if not header:
        raise InputError(
            f"'{path}' contains weights without a header, so the architecture is unknown. Name it: model=wav2letter or "
            "another (`innertune show model`), and model.labels='...', the characters in the order of the output units."
        )
    check_sizes(header, state, path)
    model = _build(header, path)
    load_weights(model, state, path)
    actual = model_fingerprint(model)
    if header.get("fingerprint", actual) != actual:
        raise damaged(f"in '{path}'")
    return Loaded(model.eval(), absolute(pretrained), actual, header)


def _load_transformers_folder(path: Path, reference: str) -> Loaded:
    loaded = load_transformers(str(path.parent.absolute()))
    file = path.with_name("model.safetensors")
    header = read_header(file) if is_file(file) else {}
    if header.get("fingerprint", loaded.fingerprint) != loaded.fingerprint:
        raise damaged(f"in '{file}'")
    if "family" in header:  # saved by innertune: the header also has the options that the model is used with
        with reading(reference):
            model = loaded.model.with_header(header)
        grid = {"topographic": header["topographic"]} if "topographic" in header else {}
        loaded = replace(loaded, model=model, header={**loaded.header, **model.header(), **grid})
    return replace(loaded, reference=reference) if path.is_relative_to(EMBEDDED) else loaded


def _load_adaptation(path: Path, reference: str, base: str | None, visited: frozenset[Path]) -> Loaded:
    facts = read_facts(path)
    named, expected, base_header = (facts["base"][key] for key in ("reference", "fingerprint", "model"))
    place = base or _moved_base(path, named)
    try:
        parent = _load(place, None, base_header, visited)
    except InputError as error:
        raise InputError(
            f"The base of the adaptation '{path}' cannot be loaded: {error} If it was moved, give base=..."
        ) from None
    if parent.fingerprint != expected:
        raise InputError(
            f"The adaptation '{path}' belongs to another base: it was made from fingerprint {expected[:12]} "
            f"('{named}'), but '{place}' has {parent.fingerprint[:12]}. Give the right one: base=..."
        )
    tensors, exact = adapted_tensors(path, facts, parent.model)
    state = {**weights(parent.model.net), **tensors}
    check_sizes(facts["model"], state, path)
    with _reading_header(path):
        model = parent.model.with_header(facts["model"])
    load_weights(model, state, path.parent / "weights.safetensors")
    actual = adapted_fingerprint(path, facts, model, exact)
    return Loaded(model.eval(), absolute(reference), actual, {**facts["model"], **facts})


def _moved_base(path: Path, named: str) -> str:
    """Return where an adaptation's base is: as named, or next to the run if both were moved together."""
    run = path.parent.parent
    sibling = run.parent / Path(named).name
    moved = not exists(named) and exists(sibling) and resolved(sibling) != resolved(run)
    return str(sibling) if moved else named


@contextmanager
def _reading_header(path: Path) -> Iterator[None]:
    """Within this context, a header with wrong values raises InputError."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        message = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"'{path}' has a header that describes no model ({message}).") from None


def _build(header: Mapping[str, Any], path: Path) -> Model:
    # A header is only data: its family, a checked name, selects one of our own modules, which reads plain values.
    family = str(header.get("family", ""))
    if not re.fullmatch(r"[a-z0-9_]+", family) or header.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"'{path}' has model family {family!r} and format {header.get('format')}, which this version cannot read."
        )
    if not is_file(Path(__file__).parent / f"{family}.py"):
        raise InputError(f"'{path}' has model family {family!r}, which this version does not have.")
    module = _family_module(family)
    if not hasattr(module, "from_header"):
        raise InputError(
            f"'{path}' has model family {family!r}, which cannot be loaded from a single file. Give the folder with "
            "its config.json."
        )
    with _reading_header(path):
        return module.from_header(dict(header))


def _family_module(family: str) -> Any:
    # By name: the modules of the families import this one.
    return importlib.import_module(f"adapt.models.{family}")
