"""Choose the layer of a model that holds its corrections."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from adapt.errors import InputError
from adapt.models.model import Model
from interventions.corrections.layer import AffineLayer
from interventions.sites import Site

T = TypeVar("T")

# For each model family: a glob for the layers of one kind, which of them is the default (as a share of the depth), and
# the minimum number of such layers. The README reports how they were chosen. The last self-attention of a decoder sees
# the answer so far and, through the cross-attention of the layers below, the input. A decoder with a single layer has
# no cross-attention below it.
_DEFAULTS = (
    ("*.decoder.layers.*.self_attn.out_proj", 1.0, 2),  # decoders like those of BART, Marian and Whisper
    ("*.decoder.block.*.SelfAttention.o", 1.0, 2),  # T5
    ("*decoder.*.attention.output.dense", 1.0, 2),  # BERT
    ("*.encoder_attn.out_proj", 1.0, 1),
    ("*.EncDecAttention.o", 1.0, 1),
    ("*.crossattention.output.dense", 1.0, 1),
    ("*.feature_projection.projection", 0.0, 1),  # encoders like wav2vec2
    ("*.acoustic_model.*", 0.3, 1),  # the convolutions of Wav2Letter
)

# Candidates besides those of the default kind: the last layer of each of these groups and, if there is only one layer
# of the default kind, all layers that match `_DEEPER`.
_FURTHER = (
    ("*.encoder_attn.out_proj", "*.EncDecAttention.o", "*.crossattention.output.dense"),
    ("*.decoder.layers.*.fc2", "*.decoder.block.*.DenseReluDense.wo", "*decoder*.layer.*.output.dense"),
)
_DEEPER = "*.encoder.layers.*.feed_forward.output_dense"  # wav2vec2 and similar encoders
_CANDIDATES = 6


def correction_layer(model: Model, name: str | None = None) -> AffineLayer:
    """Return the layer that holds a model's corrections.

    Args:
        model: the model.
        name: name of a site, or a glob that matches one; None: the default of the model's family.

    Raises:
        InputError: If `name` does not match exactly one site, or the site cannot hold corrections.
    """
    available = [site for site in model.sites if _can_hold(model, site)]
    if name is None:
        return AffineLayer.at_site(model, _default(available)[0])
    chosen = [site for site in model.sites if fnmatchcase(site.name, name)]
    if len(chosen) != 1:
        raise InputError(
            f"site={name} matches {len(chosen)} sites of this model, expected one. Sites that can hold corrections: "
            f"{', '.join(site.name for site in available)}."
        )
    try:
        return AffineLayer.at_site(model, chosen[0])
    except ValueError as error:
        raise InputError(f"site={name}: {error}") from None


def candidate_layers(model: Model, names: Sequence[str] | None = None) -> list[AffineLayer]:
    """Return the layers that `sweep_layers` compares, in the model's order, always including the family's default.

    Args:
        model: the model.
        names: globs over site names. None: about six layers of the default kind, spread over the depth; for decoders
            also the last cross-attention output and the last feed-forward output.

    Raises:
        InputError: If a glob matches no site that can hold corrections.
    """
    available = [site for site in model.sites if _can_hold(model, site)]
    default, kind = _default(available)
    if names is not None:
        for name in names:
            if not any(fnmatchcase(site.name, name) for site in available):
                raise InputError(
                    f"site={name} matches no site that can hold corrections. Sites that can: "
                    f"{', '.join(site.name for site in available)}."
                )
        chosen = [site for site in available if any(fnmatchcase(site.name, name) for name in names)]
    else:
        groups = [[site for site in available if any(fnmatchcase(site.name, glob) for glob in group)]
                  for group in _FURTHER]  # fmt: skip
        further = [group[-1] for group in groups if group and group[-1] not in kind]
        if len(kind) == 1:
            kind = kind + [site for site in available if fnmatchcase(site.name, _DEEPER)]
        chosen = evenly_spaced(kind, _CANDIDATES - len(further), default) + further
    return [AffineLayer.at_site(model, site) for site in available if site in chosen or site == default]


def evenly_spaced(items: Sequence[T], count: int, keep: T) -> list[T]:
    """Return at most `count` (3 or more) evenly spaced items, always including the first, the last and `keep`."""
    if len(items) <= count:
        return list(items)
    places = [round(number * (len(items) - 1) / (count - 1)) for number in range(count)]
    kept = items.index(keep)
    if kept not in places:
        places[min(range(1, count - 1), key=lambda number: abs(places[number] - kept))] = kept
    return [items[place] for place in places]


def _default(available: Sequence[Site]) -> tuple[Site, list[Site]]:
    """Return the default site of the model's family, and all sites of the same kind."""
    for pattern, depth, fewest in _DEFAULTS:
        kind = [site for site in available if fnmatchcase(site.name, pattern)]
        if len(kind) >= fewest:
            return kind[round(depth * (len(kind) - 1))], kind
    raise InputError(
        "There is no default layer for corrections in models of this family. Choose the site: one of "
        f"{', '.join(site.name for site in available)}."
    )


def _can_hold(model: Model, site: Site) -> bool:
    try:
        AffineLayer.at_site(model, site)
    except ValueError:
        return False
    return True
