"""innertune: adapt speech recognisers and translation models from the inside.

    from adapt import accents, compare, fine_tune, load_model, tunings

Names are imported when they are first used, so that `import adapt` and the command line start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt import measures as measures
    from adapt import tunings as tunings
    from adapt.adversarial.attack import attack as attack
    from adapt.api import AdaptedModel as AdaptedModel
    from adapt.api import Comparison as Comparison
    from adapt.api import LoadedModel as LoadedModel
    from adapt.api import compare as compare
    from adapt.api import fine_tune as fine_tune
    from adapt.api import fine_tune_without_labels as fine_tune_without_labels
    from adapt.api import load_model as load_model
    from adapt.api import pretrain as pretrain
    from adapt.blended import BlendedModel as BlendedModel
    from adapt.blended import blend as blend
    from adapt.corrections.model_memory import ModelMemory as ModelMemory
    from adapt.corrections.model_memory import corrected as corrected
    from adapt.data.describe import manifest as manifest
    from adapt.data.loader import Loader as Loader
    from adapt.data.manifest import Splits as Splits
    from adapt.data.manifest import Utterance as Utterance
    from adapt.data.manifest import read_manifest as read_manifest
    from adapt.data.manifest import write_manifest as write_manifest
    from adapt.data.pairs import Pair as Pair
    from adapt.data.pairs import read_pairs as read_pairs
    from adapt.data.parts import split_data as split_data
    from adapt.data.splits import read_splits as read_splits
    from adapt.data.synthetic.accents import accents as accents
    from adapt.data.synthetic.domains import domains as domains
    from adapt.errors import InputError as InputError
    from adapt.evaluation.evaluate import evaluate as evaluate
    from adapt.evaluation.selection import choose as choose
    from adapt.evaluation.steering import steer as steer
    from adapt.export.card import CardOptions as CardOptions
    from adapt.export.export import Exported as Exported
    from adapt.export.export import export_model as export_model
    from adapt.models.wav2letter import wav2letter as wav2letter
    from adapt.models.wav2letter import wav2letter_small as wav2letter_small
    from adapt.planning.choose import next_examples as next_examples
    from adapt.planning.choose import next_sentences as next_sentences
    from adapt.planning.curve import learning_curve as learning_curve
    from adapt.planning.forecast import forecast as forecast
    from adapt.transcription.formats import write_transcript as write_transcript
    from adapt.transcription.transcript import Transcript as Transcript
    from adapt.unlabelled.entropy import Entropy as Entropy
    from adapt.unlabelled.entropy import adapting as adapting
    from adapt.unlabelled.options import WithoutLabels as WithoutLabels

_MODULES = {
    "adapt.api": (
        "AdaptedModel",
        "Comparison",
        "LoadedModel",
        "compare",
        "fine_tune",
        "fine_tune_without_labels",
        "load_model",
        "pretrain",
    ),
    "adapt.adversarial.attack": ("attack",),
    "adapt.blended": ("BlendedModel", "blend"),
    "adapt.corrections.model_memory": ("ModelMemory", "corrected"),
    "adapt.data.describe": ("manifest",),
    "adapt.data.loader": ("Loader",),
    "adapt.data.manifest": ("Splits", "Utterance", "read_manifest", "write_manifest"),
    "adapt.data.pairs": ("Pair", "read_pairs"),
    "adapt.data.parts": ("split_data",),
    "adapt.data.splits": ("read_splits",),
    "adapt.data.synthetic.accents": ("accents",),
    "adapt.data.synthetic.domains": ("domains",),
    "adapt.errors": ("InputError",),
    "adapt.evaluation.evaluate": ("evaluate",),
    "adapt.evaluation.selection": ("choose",),
    "adapt.evaluation.steering": ("steer",),
    "adapt.export.card": ("CardOptions",),
    "adapt.export.export": ("Exported", "export_model"),
    "adapt.models.wav2letter": ("wav2letter", "wav2letter_small"),
    "adapt.transcription.formats": ("write_transcript",),
    "adapt.transcription.transcript": ("Transcript",),
    "adapt.planning.choose": ("next_examples", "next_sentences"),
    "adapt.planning.curve": ("learning_curve",),
    "adapt.planning.forecast": ("forecast",),
    "adapt.unlabelled.entropy": ("Entropy", "adapting"),
    "adapt.unlabelled.options": ("WithoutLabels",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "AdaptedModel",
    "BlendedModel",
    "CardOptions",
    "Comparison",
    "Entropy",
    "Exported",
    "InputError",
    "LoadedModel",
    "Loader",
    "ModelMemory",
    "Pair",
    "Splits",
    "Transcript",
    "Utterance",
    "WithoutLabels",
    "accents",
    "adapting",
    "blend",
    "choose",
    "compare",
    "corrected",
    "domains",
    "evaluate",
    "export_model",
    "fine_tune",
    "fine_tune_without_labels",
    "forecast",
    "learning_curve",
    "load_model",
    "manifest",
    "measures",
    "next_examples",
    "next_sentences",
    "pretrain",
    "read_manifest",
    "read_pairs",
    "read_splits",
    "split_data",
    "steer",
    "tunings",
    "wav2letter",
    "wav2letter_small",
    "write_manifest",
    "write_transcript",
]


def __getattr__(name: str) -> Any:
    if name in ("measures", "tunings"):
        return import_module(f"adapt.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'adapt' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
