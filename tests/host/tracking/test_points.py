"""Series of numbers from journal records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host import journal_records as records
from boardfront.host.tracking.points import Point, Series
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency

if TYPE_CHECKING:
    from boardfront.host.journal import AnyRecord


def _time(median_s: float) -> Latency:
    return Latency(
        median_s=median_s, low_s=median_s, high_s=median_s, verdict=Verdict.OK, measurement_id=1
    )


def _evaluation(index: int, accuracy: float | None, times: dict[str, float]) -> records.Evaluation:
    return records.Evaluation(
        index=index,
        generation=0,
        encoding=f"net{index}",
        scores={},
        failure=None if accuracy is not None else EvaluationFailure(message="it crashed"),
        validation_accuracy=accuracy,
        latencies={name: _time(median_s) for name, median_s in times.items()},
        estimator_state_id="s",
        elapsed_s=0.5,
    )


def _finalist(encoding: str, measured_s: float | None) -> records.FinalistMeasured:
    return records.FinalistMeasured(
        encoding=encoding,
        target="my board",
        predicted_s=0.002,
        latency=None if measured_s is None else _time(measured_s),
    )


def test_training() -> None:
    record = records.TrainingProgress(
        epoch=3, epochs=9, loss=1.5, learning_rate=0.1, elapsed_s=2.0, validation_accuracy=0.25
    )
    assert list(Series().points(record)) == [
        Point(tag="training/loss", step=3, value=1.5),
        Point(tag="training/accuracy", step=3, value=0.25),
    ]


def test_evaluations_and_failures() -> None:
    series = Series()
    good = list(series.points(_evaluation(0, 0.5, {"my board": 0.002})))
    assert Point(tag="search/accuracy", step=0, value=0.5) in good
    # A space is no sign of both trackers.
    assert Point(tag="search/my_board/time_s", step=0, value=0.002) in good
    assert Point(tag="search/failures", step=0, value=0) in good
    failed = list(series.points(_evaluation(1, None, {})))
    assert {point.tag for point in failed} == {"search/failures", "search/evaluation_s"}
    assert Point(tag="search/failures", step=1, value=1) in failed


def test_generations() -> None:
    plain = records.GenerationDone(generation=2, front_size=5)
    assert list(Series().points(plain)) == [Point(tag="front/size", step=2, value=5)]
    more = records.GenerationDone(generation=2, front_size=5, hypervolume=0.25)
    assert Point(tag="front/hypervolume", step=2, value=0.25) in Series().points(more)


def test_finalists_are_told_at_the_end_as_they_were_measured_last() -> None:
    series = Series()
    history: list[AnyRecord] = [
        _evaluation(0, 0.5, {}),
        _evaluation(1, 0.75, {}),
        _finalist("net0", 0.003),
        _finalist("net0", 0.004),
        _finalist("net1", None),
    ]
    before = [point for record in history for point in series.points(record)]
    assert not [point for point in before if point.tag.startswith("finalists")]
    end = records.RunFinished(status=records.RunStatus.COMPLETED, time_unix_s=1.0)
    assert list(series.points(end)) == [
        Point(tag="finalists/my_board/predicted_s", step=0, value=0.002),
        Point(tag="finalists/my_board/measured_s", step=0, value=0.004),
        Point(tag="finalists/my_board/accuracy", step=0, value=0.5),
        Point(tag="finalists/my_board/predicted_s", step=1, value=0.002),
        Point(tag="finalists/my_board/accuracy", step=1, value=0.75),
    ]
