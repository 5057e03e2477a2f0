"""Boards as lines of text, for screens of any width, pipes and programs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.host.view.fleet_view import BoardState, BoardView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from boardfront.host.view.fleet_view import FleetView

_TROUBLE = (BoardState.AWAY, BoardState.REFUSED, BoardState.LEFT_OUT)
_ORDER = (*_TROUBLE, BoardState.BUSY, BoardState.HELD, BoardState.FREE, BoardState.ASKING)
_UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the table of boards.

    Args:
        title: At most as wide as the column.
        of: Returns a board's cell.
        width: In characters; of a column that stretches its least.
        rank: Those of the highest are left out first where the table is narrow.
        stretches: Whether it takes a part of what is left.
        is_number: Whether it is set to the right.
    """

    title: str
    of: Callable[[BoardView], str]
    width: int
    rank: int = -1
    stretches: bool = False
    is_number: bool = True


def doing(board: BoardView) -> str:
    """Say what a board does, or why it does nothing."""
    if board.why:
        return board.why
    return "" if board.job is None else board.job.words


def _number(value: float | None, form: str = "{:.0f}") -> str:
    return _UNKNOWN if value is None else form.format(value)


def _throttled(board: BoardView) -> str:
    return {None: _UNKNOWN, True: "yes", False: "no"}[board.is_throttled]


def _verdicts(board: BoardView) -> str:
    """Count the networks whose time is ok, and all others."""
    if board.verdicts is None or board.failures is None:
        return _UNKNOWN
    good = board.verdicts.get("ok", 0)
    return f"{good}/{sum(board.verdicts.values()) - good + sum(board.failures.values())}"


COLUMNS = (
    Column(title="board", of=lambda b: b.name, width=8, is_number=False),
    Column(title="state", of=lambda b: b.state.value, width=8, is_number=False),
    Column(
        title="held by", of=lambda b: b.holder, width=9, rank=5, stretches=True, is_number=False
    ),
    Column(title="doing", of=doing, width=14, rank=1, stretches=True, is_number=False),
    Column(title="que", of=lambda b: _number(b.queued), width=3, rank=2),
    Column(title="C", of=lambda b: _number(b.temperature_c), width=3, rank=3),
    Column(title="MHz", of=lambda b: _number(_mhz(b.frequency_hz)), width=4, rank=6),
    Column(title="hot", of=_throttled, width=3, rank=7),
    Column(title="/min", of=lambda b: _number(b.jobs_per_minute, "{:.1f}"), width=5, rank=4),
    Column(title="ok/not", of=_verdicts, width=7, rank=8),
    Column(title="waiting", of=lambda b: str(len(b.waiting)), width=7, rank=9),
    Column(title="CPU", of=lambda b: _number(b.cpu_fraction, "{:.0%}"), width=4, rank=10),
    Column(title="since", of=lambda b: _clock(b.since_unix_s), width=5, rank=11),
)
"""Of the table, in order. `que`: jobs in the board's queue; `hot`: whether heat or power slow it
down; `ok/not`: networks whose times are ok, and all others, since the agent started."""

_LONGEST_NAME = 16
_WORDY = 2
"""So many columns a board that does not answer fills, the rest is why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The columns of a table that has a width, and the width of each."""

    columns: tuple[tuple[Column, int], ...]

    @property
    def titles(self) -> str:
        """The line above the boards."""
        return self._line([column.title for column, _ in self.columns])

    def row(self, board: BoardView) -> str:
        """Return a board's line."""
        if board.answers:
            return self._line([column.of(board) for column, _ in self.columns])
        widths = [width + 1 for _, width in self.columns[_WORDY:]]
        cells = [column.of(board) for column, _ in self.columns[:_WORDY]]
        return f"{self._line(cells)} {cut(doing(board), sum(widths) - 1)}"

    def _line(self, cells: Sequence[str]) -> str:
        shown = zip(cells, self.columns, strict=False)
        return " ".join(
            cut(cell, width).rjust(width) if column.is_number else cut(cell, width).ljust(width)
            for cell, (column, width) in shown
        )


