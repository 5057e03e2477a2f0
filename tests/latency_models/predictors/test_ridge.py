from __future__ import annotations

import numpy as np
import pytest
from tests.latency_models.predictors.networks import BLOCKS, block, draw, noisy, sums_s

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.base import BlockIndex, LatencyModel, NotFittedError
from boardfront.latency_models.predictors.ridge import Criterion, RidgeModel, fit_ridge
from boardfront.protos.errors import WrongInputError


@pytest.mark.parametrize("columns", [4, 30])
def test_leave_one_out_errors_are_those_of_fitting_without_the_row(columns: int) -> None:
    rng = np.random.default_rng(0)
    design = rng.normal(size=(12, columns))
    targets = design[:, 0] + 0.5 * rng.normal(size=12)
    weights = rng.uniform(0.5, 2, size=12)
    fit = fit_ridge(design, targets, weights)
    for row in range(12):
        rest = np.arange(12) != row
        # The same penalty, without the row, by the normal equations.
        mean_x = weights[rest] @ design[rest] / weights[rest].sum()
        mean_y = weights[rest] @ targets[rest] / weights[rest].sum()
        x, y = design[rest] - mean_x, targets[rest] - mean_y
        gram = x.T @ (weights[rest, None] * x) + fit.penalty * np.eye(columns)
        slopes = np.linalg.solve(gram, x.T @ (weights[rest] * y))
        expected = targets[row] - mean_y - (design[row] - mean_x) @ slopes
        assert fit.left_out[row] == pytest.approx(expected)


def test_the_variance_is_that_of_the_normal_equations() -> None:
    rng = np.random.default_rng(1)
    design, targets, weights = rng.normal(size=(9, 3)), rng.normal(size=9), np.ones(9)
    fit = fit_ridge(design, targets, weights)
    x = design - design.mean(0)
    inverse = np.linalg.inv(x.T @ x + fit.penalty * np.eye(3))
    fresh = rng.normal(size=(4, 3))
    away = fresh - design.mean(0)
    expected = fit.noise * (np.einsum("ij,jk,ik->i", away, inverse, away) + 1 / 9)
    assert fit.variances(fresh) == pytest.approx(expected)


def test_more_columns_than_rows_are_no_difficulty() -> None:
    rng = np.random.default_rng(2)
    fit = fit_ridge(rng.normal(size=(6, 40)), rng.normal(size=6), np.ones(6))
    assert np.isfinite(fit.coefficients).all()
    assert (fit.variances(rng.normal(size=(3, 40))) > 0).all()
    # Every row can be fitted exactly, but noise left out is not predicted.
    assert np.abs(fit.left_out).max() > 0.3


def test_a_design_without_differences_gives_the_mean() -> None:
    fit = fit_ridge(np.ones((5, 3)), np.arange(5.0), np.ones(5))
    assert fit.predict(np.ones((2, 3))) == pytest.approx([2, 2])
    assert np.isfinite(fit.variances(np.zeros((1, 3)))).all()


@pytest.mark.parametrize("criterion", list(Criterion))
def test_signal_is_kept_and_noise_is_held_small(criterion: Criterion) -> None:
    shrunk = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        design, truth = rng.normal(size=(30, 10)), rng.normal(size=10)
        signal = fit_ridge(design, design @ truth, np.ones(30), criterion)
        assert signal.coefficients == pytest.approx(truth, rel=1e-3, abs=1e-3)
        targets = rng.normal(size=30)
        noise = fit_ridge(design, targets, np.ones(30), criterion)
        centred = design - design.mean(0)
        free = np.linalg.lstsq(centred, targets - targets.mean(), rcond=None)[0]
        shrunk.append(np.linalg.norm(noise.coefficients) / np.linalg.norm(free))
    # Half of the draws or more are held at less than half of the least-squares length.
    assert np.median(shrunk) < 0.5


def test_it_learns_what_blocks_take() -> None:
    rng = np.random.default_rng(4)
    known, fresh = draw(rng, 120), draw(rng, 200)
    model = RidgeModel()
    assert isinstance(model, LatencyModel)
    model.fit(known, noisy(rng, sums_s(known), 0.01))
    found, truth = model.predict(fresh), sums_s(fresh)
    assert np.abs(found.median_s / truth - 1).mean() < 0.01
    assert model.times_s[block("c", 16)] > 2 * model.times_s[block("a", 16)]


@pytest.mark.parametrize("networks", [15, 60])
def test_intervals_cover_as_promised(networks: int) -> None:
    covered = []
    for seed in range(40):
        rng = np.random.default_rng([seed, networks])
        known, fresh = draw(rng, networks), draw(rng, 50)
        model = RidgeModel(BLOCKS)
        model.fit(known, noisy(rng, sums_s(known), 0.03))
        truth, found = noisy(rng, sums_s(fresh), 0.03), model.predict(fresh)
        covered.append(((found.low_s <= truth) & (truth <= found.high_s)).mean())
    assert 0.92 < np.mean(covered) < 0.995


def test_a_block_never_seen_widens_the_interval() -> None:
    rng = np.random.default_rng(5)
    known = draw(rng, 40)
    stranger = BlockKey(kind="z", in_channels=1, out_channels=1, stride=1, resolution=1)
    strange = Decomposition(blocks=(*known[0].blocks, stranger, stranger))
    for blocks in (None, (*BLOCKS, stranger)):
        model = RidgeModel(blocks)
        model.fit(known, noisy(rng, sums_s(known), 0.01))
        found = model.predict([known[0], strange])
        assert found.median_s[1] == pytest.approx(found.median_s[0])
        width = found.high_s - found.low_s
        assert width[1] > 1.5 * width[0]


def test_counts_are_the_same_as_networks() -> None:
    rng = np.random.default_rng(6)
    known = draw(rng, 40)
    model = RidgeModel()
    model.fit(known, sums_s(known), np.ones(40))
    counts = BlockIndex(model.blocks).counts(known).astype(np.int16)
    assert model.predict_counts(counts).low_s == pytest.approx(model.predict(known).low_s)


def test_it_has_to_be_fitted_on_enough() -> None:
    known = draw(np.random.default_rng(7), 2)
    with pytest.raises(NotFittedError, match="got ridge on block counts as it was made"):
        RidgeModel().predict(known)
    with pytest.raises(NotFittedError):
        _ = RidgeModel().times_s
    with pytest.raises(WrongInputError, match="at least 3 measured networks"):
        RidgeModel().fit(known, [1.0, 2.0])
