"""The gate is open for what is like the corrected, closed for what is like the protected, and blind to padding."""

import pytest
import torch

from interventions.correct_gate import Gate, Usual, summary


def examples(seed, number, shift=0.0, time=30):
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    return [torch.randn(time, 6, generator=draw) @ mixing + shift for _ in range(number)]


def summed(given):
    return [summary(one.unsqueeze(0))[0] for one in given]


def opened(gate, given):
    return torch.cat([gate(one.unsqueeze(0)) for one in given]).mean()


@pytest.fixture(scope="module")
def usual():
    return Usual.fit(summed(examples(0, 200)))


def test_it_tells_other_examples_of_either_kind_apart(usual):
    gate = Gate.fit(usual, summed(examples(1, 150, shift=2.0)))
    assert opened(gate, examples(2, 100, shift=2.0)) > 0.9
    assert opened(gate, examples(3, 100)) < 0.1


def test_few_corrections_close_little(usual):
    few, many = (Gate.fit(usual, summed(examples(1, number))) for number in (2, 150))
    assert opened(few, examples(3, 50)) > 0.99 and opened(many, examples(3, 50)) < 0.2


def test_padding_of_zeros_changes_nothing(usual):
    gate = Gate.fit(usual, summed(examples(1, 20, shift=1.0)))
    one, other = examples(4, 1, time=12)[0], examples(5, 1, time=30)[0]
    batch = torch.zeros(2, 30, 6)
    batch[0, :12], batch[1] = one, other
    alone = torch.cat([gate(one.unsqueeze(0)), gate(other.unsqueeze(0))])
    torch.testing.assert_close(gate(batch), alone, rtol=1e-5, atol=1e-6)
    assert gate(torch.zeros(1, 5, 6)).isfinite().all()


def test_inputs_that_never_vary_do_no_harm():
    still = [torch.cat([one, torch.zeros(30, 1)], 1) for one in examples(0, 50)]
    odd = [torch.cat([one, torch.ones(30, 1)], 1) for one in examples(1, 150)]
    gate = Gate.fit(Usual.fit(summed(still)), summed(odd))
    assert gate.weight.isfinite().all() and gate.bias.isfinite()
    assert opened(gate, odd) > 0.9 and opened(gate, still) < 0.1
