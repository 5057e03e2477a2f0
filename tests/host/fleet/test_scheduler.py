"""Which board gets what, by a clock that the test sets."""

from __future__ import annotations

import pytest

from boardfront.host.fleet.scheduler import STRIKES, Scheduler, Service, Ticket

A, B, C = "a", "b", "c"
ALL = frozenset({A, B, C})


def _scheduler(*tickets: Ticket) -> Scheduler:
    made = Scheduler((A, B, C))
    for ticket in tickets:
        made.add(ticket)
    return made


def _ticket(number: int, **changes: object) -> Ticket:
    return Ticket(number=number, **{"boards": ALL, **changes})  # type: ignore[arg-type]


def _number(ticket: Ticket | None) -> int | None:
    return None if ticket is None else ticket.number


def test_tickets_go_out_in_order_to_whoever_is_free() -> None:
    scheduler = _scheduler(_ticket(2), _ticket(0), _ticket(1))
    assert [_number(scheduler.take(board, 0.0)) for board in (C, A, C, B)] == [0, 1, 2, None]
    assert scheduler.waiting == 0


def test_a_board_gets_only_what_it_may_do() -> None:
    scheduler = _scheduler(_ticket(0, boards=frozenset({B})), _ticket(1))
    assert _number(scheduler.take(A, 0.0)) == 1
    assert _number(scheduler.take(B, 0.0)) == 0


def test_a_job_that_is_delayed_holds_up_no_other() -> None:
    scheduler = _scheduler(_ticket(0, not_before_s=5.0), _ticket(1))
    assert scheduler.next_s(A, 0.0) == 5.0
    assert _number(scheduler.take(A, 0.0)) == 1
    assert scheduler.take(A, 4.9) is None
    assert _number(scheduler.take(A, 5.0)) == 0


def test_of_one_key_the_second_waits_for_the_first() -> None:
    scheduler = _scheduler(_ticket(0, key="k"), _ticket(1, key="k"), _ticket(2))
    assert _number(scheduler.take(A, 0.0)) == 0
    assert _number(scheduler.take(B, 0.0)) == 2
    assert scheduler.take(C, 0.0) is None
    scheduler.done(0)
    assert _number(scheduler.take(C, 0.0)) == 1


def test_nothing_is_taken_ahead_that_an_idle_board_could_have() -> None:
    scheduler = _scheduler(*(_ticket(number) for number in range(5)))
    assert _number(scheduler.take(A, 0.0)) == 0
    assert _number(scheduler.take(A, 0.0, ahead=True)) == 1
    assert _number(scheduler.take(B, 0.0)) == 2
    # Two are left for three boards.
    assert scheduler.take(A, 0.0, ahead=True) is None
    assert _number(scheduler.take(C, 0.0)) == 3


def test_what_a_board_had_before_goes_there_even_ahead_until_it_is_out() -> None:
    scheduler = _scheduler(_ticket(0, prefers=B), _ticket(1, prefers=A))
    assert _number(scheduler.take(A, 0.0, ahead=True)) == 1
    assert scheduler.take(A, 0.0) is None
    scheduler.service.lose(B, "gone", 0.0)
    assert _number(scheduler.take(A, 0.0)) == 0


def test_a_board_that_failed_is_avoided_while_there_is_another() -> None:
    scheduler = _scheduler(_ticket(0, avoids=frozenset({A}), boards=frozenset({A, B})))
    assert scheduler.take(A, 0.0) is None
    scheduler.service.lose(B, "gone", 0.0)
    assert _number(scheduler.take(A, 0.0)) == 0


def test_what_a_lost_board_had_goes_to_the_others_first() -> None:
    scheduler = _scheduler(*(_ticket(number) for number in range(6)))
    for _ in range(2):
        scheduler.take(A, 0.0)
    scheduler.take(B, 0.0)
    scheduler.service.lose(A, "gone", 0.0)
    assert scheduler.give_back(A) == (0, 1)
    assert scheduler.take(A, 0.0) is None
    assert [_number(scheduler.take(C, 0.0)) for _ in range(3)] == [0, 1, 3]


def test_a_board_that_rests_gets_nothing_while_the_others_go_on() -> None:
    scheduler = _scheduler(_ticket(0), _ticket(1))
    scheduler.rest(A, 3.0)
    assert scheduler.take(A, 2.0) is None
    assert scheduler.next_s(A, 2.0) == 3.0
    assert _number(scheduler.take(B, 2.0)) == 0
    assert _number(scheduler.take(A, 3.0)) == 1


def test_a_ticket_is_withdrawn_only_while_it_waits() -> None:
    scheduler = _scheduler(_ticket(0), _ticket(1))
    scheduler.take(A, 0.0)
    assert not scheduler.withdraw(0)
    assert scheduler.withdraw(1)
    assert not scheduler.is_waiting(1)
    assert scheduler.take(B, 0.0) is None


def test_a_ticket_without_any_board_is_stranded() -> None:
    scheduler = _scheduler(_ticket(0, boards=frozenset({A, B})), _ticket(1))
    scheduler.service.lose(A, "gone", 1.0)
    assert scheduler.stranded_since_s() is None
    scheduler.service.lose(B, "gone", 4.0)
    assert scheduler.stranded_since_s() == 4.0
    scheduler.service.passed_test(A)
    assert scheduler.stranded_since_s() is None


def test_strikes_in_a_row_put_a_board_out_with_the_first_error() -> None:
    service = Service((A, B))
    for number in range(STRIKES - 1):
        assert not service.strike(A, f"error {number}", 0.0)
    service.good(A)
    for number in range(STRIKES - 1):
        assert not service.strike(A, f"later {number}", 0.0)
    assert service.strike(A, "last", 7.0)
    assert service.present == {B}
    assert service.why_out(A).endswith("the first: later 0")
    assert not service.strike(A, "once more", 8.0)


def test_a_board_is_tested_after_growing_pauses_until_it_passes() -> None:
    service = Service((A,))
    service.lose(A, "gone", 100.0)
    service.lose(A, "gone again", 101.0)
    assert service.why_out(A) == "gone"
    now_s, pauses_s = 100.0, []
    for _ in range(8):
        due_s = service.test_at_s(A)
        assert due_s is not None
        pauses_s.append(due_s - now_s)
        now_s = due_s
        service.failed_test(A, now_s)
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[-1] == pauses_s[-2] == pytest.approx(60.0)
    service.passed_test(A)
    assert service.test_at_s(A) is None
    assert service.why_out(A) == ""
    assert service.present == {A}
