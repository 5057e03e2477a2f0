"""The rules of leases, without a clock, a disk or a wire."""

from __future__ import annotations

import random

import pytest

from boardfront.device_agent import lease
from boardfront.device_agent.lease import Book
from boardfront.protos.records import AcquireLeaseReply, AcquireLeaseRequest, LeaseState

_HELD, _WAITING = LeaseState.HELD, LeaseState.WAITING


class _Desk:
    """A book with its moment: what a test does to it reads in order."""

    def __init__(self) -> None:
        self.book = Book()
        self.now_s = 1000.0

    def ask(self, who: str, *, priority: int = 0, duration_s: float = 30.0) -> AcquireLeaseReply:
        request = AcquireLeaseRequest(
            lease_id=who, holder=f"{who}@home", priority=priority, duration_s=duration_s
        )
        self.book, reply = lease.acquire(self.book, request, self.now_s)
        return reply

    def release(self, who: str) -> None:
        self.book = lease.release(self.book, who, self.now_s)

    def later(self, duration_s: float) -> None:
        self.now_s += duration_s

    @property
    def holder(self) -> str:
        holder = lease.status(lease.expire(self.book, self.now_s), self.now_s).holder
        return "" if holder is None else holder.name.removesuffix("@home")

    @property
    def waiting(self) -> list[str]:
        status = lease.status(lease.expire(self.book, self.now_s), self.now_s)
        return [party.name.removesuffix("@home") for party in status.waiting]


def test_a_free_device_is_given_at_once() -> None:
    desk = _Desk()
    reply = desk.ask("anna")
    assert (reply.state, reply.position, reply.expires_in_s) == (_HELD, 0, 30.0)
    assert reply.fencing_token == 1
    assert reply.status.holder is not None
    assert reply.status.holder.name == "anna@home"
    assert desk.book.accepts(1)
    assert not desk.book.accepts(0)


def test_one_holds_and_the_others_wait_in_the_order_in_which_they_came() -> None:
    desk = _Desk()
    desk.ask("anna")
    positions = [desk.ask(who).position for who in ("ben", "cem", "dora")]
    assert positions == [1, 2, 3]
    again = desk.ask("cem")
    assert (again.state, again.position, again.fencing_token) == (_WAITING, 2, 0)
    desk.release("anna")
    assert (desk.holder, desk.waiting) == ("ben", ["cem", "dora"])
    assert desk.ask("ben").fencing_token == 2
    assert desk.ask("dora").position == 2


def test_higher_priority_is_served_first_and_drives_nobody_out() -> None:
    desk = _Desk()
    desk.ask("anna", priority=-5)
    desk.ask("ben")
    desk.ask("cem", priority=3)
    assert desk.ask("dora", priority=3).position == 2
    assert (desk.holder, desk.waiting) == ("anna", ["cem", "dora", "ben"])
    assert desk.ask("anna", priority=-5).state is _HELD
    # Who changes its mind is moved.
    assert desk.ask("ben", priority=9).position == 1


def test_a_lease_that_is_renewed_lasts_under_one_token() -> None:
    desk = _Desk()
    tokens = set()
    for _ in range(10):
        tokens.add(desk.ask("anna").fencing_token)
        desk.later(29.0)
    assert tokens == {1}
    status = lease.status(desk.book, desk.now_s)
    assert status.holder is not None
    assert (status.holder.since_s, status.holder.expires_in_s) == (290.0, 1.0)


def test_who_falls_silent_loses_the_device_to_the_next() -> None:
    desk = _Desk()
    desk.ask("anna")
    desk.later(20.0)
    desk.ask("ben")
    desk.later(10.0)
    # It does not help to come back one moment late.
    reply = desk.ask("anna")
    assert (reply.state, reply.position) == (_WAITING, 1)
    assert desk.holder == "ben"
    token = desk.ask("ben").fencing_token
    assert token == 2
    assert [desk.book.accepts(n) for n in range(3)] == [False, False, True]
    assert [desk.book.keeps(n) for n in range(3)] == [False, False, True]


def test_who_falls_silent_while_waiting_loses_its_place() -> None:
    desk = _Desk()
    desk.ask("anna", duration_s=100.0)
    desk.ask("ben")
    desk.later(20.0)
    desk.ask("cem")
    desk.later(15.0)
    assert desk.waiting == ["cem"]
    assert desk.ask("ben").position == 2


def test_with_nobody_waiting_silence_costs_nothing_but_the_token() -> None:
    desk = _Desk()
    first = desk.ask("anna").fencing_token
    desk.later(300.0)
    assert desk.holder == ""
    book = lease.expire(desk.book, desk.now_s)
    # Its jobs go on; no new one is taken under it, but one without a lease is.
    assert book.keeps(first)
    assert not book.accepts(first)
    assert book.accepts(0)
    second = desk.ask("anna").fencing_token
    assert second > first
    assert desk.book.keeps(first)
    assert desk.book.accepts(second)
    assert not desk.book.accepts(first)


