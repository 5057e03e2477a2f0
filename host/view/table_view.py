"""What is known of a latency table while it is built, or afterwards."""

from __future__ import annotations

import enum
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.build_news import BuildNews, news_path, read_news
from boardfront.latency_models.table import EntryOrigin, Table, target_text
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_SILENT_S = 900.0
"""News of another machine, whose process is not seen, count for so long."""


class TableState(enum.Enum):
    """How a table stands."""

    BUILDING = "building"
    STOPPED = "not finished"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableView:
    """A table at one moment.

    Args:
        path: Its file.
        state: How it stands.
        time_unix_s: When this was so.
        table: What is in the file; None: nothing was measured yet.
        news: Of the build; None: nobody builds it.
        verdicts: Measured blocks and networks, by verdict.
    """

    path: Path
    state: TableState
    time_unix_s: float
    table: Table | None = None
    news: BuildNews | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_s(self) -> float | None:
        """What the rest of this round is expected to take; None: nobody knows."""
        news = self.news
        if self.state is not TableState.BUILDING or news is None or news.left_s is None:
            return None
        return max(0.0, news.left_s - (self.time_unix_s - news.time_unix_s))


class TableFollower:
    """Looks at a table's file again and again; nothing is locked or written. For one thread.

    Args:
        path: The table's file; it need not be there as long as somebody builds it.
        clock: Unix time, seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._table: Table | None = None

    def poll(self) -> TableView:
        """Return all that is known; the file is read only when it has changed.

        Raises:
            WrongInputError: There is neither a table nor a build, or the table is damaged.
        """
        self._read()
        news, now_s = read_news(self._path), self._clock()
        if self._table is None and news is None:
            raise WrongInputError(
                f"no table {self._path}, and no build of it: expected one of them; start it by "
                f"boardfront table build ... -o {self._path}"
            )
        return TableView(
            path=self._path,
            state=_state(self._table, news, now_s),
            time_unix_s=now_s,
            table=self._table,
            news=news,
            verdicts=_verdicts(self._table),
        )

    def _read(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            self._table = self._seen = None
            return
        seen = found.st_mtime_ns, found.st_size
        if seen != self._seen:
            self._table = Table.load(self._path)
            self._seen = seen


def _state(table: Table | None, news: BuildNews | None, now_s: float) -> TableState:
    if news is not None:
        is_alive = news.is_alive
        if is_alive is None:
            is_alive = now_s - news.time_unix_s < _SILENT_S
        if is_alive:
            return TableState.BUILDING
    is_finished = table is not None and table.is_finished
    return TableState.FINISHED if is_finished else TableState.STOPPED


def _verdicts(table: Table | None) -> dict[str, int]:
    if table is None:
        return {}
    measured = [one.verdict for one in table.entries if one.origin is EntryOrigin.MEASURED]
    return dict(Counter(one.value for one in [*measured, *(n.verdict for n in table.networks)]))


def headline(view: TableView) -> str:
    """Return the table's name, how it stands, and what it does."""
    news = view.news
    parts = [view.path.name, view.state.value]
    if view.state is TableState.BUILDING and news is not None:
        parts.append(_round(news))
    return "  ".join(parts)


def progress(view: TableView) -> tuple[int, int, str]:
    """Return looks that are done, looks in all, and how long the rest takes, in words."""
    news = view.news
    if view.state is not TableState.BUILDING or news is None or news.round_number is None:
        return 0, 0, ""
    left = "" if view.left_s is None else f"about {text.format_duration(view.left_s)} more"
    return news.done, news.total, left


def lines(view: TableView) -> Iterator[tuple[str, str]]:
    """Yield what is known as names and values."""
    yield from _of_news(view)
    if view.table is not None:
        yield from _of_table(view.table)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(view.verdicts.items()))
    yield "verdicts", counts or "none yet"
    news = view.news
    if news is not None and news.note:
        yield "last look", news.note
    if view.state is TableState.STOPPED:
        yield "go on", f"the same boardfront table {_command(view.table)} ... -o {view.path}"
        if news is not None:
            yield "note", f"the build ended without a word ({news_path(view.path).name} is left)"


def _command(table: Table | None) -> str:
    """Return the command that goes on with a table; the other one refuses its file."""
    return "build" if table is None or table.transfer is None else "transfer"


def _of_news(view: TableView) -> Iterator[tuple[str, str]]:
    news = view.news
    if view.state is not TableState.BUILDING or news is None:
        return
    rate = "" if news.per_minute is None else f", {news.per_minute:.1f} a minute"
    yield "blocks", f"{news.entries} of {news.blocks} have a time{rate}"
    used_s = view.time_unix_s - news.began_unix_s
    used = text.format_duration(used_s)
    if news.budget_s is None:
        yield "time", f"{used} so far; no budget"
    else:
        yield "budget", f"{used} of {text.format_duration(news.budget_s)} used"
    silent_s = view.time_unix_s - news.time_unix_s
    yield "last news", f"{text.format_duration(silent_s)} ago"


def _of_table(table: Table) -> Iterator[tuple[str, str]]:
    measured = sum(one.origin is EntryOrigin.MEASURED for one in table.entries)
    others = len(table.entries) - measured
    estimated = f", {others} estimated" if others else ""
    yield "table", f"{measured} blocks measured{estimated}, {len(table.missing)} missing"
    yield "networks", f"{len(table.networks)} measured whole"
    if table.base:
        span = text.format_interval(table.base_low_s, table.base_high_s)
        yield "base", f"{table.base}  {text.format_time(table.base_s)}  ({span})"
    if table.residual is not None:
        found = table.residual
        yield (
            "residual",
            f"MAPE {found.mape:.2%} on {found.networks} networks that built nothing in it",
        )
    yield "target", f"{table.device_name}: {target_text(table)}"
    yield "space", f"{table.space}, {table.task.kind.value}, batch {table.task.batch}"
    for note in table.notes[:3]:
        yield "note", note


def _round(news: BuildNews) -> str:
    if news.round_number is None:
        return "waiting for the device"
    return "coarse round" if news.round_number == 0 else f"refining, round {news.round_number}"
