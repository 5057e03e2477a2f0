"""What samples say: against tables and closed forms, and each verdict with its evidence."""

from __future__ import annotations

import math
import random
import statistics as standard
from typing import TYPE_CHECKING

import pytest

from boardfront.protos import statistics
from boardfront.protos.records import Circumstances, Precision, Statistics, Verdict, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

# n: (rank, coverage of [X_(rank), X_(n+1-rank)] in percent, and of the next narrower one).
# Origin: 1 - 2 * sum_{i<rank} C(n, i) / 2^n, as tabulated in e.g. W. J. Conover, Practical
# Nonparametric Statistics, 3rd ed., 1999, table A3 (binomial, p = 0.5); two decimals.
_RANKS = {
    6: (1, 96.88, 78.12),
    7: (1, 98.44, 87.50),
    8: (1, 99.22, 92.97),
    9: (2, 96.09, 82.03),
    10: (2, 97.85, 89.06),
    11: (2, 98.83, 93.46),
    12: (3, 96.14, 85.40),
    15: (4, 96.48, 88.15),
    17: (5, 95.10, 85.65),
    20: (6, 95.86, 88.47),
    25: (8, 95.67, 89.22),
    30: (10, 95.72, 90.13),
}


def _coverage(n: int, rank: int) -> float:
    return 100 * (1 - 2 * sum(math.comb(n, i) for i in range(rank)) / 2.0**n)


def _windows(medians: Sequence[float], samples: int = 3) -> list[Window]:
    """Windows of constant samples."""
    return [
        Window(start_s=float(i), loops=1, samples_s=(value,) * samples)
        for i, value in enumerate(medians)
    ]


def _summary(medians: Sequence[float]) -> Statistics:
    found = statistics.summarize(_windows(medians))
    assert found is not None
    return found


@pytest.mark.parametrize("n", _RANKS)
def test_the_interval_stands_on_the_tabulated_ranks(n: int) -> None:
    rank, coverage, narrower = _RANKS[n]
    assert _coverage(n, rank) == pytest.approx(coverage, abs=0.006)
    assert _coverage(n, rank + 1) == pytest.approx(narrower, abs=0.006)
    assert coverage >= 95.0 > narrower
    values = [float(value) for value in range(1, n + 1)]
    random.Random(n).shuffle(values)  # noqa: S311
    assert statistics.median_interval(values) == (float(rank), float(n + 1 - rank))


@pytest.mark.parametrize("n", range(6, 200))
def test_every_rank_is_the_narrowest_that_covers(n: int) -> None:
    interval = statistics.median_interval([float(value) for value in range(1, n + 1)])
    assert interval is not None
    rank = int(interval[0])
    assert interval[1] == n + 1 - rank
    assert _coverage(n, rank) >= 95.0 > _coverage(n, rank + 1)


@pytest.mark.parametrize("n", range(6))
def test_fewer_than_six_give_no_interval(n: int) -> None:
    assert statistics.median_interval([1.0] * n) is None
    assert statistics.summarize(_windows([1.0] * n)) is None
    assert statistics.autocorrelation([float(value) for value in range(n)]) is None


def test_the_interval_covers_what_it_says_on_a_skewed_distribution() -> None:
    # 4,000 draws of 9 from an exponential of median ln 2: coverage 96.09 % in theory, with a
    # standard error of 0.31 %; four of them are allowed.
    draw = random.Random(7)  # noqa: S311
    hits = 0
    for _ in range(4000):
        interval = statistics.median_interval([draw.expovariate(1.0) for _ in range(9)])
        assert interval is not None
        hits += interval[0] <= math.log(2) <= interval[1]
    assert hits / 4000 == pytest.approx(0.9609, abs=4 * 0.0031)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # By hand: deviations d from the mean, sum d_i d_(i+1) / sum d_i^2.
        ([1, 2, 3, 4, 5, 6], 8.75 / 17.5),
        ([1, -1, 1, -1, 1, -1], -5 / 6),
        ([0, 0, 0, 1, 1, 1], (2 - 1 + 2) / 6),
    ],
)
def test_autocorrelation_by_hand(values: list[float], expected: float) -> None:
    assert statistics.autocorrelation(values) == pytest.approx(expected)


def test_constant_values_have_no_autocorrelation() -> None:
    assert statistics.autocorrelation([0.25] * 9) is None


