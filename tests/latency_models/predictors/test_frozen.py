"""A model that stays: new networks say how wide its intervals are, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from tests.latency_models.predictors.networks import block_times, draw, noisy, sums_s

from boardfront.latency_models.predictors import AdditiveModel, FrozenModel, LatencyModel


def test_its_predictions_stay() -> None:
    rng = np.random.default_rng(0)
    known, fresh = draw(rng, 30), draw(rng, 20)
    model = FrozenModel(AdditiveModel(block_times()))
    assert isinstance(model, LatencyModel)
    before = model.predict(fresh)
    model.fit(known, 1.5 * sums_s(known))
    after = model.predict(fresh)
    assert after.median_s == pytest.approx(before.median_s)
    assert (after.high_s > before.high_s).all()
    # Fitted on nothing its own intervals hold again.
    model.fit([], [])
    assert (model.factor, model.name) == (1.0, "additive")
    assert model.predict(fresh).high_s == pytest.approx(before.high_s)


@pytest.mark.parametrize("networks", [8, 40])
def test_its_intervals_cover_as_promised(networks: int) -> None:
    covered = []
    for seed in range(40):
        rng = np.random.default_rng([seed, networks])
        known, fresh = draw(rng, networks), draw(rng, 50)
        model = FrozenModel(AdditiveModel(block_times()))
        model.fit(known, noisy(rng, sums_s(known), 0.05))
        truth, found = noisy(rng, sums_s(fresh), 0.05), model.predict(fresh)
        covered.append(((found.low_s <= truth) & (truth <= found.high_s)).mean())
    # Over 40 draws the mean of the coverage is known to about 1 %.
    assert 0.92 < np.mean(covered) < 0.995
