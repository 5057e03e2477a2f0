from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.latency_models.predictors.networks import BLOCKS, MACS, block, draw, features

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.base import (
    BlockFeatures,
    BlockIndex,
    Prediction,
    UnknownBlockError,
    check_times,
    relative_weights,
)
from boardfront.latency_models.predictors.intervals import (
    around,
    conformal_quantile,
    student_quantile,
)
from boardfront.protos.errors import WrongInputError

STRANGER = BlockKey(kind="z", in_channels=1, out_channels=1, stride=1, resolution=1)


def test_counts_by_hand() -> None:
    network = Decomposition(
        blocks=(BLOCKS[0], block("a", 16), block("c", 32), block("a", 16), BLOCKS[-1])
    )
    counts = BlockIndex(BLOCKS).counts([network, network])
    assert counts.shape == (2, len(BLOCKS))
    assert counts[1].tolist() == [1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1]


def test_index_of_networks_holds_each_block_once() -> None:
    networks = draw(np.random.default_rng(0), 30)
    assert BlockIndex.of(networks).blocks == tuple(sorted(BLOCKS))
    assert BlockIndex.of(networks).counts([]).shape == (0, len(BLOCKS))


def test_many_networks_are_counted_as_each_alone() -> None:
    networks = draw(np.random.default_rng(1), 4100)  # more than are done at a time
    # Equal blocks that are objects of their own count as the same.
    networks[4099] = Decomposition(
        blocks=tuple(BlockKey.parse(b.text) for b in networks[0].blocks)
    )
    counts = BlockIndex(BLOCKS).counts(networks)
    assert counts[4099].tolist() == counts[0].tolist()
    for row in (0, 1, 4095, 4096, 4099):
        expected = networks[row].counts
        assert counts[row].tolist() == [expected.get(each, 0) for each in BLOCKS]


def test_unknown_and_repeated_blocks_are_refused() -> None:
    network = Decomposition(blocks=(BLOCKS[0], STRANGER, STRANGER))
    with pytest.raises(UnknownBlockError, match="1 unknown ones, the first 'z 1->1 /1 @1'"):
        BlockIndex(BLOCKS).counts([network])
    _, unknown = BlockIndex(BLOCKS).split([network])
    assert unknown == {0: {STRANGER: 2}}
    with pytest.raises(WrongInputError, match="each block once"):
        BlockIndex([STRANGER, STRANGER])


def test_features_are_sums_over_blocks() -> None:
    network = Decomposition(blocks=(BLOCKS[0], block("b", 16), block("b", 16), BLOCKS[-1]))
    found = features().sums([network])
    assert found[0, 0] == pytest.approx(MACS[0] + 2 * MACS[2] + MACS[-1])
    assert features().names == ("macs", "activations")


@pytest.mark.parametrize("values", [np.ones((2, 1)), np.full((len(BLOCKS), 1), np.nan)])
def test_features_of_a_wrong_shape_are_refused(values: np.ndarray) -> None:
    with pytest.raises(WrongInputError, match="expected finite features of shape"):
        BlockFeatures(BLOCKS, values, ("macs",))


def test_a_prediction_stands_inside_its_interval() -> None:
    one = np.ones(1)
    assert len(Prediction(median_s=one, low_s=one, high_s=one)) == 1
    with pytest.raises(WrongInputError, match="beside its median"):
        Prediction(median_s=one, low_s=2 * one, high_s=3 * one)
    with pytest.raises(WrongInputError, match="beside its median"):
        Prediction(median_s=one * np.nan, low_s=one, high_s=one)
    with pytest.raises(WrongInputError, match="one length"):
        Prediction(median_s=one, low_s=np.ones(2), high_s=one)


@pytest.mark.parametrize(
    ("times", "weights", "match"),
    [
        ([1.0], None, "each of 2 networks"),
        ([1.0, 0.0], None, "times above 0"),
        ([1.0, float("nan")], None, "above 0"),
        ([1.0, 2.0], [1.0, 0.0], "weights above 0"),
        ([1.0, 2.0], None, "at least 3 measured networks for it"),
    ],
)
def test_times_that_do_not_fit_are_refused(
    times: list[float], weights: list[float] | None, match: str
) -> None:
    needed = 3 if "at least" in match else 1
    with pytest.raises(WrongInputError, match=match):
        check_times(2, times, weights, at_least=needed, name="it")


def test_weights_are_relative_down_to_a_tenth_of_the_median() -> None:
    # The median is 2: 0.01 counts as 0.2.
    found = relative_weights(np.array([0.01, 2.0, 4.0]))
    assert found == pytest.approx([25, 0.25, 1 / 16])


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 29, 120, 999])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_student_agrees_with_scipy(freedom: int, confidence: float) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert student_quantile(freedom, confidence) == pytest.approx(expected, rel=1e-9)


def test_student_goes_over_into_the_normal() -> None:
    assert student_quantile(1e9) == pytest.approx(1.959964, rel=1e-6)
    assert student_quantile(0.3) == student_quantile(1)


def test_conformal_quantile_by_hand() -> None:
    # 19 scores: ceil(20 * 0.95) = 19, the largest; 39: ceil(38) = 38, the second largest.
    assert conformal_quantile(np.arange(1.0, 20.0)) == 19
    assert conformal_quantile(np.arange(1.0, 40.0)) == 38


def test_few_scores_are_stretched() -> None:
    scores = np.array([1.0, 1.0, 1.0, 1.0])
    # No finite quantile of 4 scores has 95 %: t(4) = 2.776 by sqrt(1 * 5/4).
    assert conformal_quantile(scores) == pytest.approx(2.776445 * np.sqrt(1.25), rel=1e-6)


def test_no_time_is_below_zero() -> None:
    found = around(np.array([-1.0, 1.0]), np.array([0.5, 2.0]))
    assert found.median_s.tolist() == [0, 1]
    assert found.low_s.tolist() == [0, 0]
    assert found.high_s.tolist() == [0, 3]
