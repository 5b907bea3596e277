"""The recipe `domains`: English-German sentence pairs to adapt a translation model from one domain to another."""

import random
from collections.abc import Iterator, Mapping
from itertools import islice

from adapt.data.manifest import Splits
from adapt.data.pairs import Pair
from adapt.data.synthetic.bilingual import BilingualGrammar
from adapt.data.synthetic.domain_grammar import CLINIC, WEATHER
from adapt.data.synthetic.sentences import part
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
    seed: int = 0,
) -> Splits:
    """Pairs to adapt with: `train`, `validation` and `test` of the target domain, `source_test` of the source domain.

    The domains are "weather" (notes between friends, who say du and ihr) and "clinic" (what patients are told, who are
    addressed as Sie). With both the same, the splits are those of one domain, as for training a base.

    - Pair i of a split is the same however many are asked for, and the same in every process.
    - Which split a pair may be used in depends on its English sentence alone (`sentences.part`), so no seed puts a
      sentence into one set's training and another's test. No sentence occurs twice in a split.

    Each pair has its `domain`, and an `id` such as "clinic-test-0007", which is that of its seed.

    Raises:
        InputError: there is no such domain, or more distinct sentences are asked for than there are.
    """
    counts = {"train": train, "validation": validation, "test": test}
    counts |= {"source_train": source_train, "source_test": source_test}
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"'{name}' is a number of sentences, 0 or more; got {count}.")
    for domain in (source, target):
        if domain not in DOMAINS:
            raise InputError(f"There is no domain '{domain}'. Give one of: {', '.join(DOMAINS)}.")
    return Splits(
        train=_pairs(target, "train", train, seed),
        validation=_pairs(target, "validation", validation, seed),
        test=_pairs(target, "test", test, seed),
        source_test=_pairs(source, "source_test", source_test, seed),
        source_train=_pairs(source, "train", source_train, seed),
    )


def _pairs(domain: str, name: str, count: int, seed: int) -> tuple[Pair, ...]:
    return tuple(
        Pair(source, target, domain=domain, id=f"{domain}-{name}-{number:04d}")
        for number, (source, target) in enumerate(islice(_draw(domain, name, seed), count))
    )


def _draw(domain: str, name: str, seed: int) -> Iterator[tuple[str, str]]:
    """English sentences and their translations, each English one once, and all of those that this split may have."""
    grammar = DOMAINS[domain]
    rng = random.Random(f"{seed}/{name}/{domain}")
    drawn: set[str] = set()
    misses = 0
    while misses < 20_000:
        source, target = grammar.pair(rng)
        if source in drawn or part(source) != name:
            misses += 1
            continue
        misses = 0
        drawn.add(source)
        yield source, target
    raise InputError(
        f"There are only about {len(drawn)} distinct '{domain}' sentences for '{name}'. Ask for fewer of them."
    )
