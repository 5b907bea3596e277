"""The recipe `domains`: reproducible splits, and no test sentence in any training split."""

import pytest

from adapt.data.synthetic.domains import domains
from adapt.errors import InputError

NONE = {"train": 0, "validation": 0, "test": 0, "source_test": 0}


def test_the_splits_have_the_requested_sizes():
    splits = domains(train=30, validation=10, test=20, source_test=15, source_train=5)
    parts = (splits.train, splits.validation, splits.test, splits.source_test, splits.source_train)
    assert [len(part) for part in parts] == [30, 10, 20, 15, 5]
    assert {pair.domain for pair in splits.train + splits.test + splits.validation} == {"clinic"}
    assert {pair.domain for pair in splits.source_test + splits.source_train} == {"weather"}
    everything = sum(parts, ())
    assert len({pair.id for pair in everything}) == len(everything) == len({pair.source for pair in everything})
    assert splits.test[7].id == "clinic-test-0007" and splits.problems == ()


def test_one_domain_makes_the_splits_of_a_base():
    splits = domains("weather", "weather", **{**NONE, "train": 20, "test": 5, "source_test": 5})
    assert {pair.domain for pair in splits.train + splits.test + splits.source_test} == {"weather"}
    assert not {pair.source for pair in splits.test} & {pair.source for pair in splits.source_test}


@pytest.mark.slow
def test_the_seed_decides():
    assert domains(train=50, seed=3) == domains(train=50, seed=3)
    assert domains(train=50, seed=3).train != domains(train=50, seed=4).train


def test_fewer_pairs_are_a_prefix():
    assert domains(train=200).train[:50] == domains(train=50, test=3).train


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["weather", "clinic"])
def test_no_seed_trains_on_what_another_tests(domain):
    """Training and test sentences of different seeds are disjoint."""
    measured = [domains(domain, domain, **{**NONE, "test": 400, "source_test": 400}, seed=seed) for seed in (0, 1)]
    tested = {pair.source for splits in measured for pair in splits.test + splits.source_test}
    trained = domains(domain, domain, **{**NONE, "train": 8000, "validation": 200}, seed=2)
    assert len(tested) > 1300
    assert not tested & {pair.source for pair in trained.train + trained.validation}
    assert not {pair.source for pair in trained.train} & {pair.source for pair in trained.validation}


@pytest.mark.slow
def test_shared_sentences_are_in_one_split():
    """A sentence that both domains have is not in one's training split and the other's test split."""
    trained = {pair.source for pair in domains("weather", "weather", **{**NONE, "train": 8000}).train}
    assert not trained & {pair.source for pair in domains(**{**NONE, "test": 1000}).test}


def test_unknown_domains_are_input_errors():
    with pytest.raises(InputError, match="no domain 'law'. Give one of: weather, clinic"):
        domains(target="law")


def test_counts():
    with pytest.raises(InputError, match="test must be a whole number of at least 0; got -1"):
        domains(test=-1)