def fitting(width: int, boards: Sequence[BoardView]) -> Layout:
    """Return the columns that fit into a width, one space between them."""
    names = max((len(board.name) for board in boards), default=0)
    widths = {column.title: column.width for column in COLUMNS}
    kept = list(COLUMNS)
    while len(kept) > _WORDY + 1 and _total(kept, widths) > width:
        kept.remove(max(kept, key=lambda column: column.rank))
    left = max(0, width - _total(kept, widths))
    longer = min(max(0, min(names, _LONGEST_NAME) - widths["board"]), left)
    widths["board"] += longer
    left -= longer
    stretching = [column.title for column in kept if column.stretches]
    for place, title in enumerate(reversed(stretching)):
        widths[title] += left // len(stretching) + (place < left % len(stretching))
    return Layout(columns=tuple((column, widths[column.title]) for column in kept))


def _total(columns: Sequence[Column], widths: Mapping[str, int]) -> int:
    return sum(widths[column.title] + 1 for column in columns) - 1


def _mhz(frequency_hz: float | None) -> float | None:
    return None if frequency_hz is None else frequency_hz / 1e6


def cut(line: str, width: int) -> str:
    """Return what fits of a line; what is left out is marked."""
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"


SORTS: dict[str, Callable[[BoardView], tuple[object, ...]]] = {
    "the file's order": lambda _: (),
    "state": lambda b: (_place(b.state),),
    "name": lambda b: (b.name,),
    "temperature": lambda b: (-(b.temperature_c or 0.0),),
    "jobs per minute": lambda b: (-(b.jobs_per_minute or 0.0),),
}
"""What boards can be sorted by."""


def _place(state: BoardState) -> int:
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def headline(view: FleetView) -> str:
    """Return how many boards there are, and how they stand."""
    counts = {state: sum(board.state is state for board in view.boards) for state in BoardState}
    parts = [f"{count} {state.value}" for state, count in counts.items() if count]
    number = len(view.boards)
    return f"{number} board{'' if number == 1 else 's'}: {', '.join(parts) or 'none to watch'}"


def details(board: BoardView) -> Iterator[str]:
    """Yield all that is known of a board, a line each."""
    since = "" if board.since_unix_s is None else f" since {_clock(board.since_unix_s)}"
    yield f"state        {board.state.value}{since}"
    if board.why:
        yield f"why          {board.why}"
    if board.address:
        yield f"address      {board.address}"
    if board.known:
        yield f"known        {board.known}"
    if board.answers:
        yield from _of_lease(board)
        yield from _of_work(board)
        yield from _of_sensors(board)


def _of_lease(board: BoardView) -> Iterator[str]:
    if board.holder and board.holder_since_s is not None and board.expires_in_s is not None:
        held, ends = (text.format_duration(s) for s in (board.holder_since_s, board.expires_in_s))
        yield f"held by      {board.holder}"
        yield f"             for {held}; ends in {ends} unless renewed"
    for place, name in enumerate(board.waiting, start=1):
        yield f"waiting {place:<4} {name}"


def _of_work(board: BoardView) -> Iterator[str]:
    job = board.job
    if job is not None:
        purpose = f", {job.purpose}" if job.purpose else ""
        yield f"job          {job.job_id}{purpose}"
        left = "" if job.left_s is None else f", {text.format_duration(job.left_s)} left"
        yield f"             {job.words}{left}; begun {text.format_duration(job.since_s)} ago"
    yield f"queue        {_number(board.queued)} jobs on the board"
    done = _number(board.jobs)
    yield f"done         {done} jobs, {_number(board.jobs_per_minute, '{:.1f}')} a minute"
    for title, counts in (("verdicts", board.verdicts), ("failures", board.failures)):
        if counts:
            yield f"{title:<12} {', '.join(f'{n} {name}' for name, n in sorted(counts.items()))}"


