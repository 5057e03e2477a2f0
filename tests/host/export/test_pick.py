"""Which member of a front is taken."""

from __future__ import annotations

import pytest

from boardfront.host.export.finished import Member
from boardfront.host.export.pick import parse_time, pick, pick_within
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import Latency


def _member(index: int, accuracy: float, median_s: float | None, *, half_s: float = 0.0) -> Member:
    times = {}
    if median_s is not None:
        times["board"] = Latency(
            median_s=median_s,
            low_s=median_s - half_s,
            high_s=median_s + half_s,
            verdict=Verdict.OK,
            measurement_id=index,
        )
    return Member(
        index=index,
        encoding=f"net{index}",
        params=1,
        macs=1,
        validation_accuracy=accuracy,
        test_accuracy=0.0,
        times=times,
        failures={} if times else {"board": "it crashed"},
    )


# Between the ends (1 ms, 0.5) and (5 ms, 0.9) the line rises 0.1 a millisecond: net1 lies 0.2 of
# accuracy above it, net2 0.15.
FRONT = (
    _member(0, 0.5, 0.001),
    _member(1, 0.8, 0.002),
    _member(2, 0.85, 0.003),
    _member(3, 0.9, 0.005, half_s=0.0005),
)


def test_the_ends_and_the_knee() -> None:
    assert pick(FRONT, "board", "fastest").member.index == 0
    assert pick(FRONT, "board", "best").member.index == 3
    assert pick(FRONT, "board", "knee").member.index == 1


def test_an_index() -> None:
    assert pick(FRONT, "board", "2").member.encoding == "net2"
    with pytest.raises(WrongInputError, match="--pick 4: expected an index of the front: 0 to 3"):
        pick(FRONT, "board", "4")


def test_an_unknown_rule_names_the_known() -> None:
    with pytest.raises(WrongInputError, match="expected knee, fastest, best, or an index"):
        pick(FRONT, "board", "cheapest")


def test_no_knee_below_the_line() -> None:
    sagging = (_member(0, 0.5, 0.001), _member(1, 0.51, 0.003), _member(2, 0.9, 0.005))
    found = pick(sagging, "board", "knee")
    assert found.member.index == 0
    assert "no network lies above" in found.reason
    assert pick(FRONT[:2], "board", "knee").member.index == 0
    assert pick(FRONT[3:], "board", "knee").member.index == 3


def test_what_measuring_again_beat_is_no_knee() -> None:
    # net1 came out slower than net2, which is more accurate: the search had them the other way.
    turned = (FRONT[0], _member(1, 0.8, 0.0031), FRONT[2], FRONT[3])
    assert pick(turned, "board", "knee").member.index == 2


def test_equal_times_and_accuracies() -> None:
    twins = (_member(0, 0.7, 0.001), _member(1, 0.8, 0.001), _member(2, 0.8, 0.002))
    assert pick(twins, "board", "fastest").member.index == 1
    assert pick(twins, "board", "best").member.index == 1
    assert pick(twins, "board", "knee").member.index == 1


def test_what_failed_there_is_not_taken() -> None:
    some = (_member(0, 0.95, None), *FRONT[1:])
    assert pick(some, "board", "best").member.index == 3
    with pytest.raises(WrongInputError, match=r"net0 has no time on board \(it crashed\)"):
        pick(some, "board", "0")
    with pytest.raises(WrongInputError, match=r"has a time on board \(it crashed\)"):
        pick(some[:1], "board", "knee")


def test_a_limit_holds_for_the_whole_interval() -> None:
    # net3's median is within 5.2 ms, its interval ends at 5.5 ms.
    assert pick_within(FRONT, "board", 0.0052).member.index == 2
    assert pick_within(FRONT, "board", 0.0056).member.index == 3
    assert pick_within(FRONT, "board", 0.001).member.index == 0


def test_a_limit_that_none_keeps_tells_the_fastest() -> None:
    with pytest.raises(WrongInputError, match=r"the fastest, net0, takes 1\.000 ms") as caught:
        pick_within(FRONT, "board", 0.0009)
    assert "--max-latency 900.0 us" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted_s"),
    [("12ms", 0.012), ("800 us", 8e-4), ("0.5s", 0.5), ("250ns", 2.5e-7), ("1e1ms", 0.01)],
)
def test_times(given: str, wanted_s: float) -> None:
    assert parse_time(given) == pytest.approx(wanted_s)


@pytest.mark.parametrize("given", ["12", "ms", "12 min", "-3ms", "0ms", "nanms", "1e999s", ""])
def test_what_is_no_time(given: str) -> None:
    with pytest.raises(WrongInputError, match="expected a time with its unit"):
        parse_time(given)
