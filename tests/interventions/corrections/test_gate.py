"""The gate is open for what is like the corrected, closed for what is like the protected, and blind to padding."""

import pytest
import torch

from interventions.corrections.gate import BackgroundStatistics, Gate

WIDTH = 6


def mixing(seed):
    return torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def examples(seed, number, shift=0.0, time=30, mixed=9):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(time, WIDTH, generator=draw) @ mixing(mixed) + shift for _ in range(number)]


def fitted(usual, given):
    return Gate.fit(usual, [usual.row(one) for one in given])


def opened(gate, given):
    return torch.cat([gate(one.unsqueeze(0)) for one in given]).view(-1)


@pytest.fixture(scope="module")
def usual():
    return BackgroundStatistics.fit(examples(0, 200))


def test_it_tells_other_examples_of_either_kind_apart(usual):
    gate = fitted(usual, examples(1, 150, shift=2.0))
    assert opened(gate, examples(2, 100, shift=2.0)).mean() > 0.9
    assert opened(gate, examples(3, 100)).mean() < 0.1


def test_it_tells_apart_what_differs_only_in_how_inputs_go_together(usual):
    # Of the same mean, and each input of the same spread.
    other = mixing(10) * (mixing(9).norm(dim=0) / mixing(10).norm(dim=0))

    def odd(seed, number):
        draw = torch.Generator().manual_seed(seed)
        return [torch.randn(30, WIDTH, generator=draw) @ other for _ in range(number)]

    gate = fitted(usual, odd(1, 150))
    assert opened(gate, odd(2, 100)).mean() > 0.9
    assert opened(gate, examples(3, 100)).mean() < 0.1


def test_it_is_the_discriminant_of_an_examples_summary(usual):
    given = examples(1, 40, shift=0.3)
    gate = fitted(usual, given)
    rows, protected = torch.stack([usual.row(one) for one in given]).double(), usual.rows.double()
    spread = rows - rows.mean(0)
    covariance = protected.T @ protected / len(protected) + spread.T @ spread / len(rows) / 2
    held = covariance + covariance.diagonal().mean() * torch.eye(len(covariance))
    axis = torch.linalg.solve(held, rows.mean(0))
    own = torch.cat([torch.logit(gate(one.unsqueeze(0)).double()).view(1) for one in given])
    inside = own.abs() < 12  # beyond, float32 knows no sigmoid but 0 and 1
    own, told = own[inside], (rows @ axis)[inside]
    assert len(own) > 20
    slope = (own - own.mean()) @ (told - told.mean()) / (told - told.mean()).square().sum()
    torch.testing.assert_close(own - own.mean(), slope * (told - told.mean()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("protected", [40, 60])
def test_other_protected_examples_open_it_not_much_oftener_than_it_expects(protected, monkeypatch):
    # It has 27 numbers of each example, and was fitted to these very 40: by their own scores it would expect far less.
    usual, corrected, others = (
        BackgroundStatistics.fit(examples(0, protected)),
        examples(1, 200, shift=0.1),
        examples(3, 2000),
    )

    def open_ones():
        return (opened(fitted(usual, corrected), others) > 0.5).double().mean()

    honest = open_ones()
    monkeypatch.setattr("interventions.corrections.gate._leverage", lambda *given: torch.zeros(()))
    assert honest < 0.13 and honest < 0.75 * open_ones()  # 0.026 of a normal distribution whose spread is known


def test_few_corrections_close_little(usual):
    few, many = (fitted(usual, examples(1, number)) for number in (2, 150))
    assert opened(few, examples(3, 50)).mean() > 0.99 and opened(many, examples(3, 50)).mean() < 0.2


def test_padding_of_zeros_changes_nothing(usual):
    gate = fitted(usual, examples(1, 20, shift=1.0))
    one, other = examples(4, 1, time=12)[0], examples(5, 1, time=30)[0]
    batch = torch.zeros(2, 30, WIDTH)
    batch[0, :12], batch[1] = one, other
    alone = torch.cat([gate(one.unsqueeze(0)), gate(other.unsqueeze(0))])
    torch.testing.assert_close(gate(batch), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(usual.row(batch[0]), usual.row(one))
    assert gate(torch.zeros(1, 5, WIDTH)).isfinite().all()


def test_inputs_that_never_vary_do_no_harm():
    still = [torch.cat([one, torch.zeros(30, 1)], 1) for one in examples(0, 50)]
    odd = [torch.cat([one, torch.ones(30, 1)], 1) for one in examples(1, 150)]
    gate = fitted(BackgroundStatistics.fit(still), odd)
    assert gate.quadratic.isfinite().all() and gate.linear.isfinite().all() and gate.bias.isfinite()
    assert opened(gate, odd).mean() > 0.9 and opened(gate, still).mean() < 0.1


def test_few_of_many_inputs_are_looked_at():
    draw = torch.Generator().manual_seed(0)
    usual = BackgroundStatistics.fit([torch.randn(20, 100, generator=draw) for _ in range(30)], axes=8)
    assert usual.axes.shape == (8, 100) and usual.rows.shape == (30, 8 + 36)
    gate = fitted(usual, [torch.randn(20, 100, generator=draw) for _ in range(5)])
    assert gate(torch.randn(2, 20, 100, generator=draw)).shape == (2, 1, 1)
