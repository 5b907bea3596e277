"""A forecast of a synthetic learning curve: it finds the truth, its interval covers it, and it says when it cannot."""

import numpy as np
import pytest

from adapt.errors import InputError
from adapt.metrics import WER, Metric, TextScores
from adapt.planning.curve import CurvePoint, LearningCurve
from adapt.planning.forecast import forecast

SHARES = (0.125, 0.25, 0.5, 1.0)
BLEU = Metric("bleu", "BLEU", "BLEU", higher=True, percent=False)


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def points(sums):
    return 100 * sums[..., 0] / sums[..., 1]


def made(truth, orders=2, examples=200, metric=WER, formula=ratio, shares=SHARES, size=20.0, seed=0):
    """Return a curve whose metric follows `truth(size)`, with the noise of so many test examples of ten words."""
    draw = np.random.default_rng(seed)
    all_points, scores = [], []
    for order in range(orders):
        for share in shares:
            value = truth(share * size)
            words = np.full(examples, 10)
            right = draw.binomial(words, value if metric is WER else value / 100)
            scores.append(TextScores((metric,), (np.stack([right, words], axis=1),), (formula,)))
            found = float(formula(scores[-1].statistics[0].sum(0)))
            all_points.append(CurvePoint(order, share, share * size, 10, 5, found, 1.0))
    return LearningCurve(metric, "minutes", truth(0.1), tuple(all_points), tuple(scores))


def law(size):
    return 0.1 + 0.4 * size**-0.5


def test_finds_what_more_data_gives():
    found = forecast(made(law), 10)
    low, high = found.change_interval
    assert low < law(30) - law(20) < high
    assert found.later == pytest.approx(law(30), abs=0.02) and found.later < found.now
    assert found.now_interval[0] <= found.now <= found.now_interval[1]
    assert found.problems == () and "10 minutes more would bring WER from" in found.sentence


def test_the_interval_covers_the_truth_in_most_repetitions():
    hits = 0
    for seed in range(20):
        low, high = forecast(made(law, seed=seed), 10, resamples=100).later_interval
        hits += low <= law(30) <= high
    assert hits >= 15


def test_checks_itself_on_half_of_the_data():
    check = forecast(made(law), 10).check
    assert check is not None and (check.fitted_up_to, check.size) == (10.0, 20.0)
    assert check.hit and abs(check.error) < 0.05

    def drops(size):
        return 0.1 if size > 10 else 0.5 - 0.005 * size  # all the data work a wonder that half do not foretell

    found = forecast(made(drops), 10)
    assert found.check is not None and not found.check.hit and found.check.error > 0.2
    assert any("missed" in problem for problem in found.problems) and "does not tell" in found.sentence


def test_says_nothing_about_a_flat_curve():
    found = forecast(made(lambda size: 0.3), 10)
    assert found.problems and "does not tell what 10 minutes more would give" in found.sentence


def test_says_nothing_about_far_more_data_or_too_few_sizes():
    assert "times the data" in forecast(made(law), 100).sentence
    few = forecast(made(law, shares=(0.5, 1.0)), 10)
    assert few.check is None and "only 2 sizes" in few.sentence


def test_a_metric_whose_higher_values_are_better():
    found = forecast(made(lambda size: 60 - 40 * size**-0.5, metric=BLEU, formula=points), 10)
    assert found.later > found.now and found.later == pytest.approx(60 - 40 * 30**-0.5, abs=2)
    assert "bring BLEU from" in found.sentence


def test_is_reproducible_and_plain():
    one, other = (forecast(made(law), 10, seed=3) for _ in range(2))
    assert one == other and one != forecast(made(law), 10, seed=4)
    figures = one.figures()
    assert figures["metric"] == "wer" and figures["check"]["hit"] is True


@pytest.mark.parametrize("more", [0, -1, float("nan"), "ten"])
def test_refuses_amounts_that_are_none(more):
    with pytest.raises(InputError, match="more must be"):
        forecast(made(law), more)
