"""Ratios of alternated subjects: by hand, against their definition, and each verdict."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from boardfront.protos import normalisation
from boardfront.protos.records import Circumstances, Precision, Verdict, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.protos.normalisation import RatioStatistics
    from boardfront.protos.statistics import Judgement


def _windows(values: Sequence[Sequence[float]]) -> list[Window]:
    return [
        Window(start_s=float(i), loops=1, samples_s=tuple(samples))
        for i, samples in enumerate(values)
    ]


def _pair(
    levels: Sequence[float], ratio: float = 1.3, *, power: float = 1.0, noise: float = 0.005
) -> tuple[list[Window], list[Window]]:
    """A subject and a reference on the same levels, eight samples a window, seeded noise."""
    draw = random.Random(1)  # noqa: S311
    own = [
        [ratio * level**power * (1 + draw.gauss(0.0, noise)) for _ in range(8)] for level in levels
    ]
    other = [[level * (1 + draw.gauss(0.0, noise)) for _ in range(8)] for level in levels]
    return _windows(own), _windows(other)


def _normalise(own: list[Window], other: list[Window]) -> RatioStatistics:
    found = normalisation.normalise(own, other, final=True)
    assert found is not None
    return found


def _judge(
    own: list[Window],
    other: list[Window],
    circumstances: Circumstances | None = None,
    asked: float = 0.01,
) -> Judgement:
    return normalisation.judge_ratio(
        _normalise(own, other),
        Precision(relative_half_width=asked),
        own,
        other,
        circumstances or Circumstances(),
    )


_STEADY = [0.002] * 16
_WANDERING = [0.002 * (1 + 0.5 * math.sin(i / 4)) for i in range(16)]


def test_a_ratio_by_hand() -> None:
    # Medians 2 and 1, 2.1 and 1, in turn: ratios 2.0 and 2.1, whose median is 2.05.
    own = _windows([(1.9, 2.0, 9.0), (2.0, 2.1, 2.3)] * 4)
    other = _windows([(1.0, 0.5, 1.1)] * 8)
    found = _normalise(own, other)
    assert found.ratio == pytest.approx(2.05)
    assert (found.low, found.high) == pytest.approx((2.0, 2.1))
    assert (found.windows, found.merged, found.reference_median_s) == (8, 1, 1.0)
    assert found.relative_half_width == pytest.approx(0.05 / 2.05)


def test_a_level_that_wanders_leaves_the_ratio() -> None:
    found = _normalise(*_pair(_WANDERING))
    assert found.low <= 1.3 <= found.high
    assert found.relative_half_width < 0.005
    assert _judge(*_pair(_WANDERING)).verdict is Verdict.OK


def test_surplus_windows_of_either_are_left_out() -> None:
    own, other = _pair(_WANDERING)
    assert normalisation.normalise(own, other[:12]) == normalisation.normalise(own[:12], other)
    assert _normalise(own, other[:12]).windows == 12


def test_five_windows_give_no_ratio() -> None:
    own, other = _pair(_STEADY)
    assert normalisation.normalise(own[:5], other, final=True) is None
    assert normalisation.normalise([], [], final=True) is None


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_elasticity_is_the_power_of_the_level(power: float) -> None:
    # Noise of 0.5 % a sample, some 0.2 % a window, against a level that moves threefold.
    found = normalisation.elasticity(*_pair(_WANDERING, power=power))
    assert found == pytest.approx(power, abs=0.02)


def test_a_reference_that_is_noisy_too_hardly_flattens_the_elasticity() -> None:
    # A level that moves by 10 % between the percentiles, windows with 1 % of noise each: least
    # squares would find some 1 - (1 / 3.5)^2 = 0.92 of it.
    levels = [1 + 0.1 * (i % 2) + 0.01 * math.sin(i) for i in range(400)]
    found = normalisation.elasticity(*_pair(levels, noise=0.025))
    assert found == pytest.approx(1.0, abs=0.05)


def test_a_level_that_stands_still_tells_no_elasticity() -> None:
    assert normalisation.elasticity(*_pair(_STEADY)) is None
    assert normalisation.elasticity(*_pair([1.0, 1.04] * 8, noise=0.0)) is None
    assert normalisation.elasticity(*_pair([1.0, 1.06] * 8, noise=0.0)) == pytest.approx(1.0)
    assert normalisation.elasticity(*_pair([1.0, 2.0])) is None


@pytest.mark.parametrize(
    ("windows", "elapsed_s", "asked", "enough"),
    [
        (16, 2.0, 0.01, True),
        (16, 1.7, 0.01, False),
        (15, 2.0, 0.01, False),
        (16, 2.0, 0.0001, False),
        (7, 9.0, 0.01, False),
    ],
)
def test_the_stop_rule_of_a_ratio(
    *, windows: int, elapsed_s: float, asked: float, enough: bool
) -> None:
    ratio = _normalise(*_pair(_STEADY))
    precision = Precision(relative_half_width=asked)
    found = normalisation.ratio_is_enough(ratio, precision, windows=windows, elapsed_s=elapsed_s)
    assert found is enough
    assert not normalisation.ratio_is_enough(None, precision, windows=16, elapsed_s=9.0)


def test_a_wide_ratio_is_unstable() -> None:
    judgement = _judge(*_pair(_STEADY), asked=0.0001)
    assert judgement.verdict is Verdict.UNSTABLE
    assert judgement.evidence[0].endswith("asked was +-0.0%")


def test_a_ratio_that_moves_has_drifted() -> None:
    own, _ = _pair([0.002 * (1 + 0.005 * i) for i in range(24)])
    _, other = _pair([0.002] * 24)
    judgement = _judge(own, other, asked=0.2)
    assert judgement.verdict is Verdict.DRIFTED
    assert any("the ratio moves" in text for text in judgement.evidence)


def test_others_work_spoils_a_fine_ratio_and_spares_a_coarse_one() -> None:
    hog = Circumstances(other_cpu_fraction=0.5)
    fine = _judge(*_pair(_STEADY), hog, asked=0.029)
    assert fine.verdict is Verdict.CONTENDED
    assert fine.evidence == ("other processes took 50% of the cores' time (limit 10%)",)
    assert _judge(*_pair(_STEADY), hog, asked=0.03).verdict is Verdict.OK


def test_throttling_is_forgiven_where_both_followed_the_level() -> None:
    hot = Circumstances(throttle_events=2)
    assert _judge(*_pair(_WANDERING), hot).verdict is Verdict.OK
    assert _judge(*_pair(_WANDERING, power=0.5), hot).verdict is Verdict.THROTTLED
    # The level stood still, throttled or not: nothing says that the ratio did not change.
    assert _judge(*_pair(_STEADY), hot).verdict is Verdict.THROTTLED
    assert _judge(*_pair(_STEADY), hot, asked=0.03).verdict is Verdict.OK
