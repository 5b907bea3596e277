"""Names of data sets for titles and headlines: `Scottish English` for a set whose accent is en-gb-scotland."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapt.data.example import Example
from adapt.files import exists

NAMED_BY = ("accent", "domain", "speaker", "lang")

# The voices of `data=accents`, and the language codes of manifests.
_SPOKEN = {
    "en-us": "US English",
    "en-us-nyc": "New York English",
    "en-gb": "British English",
    "en-gb-scotland": "Scottish English",
    "en-029": "Caribbean English",
    "en-gb-x-rp": "Received Pronunciation",
    "en-gb-x-gbclan": "Lancaster English",
    "en-gb-x-gbcwmd": "West Midlands English",
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "nl": "Dutch",
    "pt": "Portuguese",
    "tr": "Turkish",
    "zh": "Chinese",
}


def set_names(sets: Mapping[str, Sequence[Example]]) -> dict[str, str]:
    """Name each set by what its examples have in common, and what other sets do not share.

    Args:
        sets: The examples of each set ("target", "source").

    Returns:
        For each set the accent, domain, speaker or language of all its examples, in this order of preference; else the
        file that all of them come from. A set without any of these is left out.
    """
    names: dict[str, str] = {}
    for key in (*NAMED_BY, None):
        found = {name: _common(examples, key) for name, examples in sets.items()}
        for name, value in found.items():
            if value and list(found.values()).count(value) == 1:
                names.setdefault(name, value)
    return names


def _common(examples: Sequence[Example], key: str | None) -> str:
    """Return the name of the `key` value that all examples share, or without a key that of their file; else ""."""
    if key is None:
        files = {example.where.rpartition(":")[0] for example in examples}
        return Path(files.pop()).name if len(files) == 1 else ""
    values = {example.group(key) for example in examples}
    if len(values) != 1 or (value := values.pop()) == "unknown":
        return ""
    return _SPOKEN.get(value.lower().replace("_", "-"), value) if key in ("accent", "lang") else value


def model_name(reference: str) -> str:
    """Shorten the reference of a model for a title: `runs/moira/adaptation` becomes `moira`.

    Args:
        reference: An embedded name, OWNER/NAME on the hub, or a path.
    """
    parts = [part for part in Path(reference).parts if part not in ("adaptation", "checkpoints", "/")]
    if not parts:
        return reference
    return parts[-1].removesuffix(".safetensors") if exists(reference) else reference
