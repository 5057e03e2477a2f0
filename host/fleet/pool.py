"""Several equal boards as one Measurer, which also takes requests ahead of their answers."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.board import QUEUED, Work
from boardfront.host.fleet.planned_job import room_together
from boardfront.host.fleet.self_test import Equality, Seen, SelfTest, same_kind, same_level
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from boardfront.host.fleet.board import Board
    from boardfront.host.fleet.crew import Crew
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.protos.records import DeviceDescription

BOARD_DESCRIPTION_HOLDS_S = 60.0
"""Asking a board what it is wakes it up beside the job that it times, so it is asked seldom."""


class Pool:
    """Measures on equal boards, whichever is free.

    Implements `latency_models.base.Measurer` and `latency_models.base.QueueingMeasurer`. Answers
    are in the store before they are told; they are told in the order of asking by the methods of
    Measurer, and as they come by `submit`.

    Args:
        crew: Of the boards.
        measurers: One a board, by the board's name.
        overlap: Whether this host may work while the boards do: not where one of them is this
            very machine and its times are taken by the clock.

    For one thread: the one that the crew is attended on.
    """

    def __init__(
        self, crew: Crew, measurers: Mapping[str, DeviceMeasurer], *, overlap: bool = True
    ) -> None:
        self._crew = crew
        self._measurers = dict(measurers)
        self._overlap = overlap

    @property
    def boards(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._measurers)

    @property
    def ahead(self) -> int:
        """Requests that should be under way so that no board waits; 0: one at a time."""
        return len(self._measurers) * (QUEUED + 1) if self._overlap else 0

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer the requests in order, each in a job of its own."""
        groups = ((request,) for request in requests)
        return (answers[0] for answers in self._in_order(groups, together=False))

    def measure_together(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...]:
        """Measure requests in one job on one board, see `DeviceMeasurer.measure_together`."""
        return next(self.measure_groups([requests]))

    def measure_groups(
        self, groups: Iterable[Sequence[TimeRequest]]
    ) -> Iterator[tuple[Measurement, ...]]:
        """Answer groups in order, each as `measure_together` does; boards share the groups."""
        return self._in_order(groups, together=True)

    def submit(
        self,
        request: TimeRequest,
        then: Callable[[Measurement], None],
        *,
        delay_s: float = 0.0,
        after: Measurement | None = None,
    ) -> None:
        """Have a request answered; `attend` tells `then`.

        Args:
            request: What is wanted.
            then: Told the answer.
            delay_s: Not sooner than this.
            after: The answer that was not good enough. A board that was throttled rests for
                `delay_s`; after any other verdict it does something else meanwhile.
        """
        if after is not None and _was_throttled(after):
            for name in self._named(after.device_id):
                self._crew.rest(name, delay_s)
        self._ask((request,), lambda answers: then(answers[0]), delay_s=delay_s)

    def attend(self, *, wait: bool) -> None:
        """Tell what was answered; with `wait`, until something was."""
        self._crew.attend(wait=wait)

    def _in_order(
        self, groups: Iterable[Sequence[TimeRequest]], *, together: bool
    ) -> Iterator[tuple[Measurement, ...]]:
        """Yield answers in order, and keep asking for as many as keeps all boards busy."""
        waiting: dict[int, list[tuple[Measurement, ...]]] = {}
        ahead = max(1, self.ahead)
        left = iter(groups)
        try:
            more = True
            while more or waiting:
                while more and len(waiting) < ahead:
                    group = next(left, None)
                    more = group is not None
                    if group is not None:
                        box: list[tuple[Measurement, ...]] = []
                        waiting[self._ask(group, box.append, together=together)] = box
                if not waiting:
                    return
                first = min(waiting)
                while not waiting[first]:
                    self._crew.attend(wait=True)
                yield waiting.pop(first)[0]
        finally:
            for number in waiting:
                self._crew.withdraw(number)

    def _ask(
        self,
        requests: Sequence[TimeRequest],
        then: Callable[[tuple[Measurement, ...]], None],
        *,
        together: bool = False,
        delay_s: float = 0.0,
    ) -> int:
        _check(requests)
        name = _name(requests)
        work = Work(
            number=-1,
            requests=tuple(requests),
            together=together,
            name=name,
            measurers=self._measurers,
        )
        return self._crew.submit(
            work,
            then,
            key=_key(requests),
            prefers=self._crew.board_of(name),
            not_before_s=self._crew.now_s() + delay_s,
        )

    def _named(self, device_id: str) -> list[str]:
        found = ((name, self._crew.boards[name].description) for name in self.boards)
        return [name for name, about in found if about and about.device_id == device_id]


