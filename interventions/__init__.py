"""Read and write a model's inside: where (sites), which (neurons), how (capture, intervene), what (one idea a file).

    site = site_at(model, "model.encoder.layers.3")                 # sites: any module; find_sites lists the usual ones
    with capture(model, site) as acts:                              # capture: (batch, time, units), whatever the layout
        model(audio)

    steer = Steer(site, vector, 2.0, scope=Scope(steps=PROMPT))     # data: a frozen object, with when and how strongly
    ablate = Ablate(scores.top(0.05))                               # neurons: sets of units, by score or by hand
    with intervene(model, steer, ablate):                           # intervene: for a block, in the order given
        model.generate(audio)

    save("edits.safetensors", [steer, ablate], model)               # store: one file, this model's, without code in it
    edits = Edits(model)                                            # intervene: until removed
    for name, edit in load("edits.safetensors", model).items():
        edits.add(edit, name)

    fitter = MeanDifference()                                       # steer_fit, erase: fitted in one pass over a corpus
    with capture(model, site, fitter.of(0), lengths): model(audio)  # ... and fitter.of(1) of the other group
    steer = fitter.fit().steer(site, 2.0)
    unfold(fold(model, steer))                                      # fold: into the weights where affine, and out again

    correct(model, memory, 1, loss, right)                          # correct: what a user corrects stays so, until
    with intervene(model, memory): model(audio)                     # ... memory.remove(1); correct_store keeps it

    names = train_rows(model, scores.top(0.05))                     # rows: only these neurons train, until merge_rows
    freeze_all_but(model, names)                                    # freeze: and nothing else moves a bit

What never ran is an error, in the call that went past it; nothing of the model or of other people's hooks is touched.
The names in `__all__` can be imported from here; a module is loaded when one of its names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interventions.ablate import Ablate as Ablate
    from interventions.activations import Activations as Activations
    from interventions.activations import capture as capture
    from interventions.clamp import Clamp as Clamp
    from interventions.clamp import Scale as Scale
    from interventions.clamp import Set as Set
    from interventions.edits import Edits as Edits
    from interventions.edits import intervene as intervene
    from interventions.erase import Erase as Erase
    from interventions.erase import EraseFitter as EraseFitter
    from interventions.folding import fold as fold
    from interventions.folding import unfold as unfold
    from interventions.freeze import freeze_all_but as freeze_all_but
    from interventions.lowrank import LowRank as LowRank
    from interventions.neurons import Neurons as Neurons
    from interventions.neurons import Scores as Scores
    from interventions.patch import Patch as Patch
    from interventions.rows import merge_rows as merge_rows
    from interventions.rows import train_rows as train_rows
    from interventions.scope import Scope as Scope
    from interventions.sites import Site as Site
    from interventions.sites import find_sites as find_sites
    from interventions.sites import site_at as site_at
    from interventions.steer import Steer as Steer
    from interventions.steer_fit import MeanDifference as MeanDifference
    from interventions.steer_fit import PairPCA as PairPCA
    from interventions.steer_fit import ProbeDirection as ProbeDirection
    from interventions.steer_fit import SteeringVectors as SteeringVectors
    from interventions.steer_learn import learn_vector as learn_vector
    from interventions.store import load as load
    from interventions.store import save as save

_MODULES = {
    "ablate": ("Ablate",),
    "activations": ("Activations", "capture"),
    "clamp": ("Clamp", "Scale", "Set"),
    "edits": ("Edits", "intervene"),
    "erase": ("Erase", "EraseFitter"),
    "folding": ("fold", "unfold"),
    "freeze": ("freeze_all_but",),
    "lowrank": ("LowRank",),
    "neurons": ("Neurons", "Scores"),
    "patch": ("Patch",),
    "rows": ("merge_rows", "train_rows"),
    "scope": ("Scope",),
    "sites": ("Site", "find_sites", "site_at"),
    "steer": ("Steer",),
    "steer_fit": ("MeanDifference", "PairPCA", "ProbeDirection", "SteeringVectors"),
    "steer_learn": ("learn_vector",),
    "store": ("load", "save"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'interventions' has no attribute '{name}'")
    return getattr(import_module(f"interventions.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