def _of_sensors(board: BoardView) -> Iterator[str]:
    heat = ", ".join(f"{name} {value:.0f} C" for name, value in board.temperatures_c.items())
    yield f"temperature  {heat or 'not readable'}"
    clocks = ", ".join(f"{name} {hz / 1e6:.0f} MHz" for name, hz in board.frequencies_hz.items())
    yield f"clocks       {clocks or 'not readable'}"
    yield f"governor     {board.governor or 'not readable'}"
    events = _number(board.throttle_events)
    yield f"slowed down  {events} events in the last minute, cooling state " + _number(
        board.cooling_state
    )
    free = board.memory_available_bytes
    free_gib = _number(None if free is None else free / 2**30, "{:.1f}")
    load, power = _number(board.cpu_fraction, "{:.0%}"), _number(board.power_w, "{:.1f}")
    yield f"load         {load} of its cores, {power} W, {free_gib} GiB of memory free"


def summary(board: BoardView, layout: Layout) -> str:
    """Return what does not fit into a board's line of a table.

    Args:
        board: Of that line.
        layout: Of the table; what it has a column for is not said again.
    """
    parts = [board.name]
    if board.why:
        parts.append(board.why)
    if board.answers:
        parts += _readings(board, layout)
    if board.holder:
        parts.append(f"held by {board.holder}")
    if board.job is not None:
        parts.append(f"job {board.job.job_id[:8]}, {board.job.words}")
    if board.waiting:
        parts.append(f"waiting: {', '.join(board.waiting)}")
    return "; ".join(parts) if len(parts) > 1 else f"{board.name}; {board.state.value}"


def _readings(board: BoardView, layout: Layout) -> Iterator[str]:
    """Yield the clock, whether something slows the board down, and what became of its jobs."""
    shown = {column.title for column, _ in layout.columns}
    if "MHz" not in shown and board.frequency_hz is not None:
        yield f"{board.frequency_hz / 1e6:.0f} MHz"
    if "hot" not in shown and board.is_throttled is not None:
        yield "slowed down by heat or power" if board.is_throttled else "not slowed down"
    counts = {**(board.verdicts or {}), **(board.failures or {})}
    if "ok/not" not in shown or len(counts) > 1:
        # The column has one number for all that is not ok.
        told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
        if told:
            yield told


def gist(board: BoardView) -> tuple[object, ...]:
    """Return what has to change before a line is worth writing.

    A board that is held goes from job to job: that is no news.
    """
    state = BoardState.HELD if board.holder and board.answers else board.state
    state = board.state if board.state is BoardState.LEFT_OUT else state
    tuned = board.job is not None and board.job.phase == "tuning"
    # How long a board has been silent is no news either.
    why = "" if board.state is BoardState.AWAY else board.why
    return (state, board.holder, len(board.waiting), board.is_throttled, tuned, why)


def line(board: BoardView) -> str:
    """Return a board as one line for people."""
    parts = [board.state.value]
    if board.why:
        parts.append(board.why)
    if board.holder:
        parts.append(f"held by {board.holder}")
    if board.waiting:
        parts.append(f"{len(board.waiting)} waiting")
    if board.job is not None:
        parts.append(board.job.words)
    if board.temperature_c is not None:
        parts.append(f"{board.temperature_c:.0f} C")
    if board.is_throttled:
        parts.append("slowed down by heat or power")
    return f"{board.name}: {', '.join(parts)}"


def to_json(board: BoardView, time_unix_s: float) -> dict[str, Any]:
    """Return a board for programs, SI units throughout."""
    return {"time_unix_s": time_unix_s, **asdict(board), "state": board.state.value}


def _clock(time_unix_s: float | None) -> str:
    return "" if time_unix_s is None else time.strftime("%H:%M", time.localtime(time_unix_s))
