"""The data recipe `domains`: synthetic English-German sentence pairs of two domains."""

import random
from collections.abc import Iterator, Mapping
from itertools import islice

from adapt.checks import check_counts
from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.data.synthetic.bilingual import BilingualGrammar
from adapt.data.synthetic.clinic_grammar import CLINIC
from adapt.data.synthetic.sentences import split_of
from adapt.data.synthetic.weather_grammar import WEATHER
from adapt.errors import InputError

DOMAINS: Mapping[str, BilingualGrammar] = {"weather": WEATHER, "clinic": CLINIC}


def domains(
    source: str = "weather",
    target: str = "clinic",
    train: int = 600,
    validation: int = 100,
    test: int = 300,
    source_test: int = 300,
    source_train: int = 0,
    source_validation: int | None = None,
    seed: int = 0,
) -> Splits:
    """Make sentence pairs to adapt a translation model from one domain to another.

    The domains are "weather" (notes between friends, who are addressed as du and ihr) and "clinic" (messages to
    patients, who are addressed as Sie).

    - Pair i of a split is always the same, however many pairs are requested.
    - The English sentence alone decides which split may use a pair (`sentences.split_of`), so no seed trains on a
      sentence that another seed tests on. No split has a sentence twice.

    Args:
        source: the domain that the base knows.
        target: the domain to adapt to. If it equals `source`, the splits have one domain only, to train a base.
        train: the number of pairs of the target in `train`.
        validation: the same for `validation`.
        test: the same for `test`.
        source_test: the number of pairs of the source in `source_test`.
        source_train: the same for `source_train`.
        source_validation: the same for `source_validation`. None takes as many as `validation` has, if there is a
            `source_test`.
        seed: the seed for the choice of sentences.

    Returns:
        The splits. Each pair has its `domain`, and an `id` such as "clinic-test-0007", which is unique for one seed.

    Raises:
        InputError: there is no such domain, or more sentences are requested than there are.
    """
    kept = source_validation if source_validation is not None else validation if source_test else 0
    check_counts(0, train=train, validation=validation, test=test, source_test=source_test, source_train=source_train)
    check_counts(0, source_validation=kept)
    for domain in (source, target):
        if domain not in DOMAINS:
            raise InputError(f"There is no domain '{domain}'. Give one of: {', '.join(DOMAINS)}.")
    return Splits(
        train=_pairs(target, "train", train, seed),
        validation=_pairs(target, "validation", validation, seed),
        test=_pairs(target, "test", test, seed),
        source_test=_pairs(source, "source_test", source_test, seed),
        source_train=_pairs(source, "train", source_train, seed),
        source_validation=_pairs(source, "validation", kept, seed),
    )


def _pairs(domain: str, name: str, count: int, seed: int) -> tuple[Pair, ...]:
    return tuple(
        Pair(source, target, domain=domain, id=f"{domain}-{name}-{number:04d}")
        for number, (source, target) in enumerate(islice(_draw(domain, name, seed), count))
    )


def _draw(domain: str, name: str, seed: int) -> Iterator[tuple[str, str]]:
    """Yield distinct English sentences of this split, each with its translation."""
    grammar = DOMAINS[domain]
    rng = random.Random(f"{seed}/{name}/{domain}")
    drawn: set[str] = set()
    misses = 0
    while misses < 20_000:
        source, target = grammar.pair(rng)
        if source in drawn or split_of(source) != name:
            misses += 1
            continue
        misses = 0
        drawn.add(source)
        yield source, target
    raise InputError(
        f"There are only about {len(drawn)} distinct '{domain}' sentences for '{name}'. Request fewer of them."
    )
