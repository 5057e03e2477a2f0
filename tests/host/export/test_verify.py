"""How a time that was measured again stands to its promise."""

from __future__ import annotations

import pytest

from boardfront.host.export.verify import Holding, judge
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import Latency


def _time(low_s: float, median_s: float, high_s: float, verdict: Verdict = Verdict.OK) -> Latency:
    return Latency(
        median_s=median_s, low_s=low_s, high_s=high_s, verdict=verdict, measurement_id=1
    )


PROMISED = _time(0.009, 0.010, 0.011)


@pytest.mark.parametrize(
    ("found", "holding", "holds", "words"),
    [
        (_time(0.009, 0.0105, 0.012), Holding.WITHIN, True, "the promise holds: within 9.000"),
        (_time(0.0105, 0.0115, 0.012), Holding.OVERLAPPING, True, "as far as the two can tell"),
        (_time(0.0115, 0.012, 0.013), Holding.SLOWER, False, "does not hold: +20.0%, beyond"),
        (_time(0.007, 0.0075, 0.008), Holding.FASTER, True, "faster than promised: -25.0%"),
    ],
)
def test_judge(found: Latency, holding: Holding, words: str, *, holds: bool) -> None:
    verification = judge(PROMISED, found)
    assert verification.holding is holding
    assert verification.holds is holds
    assert words in verification.words()
    assert "measure again on a quiet device" not in verification.words()


def test_a_verdict_that_is_not_ok_is_told() -> None:
    restless = _time(0.009, 0.0105, 0.012, Verdict.CONTENDED)
    assert "measure again on a quiet device" in judge(PROMISED, restless).words()
