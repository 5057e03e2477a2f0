"""What samples say: against tables and closed forms, and each verdict with its evidence."""

from __future__ import annotations

import math
import random
import statistics as standard
from typing import TYPE_CHECKING

import pytest

from boardfront.protos import statistics
from boardfront.protos.intervals import is_look, median_interval, sample_autocorrelation
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


def _noise_windows(correlation: float, count: int, samples: int = 8) -> list[Window]:
    """Windows of normal noise of 1 % whose samples are correlated."""
    draw, state, made = random.Random(11), 0.0, []  # noqa: S311
    for i in range(count):
        values = []
        for _ in range(samples):
            shock = math.sqrt(1 - correlation**2) * draw.gauss(0.0, 1.0)
            state = correlation * state + shock
            values.append(1.0 + 0.01 * state)
        made.append(Window(start_s=float(i), loops=1, samples_s=tuple(values)))
    return made


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
    windows = [Window(start_s=float(i), loops=1, samples_s=(0.99, 1.0, 1.01)) for i in range(7)]
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


def test_many_windows_are_merged_into_few() -> None:
    windows = _noise_windows(0.0, 48)
    for count, merged in ((23, 1), (24, 2), (46, 2), (47, 4), (48, 4)):
        found = statistics.summarize(windows[:count], final=True)
        assert found is not None
        assert (found.merged, found.windows, found.samples) == (merged, count, 8 * count)


def test_a_merged_windows_value_is_the_median_of_all_its_samples() -> None:
    # Pairs (1 2 9), (3 4 5): 3.5, not the mean or median of 2 and 4. The last is without partner.
    windows = [
        Window(start_s=float(i), loops=1, samples_s=(3.0, 4.0, 5.0) if i % 2 else (1.0, 2.0, 9.0))
        for i in range(25)
    ]
    found = statistics.summarize(windows)
    assert found is not None
    assert found.merged == 2
    assert (found.low_s, found.median_s, found.high_s) == (3.5, 3.5, 3.5)


def test_correlation_widens_the_interval() -> None:
    # 22 windows, ranks 6 and 17 if independent. Blocks of windows at two levels: ranks go out.
    quiet = [1.0 + i / 1000 for i in range(22)]
    random.Random(3).shuffle(quiet)  # noqa: S311
    slow = sorted(quiet[:11]) + sorted(quiet[11:], reverse=True)
    found = statistics.summarize(_windows(slow), final=True)
    assert found is not None
    assert found.autocorrelation is not None
    assert found.autocorrelation > 0.35
    assert found.relative_half_width > 1.5 * _summary(quiet).relative_half_width


def test_a_plain_trend_gives_no_interval_of_too_few() -> None:
    # Six windows on a line: the extremes hold the median of independent values only.
    assert statistics.autocorrelation([1, 2, 3, 4, 5, 6]) == pytest.approx(0.5)
    assert statistics.summarize(_windows([1, 2, 3, 4, 5, 6])) is None


def test_a_finished_measurement_on_a_moving_level_keeps_its_interval_and_says_so() -> None:
    medians = [1.0 + 0.005 * i for i in range(40)]
    windows = _windows(medians)
    assert statistics.summarize(windows) is None
    found = statistics.summarize(windows, final=True)
    assert found is not None
    assert found.merged == 2
    assert (found.low_s, found.high_s) == pytest.approx((1.0025, 1.1925))
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


def test_how_sums_are_rounded_is_no_correlation() -> None:
    now_s, windows = 0.0, []
    for start in range(0, 3_200, 100):
        samples = []
        for _ in range(start, start + 100):
            samples.append((now_s + 0.002) - now_s)
            now_s += 0.002
        windows.append(Window(start_s=now_s, loops=1, samples_s=tuple(samples)))
    medians = [standard.median(window.samples_s) for window in windows]
    assert len(set(medians)) > 1
    found = statistics.summarize(windows)
    assert found is not None
    assert found.low_s <= 0.002 <= found.high_s
    assert found.relative_half_width < 1e-9


def test_uncorrelated_windows_are_left_alone() -> None:
    assert _summary([1.0, 1.1] * 5).merged == 1


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_the_correlation_of_samples_is_found(correlation: float) -> None:
    # 200 windows of 50: 9,800 pairs, a standard error of agreement of 0.01 at independence and,
    # for the correlation in the samples themselves, some three times that at 0.9.
    kept = [window.samples_s for window in _noise_windows(correlation, 200, 50)]
    middle = standard.median(sample for samples in kept for sample in samples)
    found = sample_autocorrelation(kept, middle)
    assert found == pytest.approx(correlation, abs=0.05)
    wild = [(9.0, *samples[1:]) if i % 10 == 0 else samples for i, samples in enumerate(kept)]
    assert sample_autocorrelation(wild, middle) == pytest.approx(correlation, abs=0.05)


@pytest.mark.parametrize(
    ("inflation", "interval"),
    [(0.5, (6.0, 17.0)), (1.0, (6.0, 17.0)), (2.0, (4.0, 19.0)), (100.0, None)],
)
def test_inflation_moves_the_ranks_outwards(
    inflation: float, interval: tuple[float, float] | None
) -> None:
    # 22 values: rank 6 holds 98.31 %, rank 7 94.75 %, so 95 % is 4.57 from the middle 11.5; with
    # an inflation of 2, 4.57 * sqrt 2 * (1 + 1/22) = 6.75 or rank 4.
    values = [float(value) for value in range(1, 23)]
    assert median_interval(values, inflation=inflation) == interval


