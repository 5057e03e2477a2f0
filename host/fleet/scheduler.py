"""Which job goes to which board, and which boards are asked at all. Pure: the clock is passed in.

Jobs go out in the order of asking to whichever board is free, so that no slow board and no slow
job holds up the others; who wants the answers in order puts them back in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

STRIKES = 3
"""So many jobs in a row may crash on a board that do not crash elsewhere."""

_TEST_AFTER_S = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Pauses before the self-tests of a board that is out; the last one repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A job that waits for a board.

    Args:
        number: Of the order of asking; the smallest goes first.
        boards: That may do it.
        prefers: The board that has it already, from an earlier life of ours; as long as that one
            is in service no other is asked. Empty: whichever is free.
        avoids: Boards that had it and failed; asked only where no other is left.
        key: Of what is asked: of two tickets of one key the second waits for the first, whose
            answer may do for both. Empty: unlike all others.
        not_before_s: When it may go, on the caller's clock.
    """

    number: int
    boards: frozenset[str]
    prefers: str = ""
    avoids: frozenset[str] = frozenset()
    key: str = ""
    not_before_s: float = 0.0


class Scheduler:
    """Hands out tickets. Not thread-safe.

    Args:
        boards: All of them.
    """

    def __init__(self, boards: Collection[str]) -> None:
        self._waiting: list[Ticket] = []
        self._given: dict[int, tuple[Ticket, str]] = {}
        self._rests_until_s: dict[str, float] = {}
        self.service = Service(boards)

    @property
    def waiting(self) -> int:
        """Tickets that no board has yet."""
        return len(self._waiting)

    def add(self, ticket: Ticket) -> None:
        """Put a ticket where its number belongs."""
        self._waiting.append(ticket)
        self._waiting.sort(key=lambda one: one.number)

    def take(self, board: str, now_s: float, *, ahead: bool = False) -> Ticket | None:
        """Give a board the first ticket that it may have.

        Args:
            board: That asks.
            now_s: The time.
            ahead: The board is still busy and asks for its next job already. At the end of the
                work it gets none: a job that waits on a busy board could run on another one.
        """
        if board not in self.service.present or now_s < self._rests_until_s.get(board, 0.0):
            return None
        ready = [one for one in self._waiting if self._is_free(one, now_s)]
        mine = [one for one in ready if self._may_have(one, board)]
        if not mine or (ahead and not self._is_plenty(mine[0], ready)):
            return None
        self._waiting.remove(mine[0])
        self._given[mine[0].number] = (mine[0], board)
        return mine[0]

    def withdraw(self, number: int) -> bool:
        """Forget a ticket that no board has; return whether there was one."""
        kept = [one for one in self._waiting if one.number != number]
        found = len(kept) < len(self._waiting)
        self._waiting = kept
        return found

    def is_waiting(self, number: int) -> bool:
        """Whether no board has the ticket of this number."""
        return any(one.number == number for one in self._waiting)

    def stranded_since_s(self) -> float | None:
        """Return since when some ticket has had no board that could take it; None: each has."""
        since_s = [
            self.service.all_out_since_s(one.boards)
            for one in self._waiting
            if not one.boards & self.service.present
        ]
        return min(since_s, default=None)

    def done(self, number: int) -> None:
        """Forget a ticket that was answered, by whomever."""
        self._given.pop(number, None)
        self.withdraw(number)

    def is_with(self, number: int, board: str) -> bool:
        """Whether a board has a ticket."""
        return self._given.get(number, (None, ""))[1] == board

    def give_back(self, board: str) -> tuple[int, ...]:
        """Let others have what a board has, and return those tickets' numbers."""
        back = [ticket for ticket, holder in self._given.values() if holder == board]
        for ticket in back:
            del self._given[ticket.number]
            self.add(ticket)
        return tuple(ticket.number for ticket in back)

    def return_one(self, number: int) -> None:
        """Let a ticket be had again that its board did not begin."""
        if number in self._given:
            self.add(self._given.pop(number)[0])

    def rest(self, board: str, until_s: float) -> None:
        """Give a board nothing until then: it has to cool down."""
        self._rests_until_s[board] = max(until_s, self._rests_until_s.get(board, 0.0))

    def next_s(self, board: str, now_s: float) -> float | None:
        """Return when something may change for a board by the clock alone; None: never."""
        times_s = [one.not_before_s for one in self._waiting if board in one.boards]
        times_s.append(self._rests_until_s.get(board, 0.0))
        return min((one for one in times_s if one > now_s), default=None)

    def _is_free(self, ticket: Ticket, now_s: float) -> bool:
        taken = {given.key for given, _ in self._given.values() if given.key}
        return ticket.not_before_s <= now_s and ticket.key not in taken

    def _may_have(self, ticket: Ticket, board: str) -> bool:
        present = ticket.boards & self.service.present
        if ticket.prefers in present:
            return board == ticket.prefers
        return board in ((present - ticket.avoids) or present)

    def _is_plenty(self, ticket: Ticket, ready: Sequence[Ticket]) -> bool:
        """Whether every board that may do a ticket would still find one."""
        present = ticket.boards & self.service.present
        return ticket.prefers in present or len(ready) >= len(present)


