from __future__ import annotations

import numpy as np
import pytest
from tests.latency_models.predictors.networks import (
    BLOCKS,
    TIMES_S,
    block,
    block_times,
    draw,
    noisy,
    sums_s,
)

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.additive import AdditiveModel
from boardfront.latency_models.predictors.base import (
    BlockIndex,
    LatencyModel,
    Prediction,
    UnknownBlockError,
)
from boardfront.protos.errors import WrongInputError


def test_as_it_is_made_it_adds() -> None:
    networks = draw(np.random.default_rng(0), 20)
    model = AdditiveModel(block_times(fixed_s=5e-4))
    assert isinstance(model, LatencyModel)
    assert model.predict(networks).median_s == pytest.approx(sums_s(networks) + 5e-4)
    assert (model.slope, model.offset_s, model.networks) == (1, 0, 0)


def test_its_first_interval_is_that_of_the_entries() -> None:
    network = Decomposition(blocks=(BLOCKS[0], block("a", 16), block("a", 16)))
    found = AdditiveModel(block_times(half=0.1, fixed_s=2e-4)).predict([network])
    # Half-widths: stem 4e-5 once, a 1e-5 twice (the same entry, so its error doubles), fixed 2e-5.
    half_s = 1e-5 * np.sqrt(4**2 + 2**2 + 2**2)
    assert found.median_s[0] == pytest.approx(8e-4)
    assert found.high_s[0] - found.median_s[0] == pytest.approx(half_s)
    assert found.median_s[0] - found.low_s[0] == pytest.approx(half_s)


@pytest.mark.parametrize("networks", [2, 10, 60])
def test_a_line_is_found(networks: int) -> None:
    rng = np.random.default_rng(networks)
    known = draw(rng, networks)
    model = AdditiveModel(block_times())
    model.fit(known, 3e-4 + 1.2 * sums_s(known))
    fresh = draw(rng, 100)
    truth = 3e-4 + 1.2 * sums_s(fresh)
    found = model.predict(fresh)
    assert found.median_s == pytest.approx(truth, rel=0.04 if networks == 2 else 0.01)
    assert ((found.low_s <= truth) & (truth <= found.high_s)).mean() > 0.95
    assert model.networks == networks


def test_many_networks_give_the_line_of_least_squares() -> None:
    rng = np.random.default_rng(5)
    known = draw(rng, 400)
    sums, times = sums_s(known), noisy(rng, 1e-3 + 1.5 * sums_s(known), 0.02)
    model = AdditiveModel(block_times())
    model.fit(known, times, np.ones(400))
    slope, offset = np.polyfit(sums, times, 1)
    assert model.slope == pytest.approx(slope, rel=5e-3)
    assert model.offset_s == pytest.approx(offset, abs=3e-5)


def test_one_network_gives_a_factor() -> None:
    known = draw(np.random.default_rng(1), 1)
    model = AdditiveModel(block_times())
    model.fit(known, 1.3 * sums_s(known))
    assert model.slope == pytest.approx(1.3)
    assert model.offset_s == pytest.approx(0, abs=1e-12)


def test_networks_of_one_size_give_a_factor_too() -> None:
    network = Decomposition(blocks=(BLOCKS[0], block("a", 16), BLOCKS[-1]))
    model = AdditiveModel(block_times())
    model.fit([network] * 5, 1.1 * sums_s([network] * 5))
    assert model.slope == pytest.approx(1.1)


@pytest.mark.parametrize("calibrated_on", [4, 12, 40])
def test_intervals_cover_as_promised(calibrated_on: int) -> None:
    # Entries wrong by as much as they say, a level that is off, a noisy truth: 60 boards.
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([seed, calibrated_on])
        entries = TIMES_S * (1 + 0.10 / 1.96 * rng.normal(size=len(TIMES_S)))
        model = AdditiveModel(block_times(entries, half=0.10))
        known, fresh = draw(rng, calibrated_on), draw(rng, 50)
        model.fit(known, noisy(rng, 1.15 * sums_s(known), 0.02))
        truth, found = noisy(rng, 1.15 * sums_s(fresh), 0.02), model.predict(fresh)
        covered.append(((found.low_s <= truth) & (truth <= found.high_s)).mean())
    # 3000 networks on 60 boards: the standard error over boards is about 1 %.
    assert 0.92 < np.mean(covered) <= 1


