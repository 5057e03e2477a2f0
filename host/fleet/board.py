"""One board of a run: its connection, and the thread that alone uses it.

While a job is timed on a remote board, the next one is put into its agent's queue: the board goes
on the moment that it has finished, whatever the network and this host are at.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from boardfront.host.fleet.connection import AbandonedError, DeviceUnreachableError
from boardfront.host.fleet.self_test import UnfitBoardError
from boardfront.host.fleet.sentinel import State
from boardfront.protos.errors import BoardfrontError, LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.host.fleet.address import AgentAddress
    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.host.fleet.planned_job import PlannedJob
    from boardfront.host.fleet.self_test import Seen, SelfTest
    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.protos.records import DeviceDescription

QUEUED = 2
"""Jobs on a board at most: the one that runs and the next."""

_ENDS_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a board is asked to do: one job.

    Args:
        number: Of its ticket.
        requests: Of the job.
        together: They are measured in any case, windows interleaved.
        name: The same in every life of a run; empty: it has none.
        measurers: By board; each board has its own.
    """

    number: int
    requests: tuple[TimeRequest, ...]
    together: bool
    name: str = ""
    measurers: Mapping[str, DeviceMeasurer]


class Foreman(Protocol):
    """Gives boards their work and takes their answers. All methods are thread-safe."""

    @property
    def stopping(self) -> bool:
        """Whether all threads shall end."""

    def take(self, board: str, *, ahead: bool) -> Work | None:
        """Give the next work; unless `ahead`, wait a while for some."""

    def not_begun(self, work: Work) -> None:
        """Take work back that the board did not begin."""

    def sending(self, board: str, work: Work) -> None:
        """Hear that work is about to be sent to a board."""

    def is_waiting(self, number: int) -> bool:
        """Whether no board has the work of this number."""

    def answered(
        self, board: str, work: Work, answers: tuple[Measurement, ...], *, measured: bool
    ) -> None:
        """Take the answers of work, which were measured now or found in the store."""

    def lost(self, board: str, error: BoardfrontError) -> None:
        """Hear that a board cannot go on; what it had goes to others."""

    def is_out(self, board: str) -> bool:
        """Whether the board is out of service."""

    def wait_for_test(self, board: str) -> bool:
        """Wait until a board that is out is tested again; False: the threads shall end."""

    def tested(self, board: str, error: BoardfrontError | None) -> None:
        """Hear how the self-test of a board ended; None: it passed."""

    def failed(self, error: BaseException) -> None:
        """Hear of what no board can answer; whoever asked is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    work: Work
    planned: PlannedJob


class Board:
    """One board and its thread.

    Args:
        name: By which the run knows it.
        address: Of its agent.
        client: Of the same; used from `start` on by this board's thread alone.
        foreman: Gives the work.
    """

    def __init__(
        self, name: str, address: AgentAddress, client: AgentClient, foreman: Foreman
    ) -> None:
        self.name = name
        self.address = address
        self.client = client
        self.description: DeviceDescription | None = None
        self.tests: list[tuple[SelfTest, Seen]] = []
        self._foreman = foreman
        self._lane: deque[_Sent] = deque()
        self._look_is_due = False
        self._left_behind: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name=f"board {name}", daemon=True)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the jobs on the board. To be asked once the thread has ended."""
        return tuple(sent.planned.job.job_id for sent in self._lane)

    def close(self) -> None:
        """End the thread and hang up; jobs on the board go on."""
        self.client.abandon()
        if self._thread.ident is not None:
            self._thread.join(timeout=_ENDS_WITHIN_S)
        self.client.close()

    def _run(self) -> None:
        try:
            while not self._foreman.stopping:
                if self._foreman.is_out(self.name):
                    self._leave_lane()
                    self._test()
                else:
                    self._work()
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - whoever waits for an answer must hear it
            if not self._foreman.stopping:
                self._foreman.failed(error)

    def _work(self) -> None:
        """Do the next job, and have the one behind it sent meanwhile."""
        try:
            if not self._lane:
                self._look_is_due = False
                work = self._foreman.take(self.name, ahead=False)
                if work is not None:
                    self._begin(work)
            if self._lane:
                sent = self._lane[0]
                measurer = sent.work.measurers[self.name]
                answers = measurer.finish(sent.planned, self._send_ahead)
                self._lane.popleft()
                self._foreman.answered(self.name, sent.work, answers, measured=True)
        except (DeviceUnreachableError, LeaseLostError, UnfitBoardError) as error:
            if self._foreman.stopping:
                return
            self._leave_lane()
            self._foreman.lost(self.name, error)

    def _leave_lane(self) -> None:
        """Let go of what is on the board; others do it, unless this board is back before."""
        self._left_behind |= {one.planned.job.job_id: one.work.number for one in self._lane}
        self._lane.clear()

    def _send_ahead(self) -> None:
        """Fill the agent's queue. Called again and again while a job runs."""
        while len(self._lane) < QUEUED and not self._look_is_due:
            work = self._foreman.take(self.name, ahead=True)
            if work is None:
                return
            self._begin(work)

    def _begin(self, work: Work) -> None:
        """Answer work from the store, or put it into the lane."""
        measurer = work.measurers[self.name]
        planned = measurer.plan(work.requests, look_up=not work.together)
        if isinstance(planned, tuple):
            self._foreman.answered(self.name, work, planned, measured=False)
            return
        if measurer.is_look_due(planned, after=len(self._lane)):
            if self._lane:
                # The sentinel's time is of the moment between two jobs: none is sent ahead.
                self._look_is_due = True
                self._foreman.not_begun(work)
                return
            finding = measurer.look(planned)
            if self.tests and finding is not None and finding.state is State.SHIFTED:
                # It is no longer like the others of its pool.
                raise UnfitBoardError(finding.message)
        self._foreman.sending(self.name, work)
        if self._lane:
            measurer.send(planned)
        self._lane.append(_Sent(work=work, planned=planned))

    def _test(self) -> None:
        """Wait for the next self-test of a board that is out, and take it."""
        if not self._foreman.wait_for_test(self.name):
            return
        try:
            now = self.client.describe()
            for job_id, number in tuple(self._left_behind.items()):
                # Others have it, or had it.
                if not self._foreman.is_waiting(number):
                    self.client.cancel(job_id)
                del self._left_behind[job_id]
            for test, before in self.tests:
                test.check(self.client, now, before)
        except AbandonedError:
            raise
        except BoardfrontError as error:
            self._foreman.tested(self.name, error)
        else:
            self._foreman.tested(self.name, None)
