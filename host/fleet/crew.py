"""The boards of a run and what they have to do: one thread a board, one ear for all answers.

Boards' threads take work from here and leave answers here; whoever asked hears them, and all else
that boards have to say, in `attend`, on its own thread and in the order in which it came.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.board import Board, Work
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.ledger import Ledger
from boardfront.host.fleet.scheduler import Scheduler, Ticket
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.host.fleet.address import AgentAddress
    from boardfront.host.fleet.client import Lease
    from boardfront.latency_models.base import Measurement

    Answers = tuple[Measurement, ...]

_PERHAPS_THE_BOARD = (FailureKind.CRASHED, FailureKind.DEVICE_LOST)
"""Failures that a sick board may give a healthy network."""

_WAIT_S = 0.5
_MOVE_AFTER_S = 20.0
_GIVE_UP_AFTER_S = 100.0


@dataclass(kw_only=True, slots=True)
class _Order:
    """Work with who waits for it, and what was seen of it."""

    work: Work
    ticket: Ticket
    then: Callable[[Answers], None]
    tried: dict[str, Answers] = field(default_factory=dict)
    was_measured: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long boards are waited for.

    Args:
        move_after_s: A board that does not answer for so long loses its jobs to the others.
        give_up_after_s: Without any fit board for so long after that, nothing can be answered
            any more.
    """

    move_after_s: float = _MOVE_AFTER_S
    give_up_after_s: float = _GIVE_UP_AFTER_S