def test_looks_are_few() -> None:
    looks = [n for n in range(200) if is_look(n)]
    assert looks == [8, 11, 16, 22, 32, 44, 64, 88, 128, 176]
    assert [n for n in range(50) if is_look(n, 12)] == [16, 22, 32, 44]


def test_windows_with_levels_of_their_own_are_not_taken_for_correlated() -> None:
    # Samples inside a window agree fully, but neighbouring windows do not.
    draw = random.Random(5)  # noqa: S311
    found = _summary([1.0 + 0.01 * draw.gauss(0.0, 1.0) for _ in range(22)])
    assert found.merged == 1
    assert found.autocorrelation is not None
    assert found.autocorrelation < 0.2
    assert found.relative_half_width < 0.015


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
    """Judge 24 windows that alternate about a level that differs from third to third."""
    levels = [first_s] * 8 + [1.0] * 8 + [last_s] * 8
    windows = _windows([level + (noise_s, -noise_s)[i % 2] for i, level in enumerate(levels)])
    found = statistics.summarize(windows, final=True)
    assert found is not None
    asked = Precision(relative_half_width=0.5)
    return statistics.judge(found, asked, windows, Circumstances())


def test_a_level_that_moves_has_drifted() -> None:
    judgement = _judge_shift(1.0, 1.04, 0.001)
    assert judgement.verdict is Verdict.DRIFTED
    assert judgement.evidence[0] == "the last third of the windows is +4.0% off the first"
    assert _judge_shift(1.03, 1.0, 0.001).evidence[0].count("-3.0%") == 1


def test_a_shift_within_the_limit_or_the_spread_is_no_drift() -> None:
    assert _judge_shift(1.0, 1.019, 0.001).verdict is not Verdict.DRIFTED
    assert _judge_shift(1.0, 1.021, 0.0001).verdict is Verdict.DRIFTED
    # 4 % between the thirds' medians, but one window of the last lies inside the first.
    values = [0.99, 1.0, 1.0, 1.03, *[1.0] * 4, 1.02, 1.04, 1.04, 1.05]
    assert statistics.find_drift(values, 1.0) == []
    values[3] = 1.0
    assert [verdict for verdict, _ in statistics.find_drift(values, 1.0)] == [Verdict.DRIFTED]


def test_fewer_than_twelve_windows_show_no_drift() -> None:
    assert statistics.find_drift([1.0] * 4 + [2.0] * 7, 1.0) == []


@pytest.mark.parametrize(
    ("circumstances", "said"),
    [
        (Circumstances(throttle_events=3), "the hardware throttled itself 3 times"),
        (Circumstances(cooling_state_max=2), "a cooling device went to state 2"),
        (
            Circumstances(
                governor="performance", frequency_before_hz=2.4e9, frequency_min_hz=2.1e9
            ),
            "the clock fell from 2400 to 2100 MHz under the governor performance (limit 90%)",
        ),
    ],
)
def test_a_device_that_held_itself_back_is_throttled(
    circumstances: Circumstances, said: str
) -> None:
    judgement = _judge(_STEADY, circumstances)
    assert judgement.verdict is Verdict.THROTTLED
    assert judgement.evidence == (said,)


@pytest.mark.parametrize(
    "circumstances",
    [
        Circumstances(throttle_events=0, cooling_state_max=0),
        # A governor that follows the load: a low clock says nothing.
        Circumstances(governor="schedutil", frequency_before_hz=2.4e9, frequency_min_hz=0.4e9),
        Circumstances(governor="powersave", frequency_before_hz=2.4e9, frequency_min_hz=0.4e9),
        Circumstances(governor="performance", frequency_before_hz=2.4e9, frequency_min_hz=2.17e9),
        Circumstances(governor="userspace", frequency_min_hz=0.4e9),
    ],
)
def test_what_does_not_show_throttling_is_none(circumstances: Circumstances) -> None:
    assert _judge(_STEADY, circumstances).verdict is Verdict.OK


def test_the_most_specific_explanation_comes_first() -> None:
    everything = Circumstances(throttle_events=1, other_cpu_fraction=0.5)
    judgement = _judge([1.0, 1.1] * 4, everything)
    assert judgement.verdict is Verdict.THROTTLED
    assert len(judgement.evidence) == 3
    assert judgement.evidence[1].startswith("other processes took 50%")
    assert judgement.evidence[2].startswith("the interval is")


def test_contention_explains_what_else_is_wrong() -> None:
    judgement = _judge([1.0, 1.1] * 4, Circumstances(steal_fraction=0.5))
    assert judgement.verdict is Verdict.CONTENDED
    assert len(judgement.evidence) == 2
    assert judgement.evidence[1].startswith("the interval is")


def test_precision_is_reached_at_the_asked_width() -> None:
    found = _summary([0.99, 1.01] * 3)
    assert statistics.is_precise(found, Precision(relative_half_width=0.0101))
    assert not statistics.is_precise(found, Precision(relative_half_width=0.0099))