@pytest.mark.parametrize("q", [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_quantiles_are_the_standard_librarys(n: int, q: float) -> None:
    draw = random.Random(n)  # noqa: S311
    values = [draw.random() for _ in range(n)]
    cuts = [
        min(values),
        *standard.quantiles(values, n=100, method="inclusive"),
        max(values),
    ]
    assert statistics.quantile(values, q) == pytest.approx(cuts[round(100 * q)])


def test_a_quantile_of_one_value_is_that_value() -> None:
    assert statistics.quantile([3.0], 0.99) == 3.0


def test_a_summary_by_hand() -> None:
    windows = [
        Window(start_s=float(i), loops=1, samples_s=(value - 1.0, value, value + 4.0))
        for i, value in enumerate([10.0, 12.0, 10.0, 12.0, 10.0, 12.0])
    ]
    found = statistics.summarize(windows)
    assert found is not None
    assert (found.median_s, found.low_s, found.high_s) == (11.0, 10.0, 12.0)
    assert (found.min_s, found.max_s, found.mean_s) == (9.0, 16.0, 12.0)
    # Distances from 11 are 2 1 3 (from 9 10 14) and 0 1 5 (from 11 12 16), thrice: median 1.5.
    assert found.mad_s == 1.5
    samples = [sample for window in windows for sample in window.samples_s]
    assert found.cv == pytest.approx(standard.pstdev(samples) / 12.0)
    assert (found.samples, found.windows, found.merged) == (18, 6, 1)
    assert found.outliers == 0
    assert found.relative_half_width == pytest.approx(1 / 11)


def test_outliers_are_counted_and_kept() -> None:
    windows = _windows([1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0])
    windows.append(Window(start_s=8.0, loops=1, samples_s=(1.0, 1.0, 50.0)))
    found = statistics.summarize(windows)
    assert found is not None
    assert found.outliers == 1
    assert found.max_s == 50.0
    assert found.median_s == 1.0


def test_one_wild_sample_does_not_move_the_interval() -> None:
    # The interval rests on window medians: a sample is outvoted inside its window.
    calm = [(1.0, 1.0, 1.0)] * 9
    wild = [*calm[:4], (1.0, 1.0, 900.0), *calm[5:]]
    for samples in (calm, wild):
        windows = [
            Window(start_s=float(i), loops=1, samples_s=values) for i, values in enumerate(samples)
        ]
        found = statistics.summarize(windows)
        assert found is not None
        assert (found.low_s, found.high_s) == (1.0, 1.0)


def test_correlated_windows_are_merged() -> None:
    # Steps of four windows: lag-1 is 15/28. Pairs of them: 1 1 2 2 ... 1 1, whose lag-1 is 1/14 by
    # hand, which is under the limit of 0.35.
    steps = [value for value in (1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0) for _ in range(4)]
    assert statistics.autocorrelation(steps) == pytest.approx(15 / 28)
    found = _summary(steps)
    assert (found.merged, found.windows, found.samples) == (2, 28, 84)
    assert found.autocorrelation == pytest.approx(1 / 14)
    # 14 groups, so ranks 3 and 12 of eight ones and six twos.
    assert (found.low_s, found.high_s) == (1.0, 2.0)


def test_a_last_group_without_partner_stays() -> None:
    steps = [(value,) for value in (1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0) for _ in range(4)]
    groups, merged = statistics._independent_groups([*steps, (1.0,)])
    assert merged == 2
    assert [len(group) for group in groups] == [2] * 14 + [1]


def test_a_plain_trend_gives_no_interval_of_too_few() -> None:
    # Six windows on a line are merged to three, and three are too few.
    assert statistics.autocorrelation([1, 2, 3, 4, 5, 6]) == pytest.approx(0.5)
    assert statistics.summarize(_windows([1, 2, 3, 4, 5, 6])) is None


def test_a_finished_measurement_on_a_moving_level_keeps_its_interval_and_says_so() -> None:
    medians = [1.0 + 0.005 * i for i in range(40)]
    windows = _windows(medians)
    assert statistics.summarize(windows) is None
    found = statistics.summarize(windows, final=True)
    assert found is not None
    assert found.merged == 4
    assert found.autocorrelation is not None
    assert found.autocorrelation > 0.35
    judgement = statistics.judge(found, Precision(), windows, Circumstances())
    assert judgement.verdict is Verdict.DRIFTED
    assert any("the level moves" in text for text in judgement.evidence)


def test_a_narrow_interval_of_correlated_windows_is_not_ok() -> None:
    medians = [1.0, 1.001, 1.002, 1.003, 1.003, 1.002, 1.001, 1.0]
    found = statistics.summarize(_windows(medians), final=True)
    assert found is not None
    judgement = statistics.judge(found, Precision(), _windows(medians), Circumstances())
    assert judgement.verdict is Verdict.UNSTABLE


def test_uncorrelated_windows_are_left_alone() -> None:
    assert _summary([1.0, 1.1] * 5).merged == 1


def _judge(
    medians: Sequence[float],
    circumstances: Circumstances | None = None,
    precision: Precision | None = None,
) -> statistics.Judgement:
    windows = _windows(medians)
    found = statistics.summarize(windows)
    assert found is not None
    return statistics.judge(
        found, precision or Precision(), windows, circumstances or Circumstances()
    )


_STEADY = [1.0, 1.001] * 4


def test_a_quiet_sample_is_ok_without_evidence() -> None:
    assert _judge(_STEADY) == statistics.Judgement(verdict=Verdict.OK, evidence=())


def test_what_could_not_be_read_convicts_nobody() -> None:
    nothing = Circumstances(other_cpu_fraction=None, steal_fraction=None)
    assert _judge(_STEADY, nothing).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("circumstances", "said"),
    [
        (
            Circumstances(other_cpu_fraction=0.101),
            "other processes took 10% of the cores' time (limit 10%)",
        ),
        (
            Circumstances(steal_fraction=0.021),
            "the hypervisor took 2.1% of the time (limit 2%)",
        ),
    ],
)
def test_other_work_is_contention(circumstances: Circumstances, said: str) -> None:
    judgement = _judge(_STEADY, circumstances)
    assert judgement.verdict is Verdict.CONTENDED
    assert judgement.evidence == (said,)


def test_other_work_up_to_the_limit_is_none() -> None:
    limits = Circumstances(other_cpu_fraction=0.10, steal_fraction=0.02)
    assert _judge(_STEADY, limits).verdict is Verdict.OK


def test_a_wide_interval_is_unstable() -> None:
    judgement = _judge([1.0, 1.1] * 4)
    assert judgement.verdict is Verdict.UNSTABLE
    assert judgement.evidence == ("the interval is +-4.8%, asked was +-1.0%",)
    asked = Precision(relative_half_width=0.05)
    assert _judge([1.0, 1.1] * 4, precision=asked).verdict is Verdict.OK


def _judge_shift(first_s: float, last_s: float, noise_s: float) -> statistics.Judgement:
    """Judge twelve windows whose thirds differ, by the statistics of a steady sample."""
    found = _summary([1.0 - noise_s, 1.0 + noise_s] * 6)
    windows = _windows([first_s] * 4 + [1.0] * 4 + [last_s] * 4)
    asked = Precision(relative_half_width=0.5)
    return statistics.judge(found, asked, windows, Circumstances())


def test_a_level_that_moves_has_drifted() -> None:
    judgement = _judge_shift(1.0, 1.04, 0.001)
    assert judgement.verdict is Verdict.DRIFTED
    assert judgement.evidence == ("the last third of the windows is +4.0% off the first",)
    assert _judge_shift(1.03, 1.0, 0.001).evidence[0].count("-3.0%") == 1


def test_a_shift_within_the_limit_or_the_spread_is_no_drift() -> None:
    assert _judge_shift(1.0, 1.019, 0.001).verdict is Verdict.OK
    # 4 % between the thirds' medians, but one window of the last lies inside the first.
    found = _summary([0.99, 1.01] * 6)
    windows = _windows([0.99, 1.0, 1.0, 1.03, *[1.0] * 4, 1.02, 1.04, 1.04, 1.05])
    asked = Precision(relative_half_width=0.5)
    assert statistics.judge(found, asked, windows, Circumstances()).verdict is Verdict.OK


def test_contention_explains_what_else_is_wrong() -> None:
    judgement = _judge([1.0, 1.1] * 4, Circumstances(steal_fraction=0.5))
    assert judgement.verdict is Verdict.CONTENDED
    assert len(judgement.evidence) == 2
    assert judgement.evidence[1].startswith("the interval is")


def test_precision_is_reached_at_the_asked_width() -> None:
    found = _summary([0.99, 1.01] * 3)
    assert statistics.is_precise(found, Precision(relative_half_width=0.0101))
    assert not statistics.is_precise(found, Precision(relative_half_width=0.0099))
