"""Which options are texts, names or paths, so that their values are taken as they are.

Keys are patterns; "*" is anything. All other options are Hydra's: numbers, switches, choices, lists of names.
"""

from fnmatch import fnmatchcase
from typing import Any, Literal

# text: one text. texts: a text or a list. path: one path. paths: a path, a glob or a name, or a list of these.
Kind = Literal["text", "texts", "path", "paths", "hydra"]

# Only in these commands, where the name means something else than in others.
_BY_COMMAND: dict[str, dict[str, Kind]] = {
    "translate": {"text": "texts"},
    "transcribe": {"audio": "paths"},
    "attack": {"audio": "paths", "text": "text"},
    "correct": {"text": "text", "source": "text", "target": "text", "audio": "path", "file": "path"},
    "corrections": {"target": "path"},
    "apply": {"to": "path", "adaptation": "path"},
    "remove": {"from": "path", "adaptation": "path"},
    "compare": {"before": "path", "after": "path", "language": "text"},
    "sites": {"json": "path"},
    "blend": {"models": "paths", "base": "path"},
    "choose": {"choose": "paths"},
    "export": {"fold": "paths", "examples": "path", "push": "text"},
    "manifest": {"input": "path"},
    "studio": {"audio": "paths", "against": "path", "recordings": "path", "host": "text", "names": "texts"},
    "plan": {"audio": "paths", "sentences": "path", "voice": "text"},
}
_KINDS: dict[str, Kind] = {
    "title": "text",
    "author": "text",
    "speaker": "text",
    "alphabet": "text",
    "output": "path",
    "file": "path",
    "corrections": "path",
    "interventions": "paths",
    "words": "texts",
    "ngram": "path",
    "protected": "paths",
    "site": "texts",
    "sites": "texts",
    "*.sites": "texts",
    "model.pretrained": "path",
    "model.base": "path",
    "model.config": "path",
    "model.language": "text",
    "model.prefix": "text",
    "model.labels": "text",
    "model.source_lang": "text",
    "model.target_lang": "text",
    "model.tokenize": "text",
    "card.title": "text",
    "card.license": "text",
    "card.base_model": "text",
    "card.datasets": "texts",
    "card.language": "texts",
    "data.folder": "path",
    "data.audio_folder": "path",
    "data.path": "path",
    "data.name": "text",
    "data.lang": "text",
    "data.domain": "text",
    "data.source": "text",
    "data.source_lang": "text",
    "data.target_lang": "text",
    "data.target": "text",
    "data.train": "paths",
    "data.validation": "paths",
    "data.test": "paths",
    "data.source_train": "paths",
    "data.source_test": "paths",
    "data.source_validation": "paths",
    "data.*_column": "text",
    "intervention.path": "paths",
    "intervention.names": "texts",
    "intervention.choose": "paths",
    "unlabelled.words": "path",
    "unlabelled.reverse": "path",
    "unlabelled.target_texts": "path",
    "tuning.choose": "paths",
    "tuning.parts.*.choose": "paths",
    "tuning.neurons": "path",
    "tuning.parts.*.neurons": "path",
    "measure.reference_model": "path",
    "measure.before": "path",
    "measure.floor": "path",
    "measure.reference": "text",
    "logger.experiment": "text",
    "logger.project": "text",
    "logger.uri": "text",
    "logger.name": "text",
}
# Required, or never null: there, `null` is a name like any other.
_NEVER_NULL = ("output", "corrections")


def kind_of(command: str, key: str, default: Any) -> Kind:
    """Return how an option's value is written.

    Args:
        command: The command.
        key: The option's full name.
        default: Its value in the configuration. An option that is a number or a list there is Hydra's: `data.train`
            is a number with data=accents and a path with data=manifest.
    """
    if isinstance(default, (bool, int, float, list, dict)) or (isinstance(default, str) and default[:3] == "${."):
        return "hydra"
    own: dict[str, Kind] = _BY_COMMAND.get(command, {})
    if key in own:
        return own[key]
    fitting: list[Kind] = [kind for name, kind in _KINDS.items() if fnmatchcase(key, name)]
    return fitting[0] if fitting else "hydra"


def may_be_null(key: str, default: Any) -> bool:
    """Return whether `null` means no value for this option, and is not a name."""
    return default != "???" and key not in _NEVER_NULL