@dataclass(frozen=True, kw_only=True, slots=True)
class Muster:
    """What came of looking at the boards that may form a pool.

    Args:
        boards: Those that are alike.
        left_out: Why the others are not.
        level: What the sentinel takes on them, for people; empty: nobody knows.
    """

    boards: tuple[Board, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    level: str = ""


def muster(boards: Sequence[Board], test: SelfTest) -> Muster:
    """Ask boards what they are and time their sentinels, all at once.

    One board alone is not compared with anything, and not timed.

    Raises:
        BoardfrontError: One board alone does not answer.
    """
    if not boards:
        return Muster(boards=())
    if len(boards) == 1:
        boards[0].description = boards[0].client.describe()
        return Muster(boards=tuple(boards))
    by_name = {board.name: board for board in boards}
    with ThreadPoolExecutor(len(boards)) as pool:
        seen = list(pool.map(_describe, boards))
        kind = same_kind(seen, test.backend)
        alike = [one for one in seen if one.name in kind.alike]
        looked = list(pool.map(lambda one: _look(by_name[one.name], one, test), alike))
        level = same_level(looked)
        if any(one.name in level.left_out and not one.error for one in looked):
            # A time that is off once may be a hiccup: all are compared once more.
            again = [one for one in looked if not one.error]
            seconds = list(pool.map(lambda one: _look(by_name[one.name], one, test), again))
            level = _merge(same_level(seconds), level, again)
    found = tuple(by_name[name] for name in level.alike)
    joined = {one.name: one for one in looked}
    for board in found:
        board.tests.append((test, joined[board.name]))
    return Muster(boards=found, left_out={**kind.left_out, **level.left_out}, level=level.level)


def _merge(second: Equality, first: Equality, again: Sequence[Seen]) -> Equality:
    """Return the second verdict on those that were looked at again, the first on the others."""
    names = {one.name for one in again}
    kept = {name: why for name, why in first.left_out.items() if name not in names}
    return replace(second, left_out={**kept, **second.left_out})


def _describe(board: Board) -> Seen:
    try:
        board.description = board.client.describe()
    except BoardfrontError as error:
        return Seen(name=board.name, error=str(error))
    return Seen(name=board.name, description=board.description)


def _look(board: Board, seen: Seen, test: SelfTest) -> Seen:
    try:
        return replace(seen, look=test.time(board.client, _described(seen)))
    except BoardfrontError as error:
        return replace(seen, error=str(error))


def _described(seen: Seen) -> DeviceDescription:
    assert seen.description is not None  # noqa: S101 - only boards of a known kind are timed
    return seen.description


def _check(requests: Sequence[TimeRequest]) -> None:
    most = room_together(requests[0].reference if requests else None)
    if not 1 <= len(requests) <= most:
        raise WrongInputError(f"{len(requests)} requests together: expected 1 to {most}")


def _key(requests: Sequence[TimeRequest]) -> str:
    """Return what is equal for requests of which one answer may do for both."""
    if len(requests) > 1 or (requests[0].fresh and not requests[0].job_seed):
        return ""
    return repr((requests[0].job_seed if requests[0].fresh else "", *_asked(requests[0])))


def _name(requests: Sequence[TimeRequest]) -> str:
    """Return what the next life of a run will call these requests too."""
    if not requests[0].job_seed:
        return ""
    parts = [requests[0].job_seed, *(repr(_asked(request)) for request in requests)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _asked(request: TimeRequest) -> tuple[object, ...]:
    return (
        request.structure_hash,
        request.backend,
        sorted(request.options.items()),
        sorted(request.input_shapes.items()),
        request.task,
        request.cpus,
    )


def _was_throttled(measurement: Measurement) -> bool:
    result = measurement.result
    if result is None:
        return False
    verdict = result.normalised.verdict if result.normalised else result.verdict
    return verdict is Verdict.THROTTLED
