"""The rule that chooses a blend, and budgets of forgetting."""

import numpy as np
import pytest

from adapt.blending.choice import Budget, Measured, choose
from adapt.blending.front import Point
from adapt.metrics import WER, error_rates, main_resamples, translation_metrics

WORDS = 400


def measured(factor, target, source, kind="single", losses=None, metric=WER, spread=0.01):
    """A blend with its errors, and resamples that all blends share but for a `spread` that grows with the factor."""
    errors = {"target": target, "source": source}
    draw = np.random.default_rng(0).normal(0, 0.02, 1000)
    own = np.random.default_rng(1).normal(0, spread, 1000) * factor
    losses = losses or errors
    values = {name: {metric.key: -value if metric.higher else value} for name, value in errors.items()}
    nothing = {"target": (0.0, 0.0), "source": (0.0, 0.0)}
    one = Point(kind, factor, {"all": factor}, values, nothing, nothing, losses)
    return Measured(one, errors, {name: value + draw + own for name, value in errors.items()})


def test_the_least_forgetting_that_keeps_95_percent_of_the_gain():
    blends = [
        measured(0.0, 0.40, 0.03),
        measured(0.7, 0.26, 0.04),
        measured(0.9, 0.21, 0.06),
        measured(1.0, 0.20, 0.09),
    ]
    chosen, reason = choose(blends, WER)
    assert chosen == 2
    assert reason == (
        "Factor 0.9: the least forgetting among the 2 of 4 factors that keep 95 % of the largest gain on validation "
        "data."
    )


def test_noise_in_the_metric_does_not_decide():
    # 0.7 reads one word of the target better than 0.9, but its loss has lost a tenth of the gain.
    losses = [{"target": target, "source": source} for target, source in ((1, 0), (0.5, 0.1), (0.42, 0.2), (0.4, 0.5))]
    errors = [(0.40, 0.03), (0.205, 0.04), (0.2075, 0.05), (0.2, 0.09)]
    blends = [
        measured(factor, *error, losses=loss)
        for factor, error, loss in zip((0.0, 0.7, 0.9, 1.0), errors, losses, strict=True)
    ]
    assert choose(blends, WER)[0] == 2
    # Among blends whose forgetting cannot be told apart, the loss of the source decides.
    blends[3] = measured(1.0, 0.2, 0.0499, losses={"target": 0.4, "source": 0.5})
    assert choose(blends, WER)[0] == 2


def test_without_a_gain_nothing_is_blended():
    blends = [measured(0.0, 0.40, 0.03), measured(0.5, 0.395, 0.03), measured(1.0, 0.41, 0.09)]
    chosen, reason = choose(blends, WER)
    assert chosen == 2
    assert reason.startswith("No blend was better than the base on the target beyond the 95 % interval, so the trained")


def test_a_factor_per_layer_must_be_better_beyond_its_interval():
    blends = [measured(0.0, 0.40, 0.03), measured(0.9, 0.20, 0.06), measured(1.0, 0.20, 0.09)]
    assert choose(blends, WER)[0] == 1
    unclear = measured(0.8, 0.20, 0.059, "layers")
    chosen, reason = choose([*blends, unclear], WER)
    assert chosen == 1
    assert reason.endswith("A factor per layer was not better beyond its 95 % interval.")
    clear = measured(0.8, 0.20, 0.04, "layers")
    assert choose([*blends, unclear, clear], WER) == (
        4, "Factors 0.8 to 0.8 by layer (mean 0.8): less forgetting than any single factor, beyond the 95 % interval."
    )  # fmt: skip
    forgets_the_gain = measured(0.8, 0.30, 0.04, "layers")
    assert choose([*blends, forgets_the_gain], WER)[0] == 1


def test_controls_are_never_chosen():
    blends = [measured(0.0, 0.40, 0.03), measured(1.0, 0.20, 0.09), measured(0.8, 0.19, 0.01, "random")]
    assert choose(blends, WER)[0] == 1


def test_a_budget_is_kept_by_the_upper_end_of_the_interval():
    blends = [
        measured(0.0, 0.40, 0.03),
        measured(0.4, 0.30, 0.032),
        measured(0.6, 0.25, 0.034),
        measured(1.0, 0.2, 0.09),
    ]
    chosen, reason = choose(blends, WER, Budget.of(0.5))
    assert chosen == 0  # 0.2 points more, but the interval of the difference goes beyond 0.5
    assert "so the result is the base" in reason
    surer = [
        measured(one.point.factor, *one.errors.values(), spread=0.0005) for one in blends
    ]  # the same, measured on more data
    assert choose(surer, WER, Budget.of(0.5))[0] == 2
    assert choose(surer, WER, Budget.of("10%"))[0] == 1  # a tenth of 3 %: 0.3 points
    assert choose(surer, WER, Budget.of(50))[0] == 3
    assert choose(surer, WER, Budget.of(0))[0] == 0


def test_budgets_in_points_and_relative():
    bleu = translation_metrics()[0]
    assert Budget.of("0.5") == Budget.of(0.5) == Budget(0.5)
    assert Budget.of(" 10 % ") == Budget(10.0, True)
    assert Budget.of(None) is None
    assert Budget(0.5).allowed(0.03, WER) == pytest.approx(0.005)
    assert Budget(10, True).allowed(0.03, WER) == pytest.approx(0.003)
    assert Budget(0.5).allowed(-40.0, bleu) == 0.5  # BLEU may fall by half a point
    assert Budget(10, True).allowed(-40.0, bleu) == pytest.approx(4.0)
    assert (str(Budget(0.5)), str(Budget(10, True))) == ("0.5 points", "10 %")


def test_resamples_of_the_same_examples_are_paired():
    references = [f"a{number} b c" for number in range(40)]
    one = main_resamples(error_rates(references, [*references[:20], *["x y z"] * 20]))
    other = main_resamples(error_rates(references, [*references[:20], *["x y z"] * 19, references[39]]))
    assert ((one - other) >= 0).all()
    assert 0.4 < one.mean() < 0.6