@dataclass(kw_only=True, slots=True)
class _Out:
    """A board that is out of service: since when, why, and when it is tested again."""

    since_s: float
    why: str
    test_at_s: float
    tests: int = 0


class Service:
    """Which boards are in service. Pure, not thread-safe.

    A board goes out when it is lost, or when `STRIKES` jobs in a row failed there and not
    elsewhere; it comes back when it passes its self-test.

    Args:
        boards: All of them, in service.
    """

    def __init__(self, boards: Collection[str]) -> None:
        self._strikes: dict[str, list[str]] = {board: [] for board in boards}
        self._out: dict[str, _Out] = {}

    def enlist(self, board: str) -> None:
        """Add a board, in service."""
        self._strikes.setdefault(board, [])

    @property
    def present(self) -> frozenset[str]:
        """The boards in service."""
        return frozenset(self._strikes.keys() - self._out.keys())

    def why_out(self, board: str) -> str:
        """Return the first error of a board that is out; empty for one in service."""
        return self._out[board].why if board in self._out else ""

    def strike(self, board: str, error: str, now_s: float) -> bool:
        """Count a failure that was the board's own; return whether that puts it out."""
        if board in self._out:
            return False
        self._strikes[board].append(error)
        if len(self._strikes[board]) < STRIKES:
            return False
        first = self._strikes[board][0]
        self.lose(board, f"{STRIKES} jobs in a row failed there alone, the first: {first}", now_s)
        return True

    def good(self, board: str) -> None:
        """Note that a board did its work."""
        self._strikes[board].clear()

    def lose(self, board: str, error: str, now_s: float) -> None:
        """Put a board out of service; the first error is kept."""
        self._strikes[board].clear()
        pause_s = _TEST_AFTER_S[0]
        self._out.setdefault(board, _Out(since_s=now_s, why=error, test_at_s=now_s + pause_s))

    def test_at_s(self, board: str) -> float | None:
        """Return when a board that is out shall be tested; None for one in service."""
        return self._out[board].test_at_s if board in self._out else None

    def failed_test(self, board: str, now_s: float) -> None:
        """Note that a board is not fit yet; it is tested again after a longer pause."""
        out = self._out[board]
        out.tests += 1
        out.test_at_s = now_s + _TEST_AFTER_S[min(out.tests, len(_TEST_AFTER_S) - 1)]

    def passed_test(self, board: str) -> None:
        """Take a board back into service."""
        self._out.pop(board, None)

    def all_out_since_s(self, boards: Collection[str]) -> float:
        """Return since when none of these boards has been in service; all of them are out."""
        return max(self._out[board].since_s for board in boards)