def test_another_holder_in_between_ends_the_row() -> None:
    desk = _Desk()
    first = desk.ask("anna").fencing_token
    desk.later(31.0)
    other = desk.ask("ben").fencing_token
    assert not desk.book.keeps(first)
    desk.release("ben")
    assert not desk.book.keeps(first)
    assert desk.book.keeps(other)
    third = desk.ask("anna").fencing_token
    assert [desk.book.keeps(token) for token in (first, other, third)] == [False, False, True]


def test_jobs_without_a_lease_run_only_while_nobody_holds() -> None:
    desk = _Desk()
    assert desk.book.keeps(0)
    desk.ask("anna")
    assert not desk.book.keeps(0)
    desk.release("anna")
    assert desk.book.keeps(0)


def test_releasing_what_is_not_held_changes_nothing() -> None:
    desk = _Desk()
    desk.ask("anna")
    desk.ask("ben")
    desk.release("nobody")
    assert (desk.holder, desk.waiting) == ("anna", ["ben"])
    desk.release("ben")
    assert (desk.holder, desk.waiting) == ("anna", [])


def test_a_restart_gives_everybody_one_full_duration() -> None:
    desk = _Desk()
    token = desk.ask("anna").fencing_token
    desk.later(10.0)
    desk.ask("ben", duration_s=5.0)
    # The clock of the next process has nothing to do with this one's.
    desk.now_s = 3.0
    desk.book = lease.revive(desk.book, desk.now_s)
    desk.later(4.9)
    assert (desk.holder, desk.waiting) == ("anna", ["ben"])
    assert desk.ask("anna").fencing_token == token
    desk.later(29.9)
    assert (desk.holder, desk.waiting) == ("anna", [])


def test_a_token_is_never_given_twice_and_two_never_hold() -> None:
    """Whatever happens in whatever order: 40 stories of 120 steps from seeds."""
    leases = sum(_play(random.Random(seed)) for seed in range(40))  # noqa: S311 - no secrets
    assert leases > 300


def _play(rng: random.Random) -> int:
    """Return how many leases were given."""
    desk = _Desk()
    given: dict[int, str] = {}
    heard: dict[str, int] = {}
    for _ in range(120):
        who = rng.choice("abcdef")
        step = rng.random()
        before = desk.book
        if step < 0.6:
            reply = desk.ask(who, priority=rng.randrange(3), duration_s=rng.uniform(1.0, 30.0))
            if reply.state is _HELD:
                assert given.setdefault(reply.fencing_token, who) == who
                assert reply.fencing_token >= heard.get(who, 0)
                heard[who] = reply.fencing_token
                assert desk.book.accepts(reply.fencing_token)
            else:
                assert (reply.fencing_token, reply.position) == (0, desk.waiting.index(who) + 1)
        elif step < 0.8:
            desk.release(who)
            assert who != desk.holder
            assert who not in desk.waiting
        else:
            desk.later(rng.uniform(0.0, 20.0))
            desk.book = lease.expire(desk.book, desk.now_s)
        _assert_sound(before, desk.book)
    return len(given)


def _assert_sound(before: Book, book: Book) -> None:
    assert book.last_token >= before.last_token
    everybody = [*([book.holder] if book.holder else []), *book.waiting]
    assert len({place.lease_id for place in everybody}) == len(everybody)
    assert book.holder is not None or not book.waiting
    priorities = [place.priority for place in book.waiting]
    assert priorities == sorted(priorities, reverse=True)
    # Exactly one token may be submitted under, and what may be submitted may run.
    accepted = [token for token in range(book.last_token + 2) if book.accepts(token)]
    assert len(accepted) == 1
    assert book.keeps(accepted[0])
    if book.holder is not None and before.holder is not None:
        same = book.holder.lease_id == before.holder.lease_id
        # The row of another's tokens is over for good.
        assert same or not book.keeps(before.last_token)


def test_who_is_nowhere_has_no_position() -> None:
    desk = _Desk()
    desk.ask("anna")
    with pytest.raises(ValueError, match="not in list"):
        desk.book.position("ben")


def test_a_place_keeps_since_when_it_waits() -> None:
    desk = _Desk()
    desk.ask("anna", duration_s=100.0)
    desk.ask("ben")
    desk.later(7.0)
    party = desk.ask("ben", priority=1).status.waiting[0]
    assert (party.since_s, party.priority) == (7.0, 1)
    desk.release("anna")
    desk.later(2.0)
    holder = lease.status(desk.book, desk.now_s).holder
    assert holder is not None
    # From now on it tells for how long it holds.
    assert holder.since_s == 2.0
