"""scipy is the reference of what it has; the rest is computed by hand in the comments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from boardfront.latency_models.accuracy import (
    assess,
    kendall,
    mape,
    noise_floor,
    relative_errors,
    spearman,
    wilson_interval,
    within,
)
from boardfront.protos.errors import WrongInputError


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [0, 8])
def test_rank_correlations_agree_with_scipy(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=40)
    second = first * rng.uniform(-1, 2) + rng.normal(size=40)
    # Without decimals there are ties.
    first, second = np.round(first, decimals), np.round(second, decimals)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


def test_ranks_that_do_not_tell_are_none() -> None:
    assert spearman([1, 2], [1, 2]) is None
    assert kendall([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert kendall([1, 2, 3], [2, 2, 2]) is None


def test_perfect_and_reversed_order() -> None:
    assert spearman([1, 2, 3, 9], [1, 4, 5, 6]) == 1
    assert kendall([1, 2, 3, 9], [6, 5, 4, 1]) == -1


@pytest.mark.parametrize(("successes", "total"), [(0, 7), (3, 10), (38, 40), (40, 40), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_agrees_with_scipy(successes: int, total: int, confidence: float) -> None:
    expected = stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, total, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0, 1)
    with pytest.raises(WrongInputError, match="between 0 and 3 successes, got 4"):
        wilson_interval(4, 3)


def test_errors_by_hand() -> None:
    predicted, measured = [1.05, 2.2, 2.7, 4.0], [1.0, 2.0, 3.0, 4.0]
    # +5 %, +10 %, -10 %, 0
    assert relative_errors(predicted, measured) == pytest.approx([0.05, 0.1, -0.1, 0])
    assert mape(predicted, measured) == pytest.approx(0.0625)
    assert within(predicted, measured, 0.05).count == 2  # the limit itself is within
    assert within(predicted, measured, 0.10).value == 1


def test_assess_by_hand() -> None:
    found = assess([1.02, 1.8, 3.3], [1.0, 2.0, 3.0], [[1.01], [], [3.3, 2.7]])
    assert found.networks == 3
    assert found.mape == pytest.approx((0.02 + 0.1 + 0.1) / 3)
    assert found.bias == pytest.approx(0.02 / 3)
    assert abs(found.worst) == pytest.approx(0.1)
    assert found.within_5.count == 1
    assert (found.within_5.low, found.within_5.high) == wilson_interval(1, 3)
    assert found.within_10.of == 3
    assert found.spread == pytest.approx(1 / 2)  # sd of 1, 2, 3 is 1, their mean 2
    assert found.spearman == 1
    assert found.noise_floor is not None
    assert found.noise_floor.repeats == 3
    assert found.noise_floor.mape == pytest.approx((0.01 + 0.1 + 0.1) / 3)


def test_one_network_has_errors_but_no_order() -> None:
    found = assess([1.1], [1.0])
    assert found.spearman is None
    assert found.spread == 0
    assert found.noise_floor is None
    assert found.worst == pytest.approx(0.1)


def test_the_worst_case_keeps_its_sign_and_place() -> None:
    found = assess([1.0, 1.5, 3.3], [1.0, 2.0, 3.0])
    assert found.worst == pytest.approx(-0.25)
    assert found.worst_index == 1


def test_no_repeats_is_no_noise_floor() -> None:
    assert noise_floor([1.0, 2.0], [[], []]) is None
    with pytest.raises(WrongInputError, match="repeats of 2 networks, got of 1"):
        noise_floor([1.0, 2.0], [[1.0]])


@pytest.mark.parametrize(
    ("predicted", "measured", "match"),
    [
        ([1.0], [1.0, 2.0], "shapes"),
        ([], [], "at least one"),
        ([float("nan")], [1.0], "nan or infinity"),
        ([1.0], [0.0], "above 0"),
    ],
)
def test_wrong_input_is_refused(predicted: list[float], measured: list[float], match: str) -> None:
    with pytest.raises(WrongInputError, match=match):
        mape(predicted, measured)