def test_more_networks_make_the_interval_narrower_down_to_the_noise() -> None:
    rng = np.random.default_rng(2)
    fresh = draw(rng, 50)
    halves = []
    for number in (2, 8, 64):
        known = draw(rng, number)
        model = AdditiveModel(block_times())
        model.fit(known, noisy(rng, sums_s(known), 0.01))
        found = model.predict(fresh)
        halves.append(np.mean((found.high_s - found.low_s) / 2 / found.median_s))
    assert halves[0] > halves[1] > halves[2]
    assert 0.015 < halves[2] < 0.035  # 1.96 times 1 %, and what entries of 2 % add


def test_a_network_unlike_the_calibration_gets_a_wider_interval() -> None:
    rng = np.random.default_rng(3)
    known = draw(rng, 30)
    model = AdditiveModel(block_times(half=0.3))
    model.fit(known, noisy(rng, sums_s(known), 0.01))
    alike = known[0]
    other = Decomposition(blocks=(BLOCKS[0], *[block("c", 64)] * 12, BLOCKS[-1]))
    found = model.predict([alike, other])
    halves = (found.high_s - found.median_s) / found.median_s
    assert halves[1] > 2 * halves[0]


def test_counts_are_the_same_as_networks() -> None:
    rng = np.random.default_rng(4)
    networks = draw(rng, 5000)  # more than are done at a time
    model = AdditiveModel(block_times())
    model.fit(networks[:20], noisy(rng, sums_s(networks[:20]), 0.01))
    counts = BlockIndex(model.blocks).counts(networks)
    expected = model.predict(networks)
    for found in (model.predict_counts(counts.astype(np.int8)), model.predict_counts(counts)):
        assert found.median_s == pytest.approx(expected.median_s)
        assert found.low_s == pytest.approx(expected.low_s)
        assert found.high_s == pytest.approx(expected.high_s)
    assert len(model.predict([])) == 0


def test_unknown_blocks_are_interpolated_or_refused() -> None:
    stranger = BlockKey(kind="z", in_channels=1, out_channels=1, stride=1, resolution=1)
    network = Decomposition(blocks=(BLOCKS[0], stranger, stranger))
    with pytest.raises(UnknownBlockError, match="'z 1->1 /1 @1'"):
        AdditiveModel(block_times()).predict([network])

    def guess(blocks: object) -> Prediction:
        assert blocks == [stranger]
        return Prediction(
            median_s=np.array([1e-3]), low_s=np.array([5e-4]), high_s=np.array([1.5e-3])
        )

    model = AdditiveModel(block_times(half=0.0), guess)
    found = model.predict([network, Decomposition(blocks=(BLOCKS[0],))])
    assert found.median_s == pytest.approx([24e-4, 4e-4])
    assert found.high_s == pytest.approx([34e-4, 4e-4])


def test_fitting_on_nothing_takes_the_calibration_back() -> None:
    known = draw(np.random.default_rng(6), 3)
    model = AdditiveModel(block_times())
    model.fit(known, 2 * sums_s(known))
    model.fit([], [])
    assert model.predict(known).median_s == pytest.approx(sums_s(known))


def test_sums_of_nothing_cannot_be_calibrated() -> None:
    known = draw(np.random.default_rng(7), 3)
    model = AdditiveModel(block_times(np.zeros(len(BLOCKS))))
    with pytest.raises(WrongInputError, match="sum to more than 0"):
        model.fit(known, [1.0, 1.0, 1.0])
