"""Where a model's corrections are kept, and what they leave alone."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from adapt.data.subset import evenly_with_ends
from adapt.errors import InputError
from adapt.models.model import Model
from interventions.corrections.layer import AffineLayer
from interventions.sites import Site

T = TypeVar("T")

# In each family: where corrections are kept unless somebody says otherwise, at which share of the depth, and of how
# many layers at least (see README). What the last self-attention of a decoder puts out says how far the answer has come
# and, from the cross-attention below it, what of; with one layer there is none below.
_PLACES = (
    ("*.decoder.layers.*.self_attn.out_proj", 1.0, 2),  # decoders as BART's, Marian's and Whisper's
    ("*.decoder.block.*.SelfAttention.o", 1.0, 2),  # T5's
    ("*decoder.*.attention.output.dense", 1.0, 2),  # BERT's
    ("*.encoder_attn.out_proj", 1.0, 1),
    ("*.EncDecAttention.o", 1.0, 1),
    ("*.crossattention.output.dense", 1.0, 1),
    ("*.feature_projection.projection", 0.0, 1),  # encoders as wav2vec2's
    ("*.acoustic_model.*", 0.3, 1),  # Wav2Letter's convolutions
)

# Tried beside those of the usual kind (`layers_to_try`): the last of each of these, and where the usual kind is but one
# layer, all of the kind below.
_BESIDE = (
    ("*.encoder_attn.out_proj", "*.EncDecAttention.o", "*.crossattention.output.dense"),
    ("*.decoder.layers.*.fc2", "*.decoder.block.*.DenseReluDense.wo", "*decoder*.layer.*.output.dense"),
)
_DEEPER = "*.encoder.layers.*.feed_forward.output_dense"  # wav2vec2's and the like
_TRIED = 6


def layer_of(model: Model, name: str | None = None) -> AffineLayer:
    """The layer at which a model's corrections are kept; `name` is a glob, None the family's usual one. InputError."""
    there = [site for site in model.sites if _holds(model, site)]
    if name is not None:
        chosen = [site for site in model.sites if fnmatchcase(site.name, name)]
        if len(chosen) != 1:
            raise InputError(
                f"site={name} is {len(chosen)} sites of this model, and corrections are kept at one. Give one of: "
                f"{', '.join(site.name for site in there)}."
            )
        try:
            return AffineLayer.at_site(model, chosen[0])
        except ValueError as error:
            raise InputError(f"site={name}: {error}") from None
    return AffineLayer.at_site(model, _usual(there)[0])


def layers_to_try(model: Model, names: Sequence[str] | None = None) -> list[AffineLayer]:
    """Layers to choose from by trying, in the model's order, with the family's usual one among them: those of `names`,
    globs; None: some six, of the usual one's kind and spread over the depth, in decoders also the outputs of the last
    cross-attention and the last feed-forward. InputError.
    """
    there = [site for site in model.sites if _holds(model, site)]
    usual, kind = _usual(there)
    if names is not None:
        for name in names:
            if not any(fnmatchcase(site.name, name) for site in there):
                raise InputError(
                    f"site={name}: no layer of that name can hold corrections. There are: "
                    f"{', '.join(site.name for site in there)}."
                )
        chosen = [site for site in there if any(fnmatchcase(site.name, name) for name in names)]
    else:
        beside = [[site for site in there if any(fnmatchcase(site.name, one) for one in group)] for group in _BESIDE]
        last = [found[-1] for found in beside if found and found[-1] not in kind]
        if len(kind) == 1:
            kind = kind + [site for site in there if fnmatchcase(site.name, _DEEPER)]
        chosen = spread(kind, _TRIED - len(last), usual) + last
    return [AffineLayer.at_site(model, site) for site in there if site in chosen or site == usual]


def spread(items: Sequence[T], count: int, keep: T) -> list[T]:
    """At most `count` (3 or more) items, from the first to the last at like distances, `keep` in the place of one."""
    places = evenly_with_ends(range(len(items)), count)
    kept = items.index(keep)
    if kept not in places:
        places[min(range(1, count - 1), key=lambda number: abs(places[number] - kept))] = kept
    return [items[place] for place in places]


def _usual(there: Sequence[Site]) -> tuple[Site, list[Site]]:
    """Of the sites that can hold corrections, the family's usual one, and all of its kind."""
    for pattern, depth, fewest in _PLACES:
        found = [site for site in there if fnmatchcase(site.name, pattern)]
        if len(found) >= fewest:
            return found[round(depth * (len(found) - 1))], found
    raise InputError(
        f"Say where corrections are to be kept: site=..., one of {', '.join(site.name for site in there)}."
    )


def _holds(model: Model, site: Site) -> bool:
    try:
        AffineLayer.at_site(model, site)
    except ValueError:
        return False
    return True
