"""Back-translation (Sennrich et al. 2016): pairs of a real target sentence and its machine translation.

The model learns to write real sentences of the target's domain, even if what it reads has mistakes.
"""

from collections.abc import Sequence

from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.models.inference import decode_examples
from adapt.models.model import Model


def translate_back(reverse: Model, texts: Sequence[str], loader: Loader) -> list[str]:
    """Return the translations of texts by a model of the other direction; an empty text stays empty."""
    filled = [number for number, text in enumerate(texts) if text.strip()]
    translations = decode_examples(
        reverse, reverse.task, [Pair(texts[number]) for number in filled], loader, "translating back"
    )
    found = dict(zip(filled, translations, strict=True))
    return [found.get(number, "") for number in range(len(texts))]


def back_translated(reverse: Model, texts: Sequence[str], loader: Loader) -> list[Pair]:
    """Return a pair for each target sentence: its translation as the source, and the sentence as the target.

    Sentences whose translation is empty are left out.
    """
    sources = translate_back(reverse, texts, loader)
    return [Pair(source, text) for source, text in zip(sources, texts, strict=True) if source.strip()]
