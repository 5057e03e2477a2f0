"""What `boardfront table show` draws: fixed parts, a heat map of blocks, whole networks' errors.

In a pipe each of them is one table, tab-separated, with all its rows.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.latency_models.table import EntryOrigin, NetworkRole
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import NetworkTime, Table, TableEntry

_COLUMNS = 8
_PLOT = 41
"""Characters of the residuals' axis; the middle one is no error."""

_LISTED = 40
_COLOURS = ("#1a6e3c", "#3f8f3a", "#8aa12f", "#c2a62b", "#d4842a", "#cf5a2c", "#b8322f")
_NOT_KNOWN = "-"


def write_fixed(table: Table) -> None:
    """Print what every network has: the call, stems, heads."""
    from boardfront.host.table import print_table

    call = (_NOT_KNOWN, _NOT_KNOWN)
    if table.base:
        call = _times(table.fixed_s, table.fixed_low_s, table.fixed_high_s)
    rows = [("call", *call, "", "")]
    rows += [
        (entry.block.text, *_entry_times(entry), _verdict(entry), str(entry.count))
        for entry in table.entries
        if entry.block.kind in {STEM, HEAD}
    ]
    print_table(
        ("fixed part", "ms", "+-ms", "verdict", "samples"),
        rows[:_LISTED] if sys.stdout.isatty() else rows,
        right={"ms", "+-ms", "samples"},
    )
    sys.stdout.write("\n")


def write_heat_map(table: Table) -> None:
    """Print a cell a block: rows are kinds, columns are places. Milliseconds."""
    from boardfront.host.table import print_pairs

    entries = {
        entry.block: entry for entry in table.entries if entry.block.kind not in {STEM, HEAD}
    }
    kinds = list(dict.fromkeys(block.kind for block in entries))
    places = list(dict.fromkeys(_place(block) for block in entries))
    if len(kinds) * len(places) > 4 * max(1, len(entries)):
        _write_slowest(list(entries.values()))
        return
    by_cell = {(entry.block.kind, _place(block)): entry for block, entry in entries.items()}
    # A pipe has no width: one table, its headings once.
    columns = _COLUMNS if sys.stdout.isatty() else max(1, len(places))
    for start in range(0, len(places), columns):
        some = places[start : start + columns]
        _write_cells(
            some,
            [(kind, [by_cell.get((kind, place)) for place in some]) for kind in kinds],
            list(entries.values()),
        )
        sys.stdout.write("\n")
    legend = []
    if any(entry.origin is not EntryOrigin.MEASURED for entry in entries.values()):
        legend.append(("~", "not measured here"))
    if any(entry.verdict is not Verdict.OK for entry in entries.values()):
        legend.append(("?", "its verdict is not ok"))
    if legend:
        print_pairs(legend)
        sys.stdout.write("\n")


def write_networks(table: Table) -> None:
    """Print each whole network's error, on a terminal on a common axis."""
    shown = [one for one in table.networks if table.covers(one.decomposition)]
    if not shown:
        return
    shown.sort(key=lambda one: (one.role is NetworkRole.CALIBRATION, one.time_s))
    if sys.stdout.isatty():
        _plot_networks(table, shown)
    else:
        _list_networks(table, shown)


def _list_networks(table: Table, shown: Sequence[NetworkTime]) -> None:
    from boardfront.host.table import print_tsv

    headings = ("network", "role", "measured ms", "predicted ms", "error", "verdict")
    rows = []
    for one in shown:
        predicted_s = table.predict_s(one.decomposition)
        times = f"{one.time_s * 1e3:.4f}", f"{predicted_s * 1e3:.4f}"
        error = f"{predicted_s / one.time_s - 1:+.1%}"
        rows.append((one.encoding, one.role.value, *times, error, one.verdict.value))
    print_tsv(headings, rows)


