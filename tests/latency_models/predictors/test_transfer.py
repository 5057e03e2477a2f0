from __future__ import annotations

import numpy as np
import pytest
from tests.latency_models.predictors.networks import (
    BLOCKS,
    MACS,
    TIMES_S,
    block_times,
    draw,
    features,
    noisy,
    sums_s,
)

from boardfront.latency_models.accuracy import spearman
from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.additive import AdditiveModel
from boardfront.latency_models.predictors.base import (
    LatencyModel,
    NotFittedError,
    UnknownBlockError,
)
from boardfront.latency_models.predictors.ridge import RidgeModel
from boardfront.latency_models.predictors.transfer import TransferModel
from boardfront.protos.errors import WrongInputError


def source() -> AdditiveModel:
    return AdditiveModel(block_times())


def test_a_board_that_is_only_slower_needs_three_measurements() -> None:
    rng = np.random.default_rng(0)
    known, fresh = draw(rng, 3), draw(rng, 100)
    model = TransferModel(source(), features(), BLOCKS)
    assert isinstance(model, LatencyModel)
    assert model.name == "transfer from additive"
    model.fit(known, 4 * sums_s(known))
    found = model.predict(fresh).median_s
    assert np.abs(found / (4 * sums_s(fresh)) - 1).mean() < 0.08


def test_a_board_that_is_unlike_is_learned_from_more() -> None:
    # Times go with the multiply-accumulates, which the source's do not.
    rng = np.random.default_rng(1)
    other_s = 1e-4 * MACS / MACS.mean() + 0.2 * TIMES_S[::-1]
    fresh = draw(rng, 200)
    truth = sums_s(fresh, other_s)
    errors = []
    for number in (5, 15, 60):
        known = draw(rng, number)
        model = TransferModel(source(), features(), BLOCKS)
        model.fit(known, noisy(rng, sums_s(known, other_s), 0.01))
        errors.append(np.abs(model.predict(fresh).median_s / truth - 1).mean())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_few_measurements_are_worth_more_with_a_source() -> None:
    alone: list[float | None] = []
    helped: list[float | None] = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        # A related board: each block off the source's by about 10 %.
        other_s = 2.5 * TIMES_S * np.exp(0.1 * rng.normal(size=len(TIMES_S)))
        known, fresh = draw(rng, 8), draw(rng, 100)
        times, truth = sums_s(known, other_s), sums_s(fresh, other_s)
        for model, kept in (
            (RidgeModel(BLOCKS), alone),
            (TransferModel(source(), features(), BLOCKS), helped),
        ):
            model.fit(known, times)
            kept.append(spearman(model.predict(fresh).median_s, truth))
    assert np.mean(np.array(helped, float)) > np.mean(np.array(alone, float)) + 0.02


@pytest.mark.parametrize("networks", [10, 30])
def test_intervals_cover_about_as_promised(networks: int) -> None:
    covered = []
    for seed in range(25):
        rng = np.random.default_rng([seed, networks])
        other_s = 2.5 * TIMES_S * np.exp(0.2 * rng.normal(size=len(TIMES_S)))
        known, fresh = draw(rng, networks), draw(rng, 50)
        model = TransferModel(source(), features(), BLOCKS)
        model.fit(known, noisy(rng, sums_s(known, other_s), 0.03))
        truth, found = noisy(rng, sums_s(fresh, other_s), 0.03), model.predict(fresh)
        covered.append(((found.low_s <= truth) & (truth <= found.high_s)).mean())
    assert 0.90 < np.mean(covered) <= 1


def test_terms_say_what_counts() -> None:
    rng = np.random.default_rng(2)
    known = draw(rng, 40)
    model = TransferModel(source(), features(), BLOCKS)
    model.fit(known, 3 * sums_s(known))
    shares = model.shares
    assert list(shares) == ["constant", "source", "macs", "activations", "blocks"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["source"] > shares["macs"]


def test_without_a_source_it_works_on_features_and_counts() -> None:
    rng = np.random.default_rng(3)
    known, fresh = draw(rng, 60), draw(rng, 50)
    model = TransferModel(None)
    assert model.name == "transfer"
    model.fit(known, sums_s(known), np.ones(60))
    found = model.predict(fresh)
    assert np.abs(found.median_s / sums_s(fresh) - 1).mean() < 0.01
    assert (found.low_s < found.high_s).all()
    assert list(model.shares) == ["constant", "blocks"]


def test_a_block_never_seen_widens_the_interval() -> None:
    rng = np.random.default_rng(4)
    known = draw(rng, 30)
    stranger = BlockKey(kind="z", in_channels=1, out_channels=1, stride=1, resolution=1)
    model = TransferModel(None)
    model.fit(known, sums_s(known))
    strange = Decomposition(blocks=(*known[0].blocks, stranger))
    found = model.predict([known[0], strange])
    assert found.median_s[0] == pytest.approx(found.median_s[1])
    assert found.high_s[1] - found.low_s[1] > 2 * (found.high_s[0] - found.low_s[0])


def test_it_has_to_be_fitted_on_enough() -> None:
    known = draw(np.random.default_rng(5), 2)
    with pytest.raises(NotFittedError, match="transfer from additive"):
        TransferModel(source()).predict(known)
    with pytest.raises(NotFittedError):
        _ = TransferModel(None).shares
    with pytest.raises(WrongInputError, match="at least 3 measured networks"):
        TransferModel(None).fit(known, [1.0, 2.0])


@pytest.mark.parametrize("number", [3, 12])
def test_it_is_a_table_of_blocks(number: int) -> None:
    rng = np.random.default_rng(5)
    known, fresh = draw(rng, number), draw(rng, 50)
    calibrated = source()
    calibrated.fit(fresh[:8], 1.2 * sums_s(fresh[:8]) + 1e-5)
    for other in (calibrated, _ridge(fresh), None):
        model = TransferModel(other, features(), BLOCKS)
        model.fit(known, noisy(rng, 3 * sums_s(known), 0.02))
        times = model.block_times(BLOCKS, known[0])
        sums = AdditiveModel(times).sums_s(fresh)
        assert sums == pytest.approx(model.predict(fresh).median_s, rel=1e-9)
        assert (times.low_s < times.times_s).all()
        assert times.fixed_half_s > 0


def test_blocks_that_a_network_lacks_are_no_table_of_it() -> None:
    rng = np.random.default_rng(6)
    known = draw(rng, 5)
    model = TransferModel(source(), features(), BLOCKS)
    with pytest.raises(NotFittedError):
        model.block_times(BLOCKS, known[0])
    model.fit(known, sums_s(known))
    lacking = [block for block in BLOCKS if block != known[0].blocks[0]]
    with pytest.raises(UnknownBlockError):
        model.block_times(lacking, known[0])


def _ridge(networks: list[Decomposition]) -> RidgeModel:
    model = RidgeModel(BLOCKS)
    model.fit(networks, sums_s(networks))
    return model
