"""Read and edit the activations of a model: sites, sets of neurons, capturing, intervening, storing and folding.

    site = site_at(model, "model.encoder.layers.3")                 # any module; find_sites lists the usual ones
    with capture(model, site) as activations:                       # (batch, time, units), whatever the layout
        model(audio)

    steer = Steer(site, vector, 2.0, scope=Scope(steps=PROMPT))     # a frozen object, with its scope and strength
    ablate = Ablate(scores.top(0.05))                               # sets of neurons, by score or by hand
    with intervene(model, steer, ablate):                           # for a block, in the order given
        model.generate(audio)

    save("edits.safetensors", [steer, ablate], model)               # one file for one model, without code
    edits = Edits(model)                                            # until removed
    for name, edit in load("edits.safetensors", model).items():
        edits.add(edit, name)

    fitter = MeanDifference()                                       # fitted in one pass over a corpus
    with capture(model, site, fitter.for_group(0), lengths): model(audio)
    with capture(model, site, fitter.for_group(1), lengths): model(other)
    steer = fitter.fit().steer(site, 2.0)
    unfold(fold(model, steer))                                      # write affine edits into the weights, and undo it

    correct(model, memory, 1, loss, is_correct)                     # corrected answers (interventions.corrections),
    with intervene(model, memory): model(audio)                     # until memory.remove(1)

    names = train_rows(model, scores.top(0.05))                     # train only these neurons, until merge_rows
    freeze_all_but(model, names)                                    # freeze everything else, bit for bit

If an intervention never runs, the call of the model that skipped it raises an error. Interventions leave the model's
weights and other hooks alone. Names are imported when they are first used, so `import interventions` does not load
torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interventions.ablate import Ablate
    from interventions.bits import changed_bits, fingerprint
    from interventions.blocks import OtherThreadError
    from interventions.capture import Activations, capture
    from interventions.clamp import Clamp, Scale, Set
    from interventions.erase import Erase, EraseFitter
    from interventions.files import FileError
    from interventions.fold import Folded, fold, unfold
    from interventions.freeze import eval_frozen, freeze_all_but
    from interventions.gradients import capture_gradients
    from interventions.hooks import NeverRanError
    from interventions.intervene import Edits, intervene
    from interventions.intervention import Custom, Intervention
    from interventions.lowrank import LowRank
    from interventions.neurons import Neurons, Scores
    from interventions.patch import Patch
    from interventions.reduce import Mean, Reservoir
    from interventions.rows import freeze_neurons, merge_rows, train_rows
    from interventions.scope import GENERATED, PROMPT, Scope
    from interventions.sites import Layer, Site, Step, choose_layers, choose_sites, find_sites, site_at
    from interventions.steer import Steer
    from interventions.steer_fit import MeanDifference, PairPCA, ProbeDirection, SteeringVectors
    from interventions.steer_learn import learn_vector
    from interventions.store import load, save

_NAMES = {
    "ablate": ("Ablate",),
    "bits": ("changed_bits", "fingerprint"),
    "blocks": ("OtherThreadError",),
    "capture": ("Activations", "capture"),
    "clamp": ("Clamp", "Scale", "Set"),
    "erase": ("Erase", "EraseFitter"),
    "files": ("FileError",),
    "fold": ("Folded", "fold", "unfold"),
    "freeze": ("eval_frozen", "freeze_all_but"),
    "gradients": ("capture_gradients",),
    "hooks": ("NeverRanError",),
    "intervene": ("Edits", "intervene"),
    "intervention": ("Custom", "Intervention"),
    "lowrank": ("LowRank",),
    "neurons": ("Neurons", "Scores"),
    "patch": ("Patch",),
    "reduce": ("Mean", "Reservoir"),
    "rows": ("freeze_neurons", "merge_rows", "train_rows"),
    "scope": ("GENERATED", "PROMPT", "Scope"),
    "sites": ("Layer", "Site", "Step", "choose_layers", "choose_sites", "find_sites", "site_at"),
    "steer": ("Steer",),
    "steer_fit": ("MeanDifference", "PairPCA", "ProbeDirection", "SteeringVectors"),
    "steer_learn": ("learn_vector",),
    "store": ("load", "save"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Ablate",
    "Activations",
    "Clamp",
    "Custom",
    "Edits",
    "Erase",
    "EraseFitter",
    "FileError",
    "Folded",
    "GENERATED",
    "Intervention",
    "Layer",
    "LowRank",
    "Mean",
    "MeanDifference",
    "Neurons",
    "NeverRanError",
    "OtherThreadError",
    "PROMPT",
    "PairPCA",
    "Patch",
    "ProbeDirection",
    "Reservoir",
    "Scale",
    "Scope",
    "Scores",
    "Set",
    "Site",
    "Steer",
    "SteeringVectors",
    "Step",
    "capture",
    "capture_gradients",
    "changed_bits",
    "choose_layers",
    "choose_sites",
    "eval_frozen",
    "find_sites",
    "fingerprint",
    "fold",
    "freeze_all_but",
    "freeze_neurons",
    "intervene",
    "learn_vector",
    "load",
    "merge_rows",
    "save",
    "site_at",
    "train_rows",
    "unfold",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'interventions' has no attribute {name!r}")
    return getattr(import_module(f"interventions.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """A package whose functions `capture`, `fold` and `intervene` are not hidden by its modules of the same names.

    When a submodule is first imported, Python sets it as an attribute of its package, which would replace the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