def _plot_networks(table: Table, shown: Sequence[NetworkTime]) -> None:
    errors = {one.encoding: table.predict_s(one.decomposition) / one.time_s - 1 for one in shown}
    reach = max(0.05, *(abs(error) for error in errors.values()))
    header = f"{-reach:+.0%}".ljust(_PLOT // 2) + "0" + f"{reach:+.0%}".rjust(_PLOT // 2)
    width = max(len(one.encoding) for one in shown)
    sys.stdout.write(f"{'predicted over measured':<{width}}  {'measured':>10}   {'error':>7}  ")
    sys.stdout.write(f"{header}\n")
    for one in shown:
        error = errors[one.encoding]
        is_doubtful = one.verdict is not Verdict.OK
        line = [" "] * (_PLOT + 1)
        line[_PLOT // 2] = "|"
        place = round((error / reach + 1) / 2 * (_PLOT - 1))
        line[place] = "o" if one.role is NetworkRole.CALIBRATION else "*"
        if is_doubtful:
            line[place + 1] = "?"
        measured = f"{text.format_time(one.time_s):>10}{'?' if is_doubtful else ' '}"
        plot = "".join(line).rstrip()
        sys.stdout.write(f"{one.encoding:<{width}}  {measured}  {error:>+7.1%}  {plot}\n")
    sys.stdout.write("* held out, o calibrated on")
    if any(one.verdict is not Verdict.OK for one in shown):
        sys.stdout.write(", ? its verdict is not ok")
    sys.stdout.write("\n")


def _verdict(entry: TableEntry) -> str:
    """Return how an entry was measured, or where it comes from."""
    is_measured = entry.origin is EntryOrigin.MEASURED
    return entry.verdict.value if is_measured else entry.origin.value


def _entry_times(entry: TableEntry) -> tuple[str, str]:
    """Return an entry's time and half of its interval's width, which an imported one lacks."""
    time_ms, half_ms = _times(entry.time_s, entry.low_s, entry.high_s)
    return time_ms, _NOT_KNOWN if entry.origin is EntryOrigin.IMPORTED else half_ms


def _times(time_s: float, low_s: float, high_s: float) -> tuple[str, str]:
    return f"{time_s * 1e3:.4f}", f"{(high_s - low_s) / 2 * 1e3:.4f}"


def _place(block: BlockKey) -> str:
    return block.text.partition(" ")[2]


def _write_cells(
    places: Sequence[str],
    rows: Sequence[tuple[str, Sequence[TableEntry | None]]],
    entries: Sequence[TableEntry],
) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from boardfront.host.table import print_tsv

    if not sys.stdout.isatty():
        print_tsv(["ms", *places], [[kind, *map(_cell, cells)] for kind, cells in rows])
        return
    shown = RichTable(box=None, pad_edge=False, title="ms a block", title_justify="left")
    shown.add_column("")
    for place in places:
        shown.add_column(place, justify="right", overflow="fold")
    for kind, cells in rows:
        shown.add_row(
            kind, *(Text(_cell(entry), style=_colour(entry, entries)) for entry in cells)
        )
    Console().print(shown)


def _cell(entry: TableEntry | None) -> str:
    if entry is None:
        return "-"
    mark = "" if entry.origin is EntryOrigin.MEASURED else "~"
    mark += "" if entry.verdict is Verdict.OK else "?"
    return f"{entry.time_s * 1e3:.4f}{mark}"


def _colour(entry: TableEntry | None, entries: Sequence[TableEntry]) -> str:
    """Return a cell's style: green is fast, red is slow, on a scale of logarithms."""
    times = [math.log(one.time_s) for one in entries if one.time_s > 0]
    if entry is None or entry.time_s <= 0 or not times:
        return ""
    low, high = min(times), max(times)
    place = 0.0 if high == low else (math.log(entry.time_s) - low) / (high - low)
    return f"white on {_COLOURS[round(place * (len(_COLOURS) - 1))]}"


def _write_slowest(entries: Sequence[TableEntry]) -> None:
    from boardfront.host.table import print_table

    slowest = sorted(entries, key=lambda entry: -entry.time_s)
    if sys.stdout.isatty():
        slowest = slowest[:_LISTED]
    print_table(
        ("block", "ms", "+-ms", "verdict"),
        [(one.block.text, *_entry_times(one), _verdict(one)) for one in slowest],
        title=f"the slowest {len(slowest)} of {len(entries)} blocks",
        right={"ms", "+-ms"},
    )
    sys.stdout.write("\n")