class Crew:
    """All boards of a run. Implements `board.Foreman` for their threads.

    A job that crashes on a board is tried on another one before the network is blamed; a board
    on which several in a row crash that do not crash elsewhere, or that is lost, is out until it
    passes its self-test, and what it had goes to the others.

    Args:
        say: Told what happens to boards; called in `attend` only.
        ledger: Where it is written which board got which job.
        patience: With boards that do not answer.
        clock: Monotonic, in seconds.

    All methods but the Foreman's are for one thread.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        ledger: Ledger | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._ledger = ledger or Ledger()
        self._patience = patience or Patience()
        self._clock = clock
        self._changed = threading.Condition()
        self._scheduler = Scheduler(())
        self._orders: dict[int, _Order] = {}
        self._mail: queue.SimpleQueue[Callable[[], None] | BaseException] = queue.SimpleQueue()
        self._next_number = 0
        self._stopping = False
        self.boards: dict[str, Board] = {}

    def enlist(self, name: str, address: AgentAddress, lease: Lease | None = None) -> Board:
        """Return the board of this name; a new one is connected to when it is first asked.

        Args:
            name: By which the run knows it.
            address: Of its agent.
            lease: Under which its jobs are; None: under none.
        """
        if name not in self.boards:
            client = AgentClient(
                address,
                lost_after_s=self._patience.move_after_s,
                on_lost=lambda line: self.post(lambda: self._say(line)),
                lease=lease,
            )
            self.boards[name] = Board(name, address, client, self)
            with self._changed:
                self._scheduler.service.enlist(name)
        return self.boards[name]

    def submit(
        self,
        work: Work,
        then: Callable[[Answers], None],
        *,
        key: str = "",
        prefers: str = "",
        not_before_s: float = 0.0,
    ) -> int:
        """Have work done by one of its boards; `then` hears the answers in `attend`.

        Args:
            work: Its number is given here.
            then: Told the answers.
            key: See `Ticket`.
            prefers: See `Ticket`.
            not_before_s: See `Ticket`, on this object's clock.

        Returns:
            The number that was given.
        """
        number = self._next_number
        self._next_number += 1
        ticket = Ticket(
            number=number,
            boards=frozenset(work.measurers),
            prefers=prefers,
            key=key,
            not_before_s=not_before_s,
        )
        with self._changed:
            order = _Order(work=replace(work, number=number), ticket=ticket, then=then)
            self._orders[number] = order
            self._scheduler.add(ticket)
            self._changed.notify_all()
        for name in work.measurers:
            self.boards[name].start()
        return number

    def withdraw(self, number: int) -> None:
        """Take work back that no board has; what a board has is done and kept in the store."""
        with self._changed:
            if self._scheduler.withdraw(number):
                del self._orders[number]
            elif number in self._orders:
                self._orders[number].then = _ignore

    def rest(self, board: str, duration_s: float) -> None:
        """Let a board cool down before its next job; the one in its queue comes first."""
        with self._changed:
            self._scheduler.rest(board, self.now_s() + duration_s)

    def now_s(self) -> float:
        """Return the time on this object's clock."""
        return self._clock()

    def board_of(self, name: str) -> str:
        """Return the board that got this work in an earlier life of the run, or nothing."""
        return self._ledger.earlier.get(name, "")

    def post(self, call: Callable[[], None]) -> None:
        """Have something called in `attend`. Thread-safe."""
        self._mail.put(call)

    def attend(self, *, wait: bool) -> None:
        """Call everybody who waits for what has come.

        Args:
            wait: Until something has.

        Raises:
            DeviceUnreachableError: Jobs wait, and no board that may do them is fit.
            BoardfrontError: Whatever ended a board's thread.
        """
        letter = self._next_letter(_WAIT_S if wait else 0.0)
        while letter is None and wait:
            self._check_hope()
            letter = self._next_letter(_WAIT_S)
        while letter is not None:
            if isinstance(letter, BaseException):
                raise letter
            letter()
            letter = self._next_letter(0.0)

    def close(self, *, cancel: bool = False) -> None:
        """End the threads and hang up.

        Args:
            cancel: End the jobs on the boards as well.
        """
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify_all()
        for board in self.boards.values():
            board.client.abandon()
        for board in self.boards.values():
            board.close()
            if cancel:
                _cancel(board)
            board.address.close()

    # What follows is called by the boards' threads.

    @property
    def stopping(self) -> bool:
        """Whether all threads shall end."""
        return self._stopping

    def take(self, board: str, *, ahead: bool) -> Work | None:
        """Give a board its next work; unless `ahead`, wait a while for some."""
        with self._changed:
            ticket = self._scheduler.take(board, self.now_s(), ahead=ahead)
            if ticket is None and not ahead and not self._stopping:
                due_s = self._scheduler.next_s(board, self.now_s())
                wait_s = _WAIT_S if due_s is None else max(0.0, due_s - self.now_s())
                self._changed.wait(timeout=min(_WAIT_S, wait_s))
                ticket = self._scheduler.take(board, self.now_s())
            return None if ticket is None else self._orders[ticket.number].work

    def not_begun(self, work: Work) -> None:
        """Let any board have this work again."""
        with self._changed:
            self._scheduler.return_one(work.number)
            self._changed.notify_all()

    def sending(self, board: str, work: Work) -> None:
        """Write down which board gets this work."""
        if len(self.boards) > 1 and work.name:
            self._ledger.note(work.name, board)

    def is_waiting(self, number: int) -> bool:
        """Whether no board has the work of this number."""
        with self._changed:
            return self._scheduler.is_waiting(number)

    def answered(self, board: str, work: Work, answers: Answers, *, measured: bool) -> None:
        """Pass the answers on, or have another board confirm a crash."""
        with self._changed:
            order = self._orders.get(work.number)
            crash = _crash(answers)
            stale = not self._scheduler.is_with(work.number, board)
            if order is None or (stale and crash):
                # The board was out meanwhile: another one has the job, or has done it.
                return
            self._scheduler.done(work.number)
            if crash and self._try_elsewhere(board, order, answers, measured=measured):
                return
            if crash:
                # The network's fault, as far as anybody can tell: what was told first counts.
                answers = next(iter(order.tried.values()), answers)
            else:
                if measured:
                    self._scheduler.service.good(board)
                self._blame(order)
            del self._orders[work.number]
            self._changed.notify_all()
        self.post(lambda: order.then(answers))

    def lost(self, board: str, error: BoardfrontError) -> None:
        """Put a board out and let others have its jobs."""
        with self._changed:
            self._lose(board, str(error))

    def is_out(self, board: str) -> bool:
        """Whether the board is out of service."""
        with self._changed:
            return board not in self._scheduler.service.present

    def wait_for_test(self, board: str) -> bool:
        """Wait until the board's next self-test; False: the threads shall end."""
        with self._changed:
            while not self._stopping:
                test_at_s = self._scheduler.service.test_at_s(board)
                if test_at_s is None:
                    return False
                left_s = test_at_s - self.now_s()
                if left_s <= 0:
                    return True
                self._changed.wait(timeout=min(left_s, _WAIT_S))
            return False

    def tested(self, board: str, error: BoardfrontError | None) -> None:
        """Take a board back that passed its self-test."""
        with self._changed:
            if error is not None:
                self._scheduler.service.failed_test(board, self.now_s())
                return
            self._scheduler.service.passed_test(board)
            self._changed.notify_all()
        self._ledger.note_back(board)
        self.post(lambda: self._say(f"board {board} passed its self-test and is back"))

    def failed(self, error: BaseException) -> None:
        """Raise this in `attend`."""
        self._mail.put(error)

    def _next_letter(self, within_s: float) -> Callable[[], None] | BaseException | None:
        with contextlib.suppress(queue.Empty):
            return self._mail.get(timeout=within_s) if within_s else self._mail.get_nowait()
        return None

    def _check_hope(self) -> None:
        with self._changed:
            since_s = self._scheduler.stranded_since_s()
            if since_s is None or self.now_s() - since_s < self._patience.give_up_after_s:
                return
            service = self._scheduler.service
            reasons = "; ".join(
                f"{name}: {service.why_out(name)}" for name in self.boards if self.is_out(name)
            )
        raise DeviceUnreachableError(
            f"no board is fit to go on ({reasons}): expected at least one; put one right, then "
            "resume the run"
        )

    def _try_elsewhere(
        self, board: str, order: _Order, answers: Answers, *, measured: bool
    ) -> bool:
        """Give a job that crashed to another board, once; return whether there is one."""
        service = self._scheduler.service
        if _crash(answers).startswith(FailureKind.DEVICE_LOST.value) and measured:
            self._lose(board, _crash(answers))
        others = (order.ticket.boards & service.present) - {board}
        if order.tried or not others:
            return False
        order.tried[board] = answers
        order.was_measured = measured
        work = order.work
        name = f"{work.name} elsewhere" if work.name else ""
        order.work = replace(
            work,
            name=name,
            requests=tuple(
                replace(
                    request,
                    fresh=True,
                    purpose=Purpose.RETRY,
                    job_seed=f"{request.job_seed} elsewhere" if request.job_seed else "",
                )
                for request in work.requests
            ),
        )
        order.ticket = replace(
            order.ticket,
            avoids=frozenset({board}),
            prefers=self.board_of(name),
            not_before_s=0.0,
        )
        self._scheduler.add(order.ticket)
        self._changed.notify_all()
        return True

    def _blame(self, order: _Order) -> None:
        """Count a crash that did not come again elsewhere."""
        if not order.was_measured:
            return
        for board, answers in order.tried.items():
            if self._scheduler.service.strike(board, _crash(answers), self.now_s()):
                self._let_others(board)

    def _lose(self, board: str, why: str) -> None:
        if board in self._scheduler.service.present:
            self._scheduler.service.lose(board, why, self.now_s())
            self._let_others(board)

    def _let_others(self, board: str) -> None:
        """Give what a board has that went out to the others, and tell why it went out."""
        self._scheduler.give_back(board)
        self._changed.notify_all()
        why = self._scheduler.service.why_out(board)
        self._ledger.note_left_out(board, why)
        line = f"board {board} is left out until it passes its self-test: {why}"
        self.post(lambda: self._say(line))


def _crash(answers: Answers) -> str:
    """Return what a crash looked like; empty where nothing crashed."""
    failures = [one.failure for one in answers if one.failure is not None]
    return next(
        (f"{one.kind.value}: {one.message}" for one in failures if one.kind in _PERHAPS_THE_BOARD),
        "",
    )


def _cancel(board: Board) -> None:
    """End what a board has; one that is away ends it by its own deadlines."""
    client = AgentClient(board.address)
    try:
        for job_id in board.unfinished:
            client.cancel(job_id)
    except BoardfrontError:
        return
    finally:
        client.close()


def _ignore(_answers: Answers) -> None:
    """Do nothing: nobody waits any more."""
