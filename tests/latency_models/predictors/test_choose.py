from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models.predictors.networks import (
    BLOCKS,
    TIMES_S,
    block_times,
    draw,
    features,
    noisy,
    sums_s,
)
from typing_extensions import override

from boardfront.latency_models.predictors.additive import AdditiveModel
from boardfront.latency_models.predictors.base import LatencyModel, NotFittedError, Prediction
from boardfront.latency_models.predictors.choose import (
    Candidate,
    Parting,
    choose,
    usual_candidates,
)
from boardfront.latency_models.predictors.conformal import CalibratedModel, split
from boardfront.latency_models.predictors.residual import Learner, ResidualModel
from boardfront.latency_models.predictors.ridge import RidgeModel
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import Decomposition
    from boardfront.latency_models.predictors.base import FloatArray

ADDITIVE = Candidate(name="additive", make=lambda: AdditiveModel(block_times()))
RIDGE = Candidate(name="ridge", make=lambda: RidgeModel(BLOCKS))
WRONG_TABLE = Candidate(
    name="wrong table", make=lambda: AdditiveModel(block_times(TIMES_S[::-1].copy()))
)


class Overconfident:
    """The mean of what was seen, with an interval ten times too narrow."""

    name = "overconfident"

    def __init__(self) -> None:
        self._middle_s = 0.0
        self._half_s = 0.0

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        del decompositions, weights
        times: FloatArray = np.asarray(times_s, float)
        self._middle_s, self._half_s = float(times.mean()), 0.196 * float(times.std())

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        middle = np.full(len(decompositions), self._middle_s)
        return Prediction(
            median_s=middle, low_s=middle - self._half_s, high_s=middle + self._half_s
        )


def test_the_true_table_beats_a_wrong_one_and_few_networks() -> None:
    rng = np.random.default_rng(0)
    known = draw(rng, 15)
    found = choose([WRONG_TABLE, RIDGE, ADDITIVE], known, noisy(rng, sums_s(known), 0.01))
    assert found.name == found.best == "additive"
    assert [score.name for score in found.scores] == ["wrong table", "ridge", "additive"]
    by_name = {score.name: score.mape for score in found.scores}
    assert by_name["additive"] is not None
    assert 0.002 < by_name["additive"] < 0.02
    assert found.model.predict(known).median_s == pytest.approx(sums_s(known), rel=0.05)


def test_many_networks_beat_a_wrong_table() -> None:
    rng = np.random.default_rng(1)
    known = draw(rng, 100)
    found = choose([WRONG_TABLE, RIDGE], known, noisy(rng, sums_s(known), 0.01))
    assert found.name == "ridge"


def test_the_simpler_of_two_as_good_is_taken() -> None:
    rng = np.random.default_rng(2)
    known = draw(rng, 60)
    times = noisy(rng, sums_s(known), 0.03)
    complex_one = Candidate(
        name="boosted",
        make=lambda: ResidualModel(AdditiveModel(block_times()), features(), Learner.RIDGE),
    )
    for order in ([ADDITIVE, complex_one, RIDGE], [complex_one, ADDITIVE, RIDGE]):
        found = choose(order, known, times, Parting(repeats=1))
        assert found.name == order[0].name
        scores = {score.name: score for score in found.scores}
        best, chosen = scores[found.best], scores[found.name]
        assert best.mape is not None
        assert best.standard_error is not None
        assert chosen.mape is not None
        assert chosen.mape <= best.mape + best.standard_error


def test_the_choice_can_be_printed() -> None:
    rng = np.random.default_rng(3)
    known = draw(rng, 6)
    too_few = Candidate(
        name="residual", make=lambda: ResidualModel(AdditiveModel(block_times()), features())
    )
    found = choose([ADDITIVE, too_few], known, sums_s(known), Parting(folds=2, repeats=1))
    assert found.lines[0] == ("mean error on networks left out (6 networks, 2 folds, 1 times):")
    assert found.lines[1].startswith("  additive: 0.")
    assert found.lines[2].startswith("  residual: left out (expected at least 5 measured networks")
    assert found.lines[3] == (
        "chosen: additive (least error; rule: the simplest within one standard error of the best)"
    )


def test_the_same_seed_gives_the_same_choice() -> None:
    rng = np.random.default_rng(4)
    known = draw(rng, 20)
    times = noisy(rng, sums_s(known), 0.02)
    first, second = (choose([ADDITIVE, RIDGE], known, times, Parting(seed=7)) for _ in range(2))
    assert first.scores == second.scores
    assert first.model.factor == second.model.factor
    assert first.scores != choose([ADDITIVE, RIDGE], known, times, Parting(seed=8)).scores


