"""Predicted times are marked, kept with their intervals, and never made up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models.table_samples import KINDS, MEMBERS, block_s, chain_s

from boardfront.host.text import format_latency
from boardfront.latency_models import strict_json
from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors import AdditiveModel, BlockTimes, LatencyModel
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import (
    NO_DEVICE,
    Candidate,
    CandidateEvaluator,
    EvaluationFailure,
    Latency,
)
from boardfront.search.table_latency import Level, TableLatency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENCODINGS = [one.encoding for one in MEMBERS]
_CHAINS = {one.encoding: one.chain for one in MEMBERS}


class _Space:
    """The sample space, as a table needs it."""

    def decompose(self, encoding: str) -> Decomposition:
        return Decomposition(blocks=_CHAINS[encoding])


class _Model:
    """Counts how often it is asked."""

    def __init__(self, model: LatencyModel) -> None:
        self._model = model
        self.asked: list[int] = []

    @property
    def name(self) -> str:
        return self._model.name

    def fit(self, *_arguments: object) -> None:
        raise AssertionError("it is fitted already")

    def predict(self, decompositions: Sequence[Decomposition]) -> object:
        self.asked.append(len(decompositions))
        return self._model.predict(decompositions)


def _times(blocks: Sequence[BlockKey] = KINDS, *, factor: float = 1.0) -> BlockTimes:
    times_s = np.array([factor * block_s(block) for block in blocks])
    return BlockTimes(
        blocks=tuple(blocks),
        times_s=times_s,
        low_s=times_s - 0.1 * abs(times_s),
        high_s=times_s + 0.1 * abs(times_s),
        fixed_s=40e-6 * factor,
    )


def _source(times: BlockTimes) -> tuple[TableLatency, _Model]:
    model = _Model(AdditiveModel(times))
    return TableLatency(_Space(), model, times.blocks), model  # type: ignore[arg-type]


class _Estimator:
    state_id = "s"

    def validation_accuracy(self, encoding: str) -> float:
        return ENCODINGS.index(encoding) / 100


def test_a_prediction_keeps_its_interval_and_claims_no_measurement() -> None:
    source, _ = _source(_times())
    latency = source.latency("abab")
    assert isinstance(latency, Latency)
    # Nine digits are kept.
    assert latency.median_s == pytest.approx(chain_s(_CHAINS["abab"]), rel=1e-8)
    # 10 % of each block, independent of each other.
    spread_s = math.sqrt(sum((0.1 * block_s(block)) ** 2 for block in _CHAINS["abab"]))
    assert latency.high_s - latency.median_s == pytest.approx(spread_s, rel=1e-6)
    assert latency.median_s - latency.low_s == pytest.approx(spread_s, rel=1e-6)
    assert (latency.predicted, latency.verdict, latency.measurement_id) == (True, None, None)
    assert format_latency(latency).endswith("(predicted)")
    with pytest.raises(ValueError, match="got a predicted one"):
        _ = latency.measured_verdict


def test_the_levels_interval_widens_the_predicted_one() -> None:
    times = _times()
    plain = _source(times)[0].latency("abab")
    source = TableLatency(
        _Space(),  # type: ignore[arg-type]
        AdditiveModel(times),
        times.blocks,
        level=Level(below=0.03, above=0.07),
    )
    wide = source.latency("abab")
    assert isinstance(plain, Latency)
    assert isinstance(wide, Latency)
    assert wide.median_s == plain.median_s
    # Both are off independently of each other: their squares add.
    time_s, spread_s = plain.median_s, plain.high_s - plain.median_s
    assert wide.high_s - time_s == pytest.approx(math.hypot(spread_s, 0.07 * time_s), rel=1e-6)
    assert time_s - wide.low_s == pytest.approx(math.hypot(spread_s, 0.03 * time_s), rel=1e-6)


def test_a_predicted_time_is_never_below_nothing() -> None:
    times = _times()
    source = TableLatency(
        _Space(),  # type: ignore[arg-type]
        AdditiveModel(times),
        times.blocks,
        level=Level(below=1.5),
    )
    latency = source.latency("abab")
    assert isinstance(latency, Latency)
    assert latency.low_s == 0


def test_verdict_and_mark_cannot_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="none of a predicted one"):
        Latency(median_s=1.0, low_s=1.0, high_s=1.0, verdict=Verdict.OK, predicted=True)
    with pytest.raises(ValueError, match="a verdict of a measured time"):
        Latency(median_s=1.0, low_s=1.0, high_s=1.0)


def test_it_comes_back_from_a_journal_and_so_do_times_of_before() -> None:
    source, _ = _source(_times())
    latency = source.latency("aaaa")
    assert strict_json.decode(Latency, strict_json.encode(latency)) == latency
    # As journals had it before there were predictions.
    old = {"median_s": 1.0, "low_s": 0.9, "high_s": 1.1, "verdict": "ok", "measurement_id": 7}
    assert strict_json.decode(Latency, old) == Latency(
        median_s=1.0, low_s=0.9, high_s=1.1, verdict=Verdict.OK, measurement_id=7
    )


def test_what_is_not_covered_is_a_failure_with_its_reason() -> None:
    known = [block for block in KINDS if block.kind != "b"]
    source, model = _source(_times(known))
    answers = source.predict(["aaaa", "abab", "aaaa"])
    assert isinstance(answers[0], Latency)
    assert answers[0] == answers[2]
    failure = answers[1]
    assert isinstance(failure, EvaluationFailure)
    assert failure.message == (
        "the table has no block 'b 16->16 /1 @8' (2 of the network's 6 blocks are not in it)"
    )
    assert failure.kind is None
    assert model.asked == [2]


def test_no_time_above_zero_is_no_time() -> None:
    source, _ = _source(_times(factor=-1.0))
    failure = source.latency("aaaa")
    assert isinstance(failure, EvaluationFailure)
    assert "no time above 0" in failure.message


def test_a_generation_is_predicted_at_one_go_and_in_order() -> None:
    source, model = _source(_times())
    evaluator = CandidateEvaluator(_Estimator(), {"pi": source}, {})
    places: list[int] = []
    found = list(evaluator.evaluate_all(ENCODINGS, lambda place, _: places.append(place)))
    assert model.asked == [len(ENCODINGS)]
    assert [one.encoding for one in found] == ENCODINGS
    assert places == list(range(len(ENCODINGS)))
    assert [one.accuracy for one in found] == [i / 100 for i in range(len(ENCODINGS))]
    assert not evaluator.has_corrections
    # Alone or together: the same numbers, to the last digit.
    for one in found:
        assert one == evaluator.evaluate(one.encoding)


def test_known_candidates_are_not_predicted_again() -> None:
    source, model = _source(_times())
    first = list(CandidateEvaluator(_Estimator(), {"pi": source}, {}).evaluate_all(ENCODINGS[:3]))
    known: dict[str, Candidate] = {one.encoding: one for one in first}
    model.asked.clear()
    rest = CandidateEvaluator(_Estimator(), {"pi": source}, known).evaluate_all(ENCODINGS[:5])
    assert [one.encoding for one in rest] == ENCODINGS[:5]
    assert model.asked == [2]


class _Device:
    """A LatencySource that is asked one by one, or ahead."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.corrections: Mapping[str, Latency] = {}

    def latency(self, encoding: str) -> Latency:
        time_s = 1.0 + ENCODINGS.index(encoding)
        return Latency(
            median_s=time_s, low_s=time_s, high_s=time_s, verdict=Verdict.OK, measurement_id=1
        )

    def begin(self, encoding: str) -> _Done:
        return _Done(self.latency(encoding))


class _Done:
    is_done = True

    def __init__(self, answer: Latency) -> None:
        self._answer = answer

    def result(self) -> Latency:
        return self._answer


@pytest.mark.parametrize("ahead", [0, 3, NO_DEVICE])
def test_beside_a_device_the_device_says_how_far_ahead(ahead: int) -> None:
    source, _ = _source(_times())
    evaluator = CandidateEvaluator(_Estimator(), {"pi": source, "gpu": _Device(ahead)}, {})
    found = list(evaluator.evaluate_all(ENCODINGS))
    assert [one.encoding for one in found] == ENCODINGS
    for one in found:
        assert one.latencies["pi"] == source.latency(one.encoding)
        assert one.latencies["pi"].predicted
        assert not one.latencies["gpu"].predicted