def test_the_usual_candidates_are_all_tried() -> None:
    rng = np.random.default_rng(10)
    known = draw(rng, 16)
    usual = usual_candidates(block_times(), features(), blocks=BLOCKS)
    assert [candidate.name for candidate in usual] == [
        candidate.make().name for candidate in usual
    ]
    found = choose(usual, known, noisy(rng, sums_s(known), 0.02), Parting(folds=3, repeats=1))
    assert [score.name for score in found.scores] == [
        "additive",
        "ridge on block counts",
        "additive + ridge",
        "additive + gradient boosting",
        "additive + Gaussian process",
    ]
    assert all(score.failure == "" for score in found.scores)
    assert found.name == "additive"


def test_without_a_table_or_features_less_is_tried() -> None:
    assert [one.name for one in usual_candidates(None, features())] == ["ridge on block counts"]
    assert len(usual_candidates(block_times(), None)) == 2


def test_nothing_to_choose_from_is_refused() -> None:
    known = draw(np.random.default_rng(5), 6)
    times = sums_s(known)
    with pytest.raises(WrongInputError, match="expected candidates"):
        choose([], known, times)
    with pytest.raises(WrongInputError, match="at least 5 measured networks"):
        choose([ADDITIVE], known[:4], times[:4])
    none_fits = Candidate(
        name="residual", make=lambda: ResidualModel(AdditiveModel(block_times()), features())
    )
    with pytest.raises(WrongInputError, match="got none: residual: expected at least 5"):
        choose([none_fits], known, times, Parting(folds=2))


def test_what_was_seen_is_learned_from_and_judges_nothing() -> None:
    rng = np.random.default_rng(7)
    known = draw(rng, 40)
    times = noisy(rng, sums_s(known), 0.05)
    seen = {network.blocks: time_s for network, time_s in zip(known[:20], times[:20], strict=True)}

    class Recalling(AdditiveModel):
        """Made from some of the networks: knows their times by heart."""

        @override
        def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
            found = super().predict(decompositions)
            exact = [seen.get(one.blocks, 0.0) for one in decompositions]
            median_s = np.where(np.array(exact) > 0, exact, found.median_s)
            half_s = (found.high_s - found.low_s) / 2
            return Prediction(median_s=median_s, low_s=median_s - half_s, high_s=median_s + half_s)

    recalling = Candidate(name="recalling", make=lambda: Recalling(block_times()))
    fresh = tuple(range(20, 40))
    flattered = choose([recalling], known, times)
    honest = choose([recalling], known, times, Parting(judged=fresh))
    (told,), (said,) = flattered.scores, honest.scores
    assert told.mape is not None
    assert said.mape is not None
    assert said.mape > 1.7 * told.mape
    assert (honest.networks, flattered.networks) == (20, 40)
    # Its intervals are those of networks that it has not seen either.
    assert honest.model.factor > flattered.model.factor
    with pytest.raises(WrongInputError, match="at least 5"):
        choose([recalling], known, times, Parting(judged=(1, 2, 3)))


def test_every_network_is_left_out_once() -> None:
    parts = list(split(11, 4, np.random.default_rng(6)))
    assert sorted(int(i) for _, part in parts for i in part) == list(range(11))
    assert all(not set(rest) & set(part) for rest, part in parts)
    assert len(list(split(3, 10, np.random.default_rng(6)))) == 3


@pytest.mark.parametrize("networks", [10, 25, 60])
def test_calibrated_intervals_cover_as_promised(networks: int) -> None:
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([seed, networks])
        known, fresh = draw(rng, networks), draw(rng, 50)
        model = CalibratedModel(Overconfident)
        model.fit(known, sums_s(known))
        truth, found = sums_s(fresh), model.predict(fresh)
        covered.append(((found.low_s <= truth) & (truth <= found.high_s)).mean())
        assert model.factor > 5
    # 60 draws; the coverage of one draw of 25 varies by some 5 %, so the mean by less than 1 %.
    assert 0.93 < np.mean(covered) < 0.995


def test_an_honest_model_is_left_about_as_it_is() -> None:
    rng = np.random.default_rng(8)
    known = draw(rng, 60)
    model = CalibratedModel(lambda: AdditiveModel(block_times()))
    assert isinstance(model, LatencyModel)
    assert model.name == "additive"
    model.fit(known, noisy(rng, sums_s(known), 0.03))
    assert 0.7 < model.factor < 1.4
    assert isinstance(model.model, AdditiveModel)


def test_it_has_to_be_fitted_on_enough() -> None:
    known = draw(np.random.default_rng(9), 3)
    with pytest.raises(NotFittedError, match="additive"):
        CalibratedModel(ADDITIVE.make).predict(known)
    with pytest.raises(WrongInputError, match="at least 4 measured networks"):
        CalibratedModel(ADDITIVE.make).fit(known, sums_s(known))
