"""`boardfront table show`: a latency table for people."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.latency_models.table import (
    EntryOrigin,
    NetworkRole,
    Table,
    target_text,
    to_json,
)
from boardfront.protos.records import Origin, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import FinalistRow, Residual, TableEntry
    from boardfront.latency_models.table_parts import PredictionError

_COLUMNS = 8
_PLOT = 41
"""Characters of the residuals' axis; the middle one is no error."""

_LISTED = 40
_SEARCHES = 3
_COLOURS = ("#1a6e3c", "#3f8f3a", "#8aa12f", "#c2a62b", "#d4842a", "#cf5a2c", "#b8322f")


def run(file: Path, *, as_json: bool, networks: bool = True) -> int:
    """Print a table.

    Raises:
        WrongInputError: There is no such table, or it is damaged.
    """
    table = Table.load(file)
    if as_json:
        sys.stdout.write(json.dumps(to_json(table), indent=2) + "\n")
        return 0
    write_summary(table)
    sys.stdout.write("\n")
    _write_fixed(table)
    _write_heat_map(table)
    if networks:
        _write_networks(table)
    _write_missing(table)
    return 0


def write_summary(table: Table) -> None:
    """Print what a table is of, and how far it can be trusted."""
    from boardfront.host.table import print_pairs

    rows = [
        ("space", f"{table.space} {_settings(table)}".rstrip()),
        ("task", _task(table)),
        ("target", target_text(table)),
        ("fingerprint", table.target.fingerprint),
        ("built", time.strftime("%Y-%m-%d %H:%M", time.localtime(table.built_unix_s))),
        ("protocol", f"measurement protocol {table.measurement_protocol_version}"),
        ("blocks", _blocks(table)),
    ]
    if table.base:
        base = text.format_time(table.base_s)
        rows.append(
            ("base", f"{table.base}  {base}  ({_interval(table.base_low_s, table.base_high_s)})")
        )
    rows += transfer_lines(table)
    rows += _trust(table)
    if table.origin is not Origin.MEASURED:
        rows.append(("origin", f"{table.origin.value}: not to be acted upon"))
    rows += [("note", note) for note in table.notes[:5]]
    print_pairs(rows)


def transfer_lines(table: Table) -> list[tuple[str, str]]:
    """Return which table a transferred one came from, and whether it was worth it."""
    origin = table.transfer
    if origin is None:
        return []
    on = f"on {origin.networks} networks" if origin.networks else "not yet: too few networks"
    own = "" if origin.mape is None else f", residual MAPE {origin.mape:.2%}"
    rows = [
        ("transferred", f"from {origin.file}, {on}"),
        ("", f"of {origin.target}, {origin.task}{own}"),
        ("", f"digest {origin.digest}"),
    ]
    width = max((len(one.name) for one in origin.rivals), default=0)
    for number, one in enumerate(origin.rivals):
        ranks = "" if one.spearman is None else f", Spearman {one.spearman:.3f}"
        error = (
            f"{one.name:<{width}}  MAPE {one.mape:.2%}, within 5 % {one.within_5:.0%}, within "
            f"10 % {one.within_10:.0%}{ranks}"
        )
        rows.append(("" if number else "held out", error))
    return rows


def residual_lines(residual: Residual) -> list[tuple[str, str]]:
    """Return what whole networks say of a table, as names and values."""
    five = f"{residual.within_5:.0%} ({residual.within_5_low:.0%}-{residual.within_5_high:.0%})"
    ten = f"{residual.within_10:.0%} ({residual.within_10_low:.0%}-{residual.within_10_high:.0%})"
    floor = "unknown: nothing was repeated"
    if residual.noise_floor is not None:
        floor = f"{residual.noise_floor:.2%} ({residual.repeats} repeats)"
    ranks = "cannot be told"
    if residual.spearman is not None and residual.kendall is not None:
        ranks = f"Spearman {residual.spearman:.3f}, Kendall {residual.kendall:.3f}"
    return [
        (
            "residual",
            f"MAPE {residual.mape:.2%} on {residual.networks} networks that built nothing in it "
            f"(plain sum {residual.uncalibrated_mape:.2%}, bias {residual.bias:+.2%})",
        ),
        ("noise floor", floor),
        ("within 5 %", f"{five}, within 10 % {ten}"),
        ("worst", f"{residual.worst:+.1%} {residual.worst_encoding}"),
        ("ranks", f"{ranks}; the networks' times have a spread of {residual.spread:.1%}"),
    ]


def _trust(table: Table) -> list[tuple[str, str]]:
    rows = []
    if table.calibration is not None:
        found = table.calibration
        offset = f"{found.offset_s * 1e3:+.4g} ms"
        rows.append(
            ("calibration", f"{found.slope:.4g} x sum {offset}, on {found.networks} networks")
        )
    if table.residual is None:
        rows.append(("residual", "none yet: the table is not finished"))
    else:
        rows += residual_lines(table.residual)
    return [*rows, *finalist_lines(table.finalists), *_model(table)]


def finalist_lines(rows: Sequence[FinalistRow]) -> list[tuple[str, str]]:
    """Return what the finalists of the last searches say of a table, as names and values."""
    if not rows:
        return []
    found = []
    for row in rows[-_SEARCHES:]:
        found += _finalist_lines(row)
    more = len(rows) - _SEARCHES
    before = f"; {more} earlier searches are in the file" if more > 0 else ""
    name = "selected"
    why = "chosen by these predictions, so not to be pooled with the residual"
    return [*found, (name, f"finalists are {why}{before}")]


def _finalist_lines(row: FinalistRow) -> list[tuple[str, str]]:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.measured_unix_s))
    error = row.error
    ranks = "" if error.spearman is None else f", Spearman {error.spearman:.3f}"
    lines = [
        ("finalists", f"{_error(error)}, {row.run} on {row.target}, {day}, by {row.model}"),
        (
            "",
            f"within 5 % {error.within_5:.0%}, 10 % {error.within_10:.0%}, in their intervals "
            f"{row.inside} of {error.networks}, worst {error.worst:+.1%} "
            f"{error.worst_encoding}{ranks}",
        ),
    ]
    if row.level is not None and row.at_level is not None:
        level = f"the base took {row.level:.3f} times as long"
        lines.append(("", f"{level}: at its level {_error(row.at_level)}"))
    if row.over_limit:
        lines.append(("", f"{row.over_limit} of {error.networks} were over the search's limit"))
    lines += [("", f"forced: {mark}") for mark in row.forced]
    return lines


def _error(error: PredictionError) -> str:
    return f"MAPE {error.mape:.2%} on {error.networks} (bias {error.bias:+.2%})"


def _model(table: Table) -> list[tuple[str, str]]:
    """Return which model whole networks speak for, each one's error beside it."""
    from boardfront.host.table_features import features_of
    from boardfront.latency_models.table_models import choose_model, predictor_of

    if table.transfer is not None:
        how = "the held-out networks say how wide its intervals are"
        return [("model", f"{predictor_of(table).name}; {how}")]
    features = features_of(table)
    if features is not None:
        sys.stderr.write(f"comparing models on {len(table.networks)} networks ...\n")
    choice = choose_model(table, features)
    if choice is None:
        return []
    head, *scores, chosen = choice.lines
    return [("model", chosen.removeprefix("chosen: ")), *(("", one) for one in (head, *scores))]


def _blocks(table: Table) -> str:
    of = len(table.entries) + len(table.missing)
    known = f"{len(table.entries)} of {of}"
    doubtful = sum(entry.verdict is not Verdict.OK for entry in table.entries)
    coarse = sum(_is_coarse(entry, table.precision) for entry in table.entries)
    said = [known]
    for origin in EntryOrigin:
        made = sum(entry.origin is origin for entry in table.entries)
        if made and origin is not EntryOrigin.MEASURED:
            said.append(f"{made} {origin.value}, not measured here")
    if doubtful:
        said.append(f"{doubtful} not ok")
    if coarse:
        said.append(f"{coarse} wider than +-{table.precision:.0%}")
    return ", ".join(said)


def _is_coarse(entry: TableEntry, precision: float) -> bool:
    return entry.half_width_s > precision * abs(entry.time_s)


def _task(table: Table) -> str:
    task = table.task
    return f"{task.kind.value}, batch {task.batch}" + (
        f", {task.resolution}x{task.resolution}" if task.resolution else ""
    )


def _settings(table: Table) -> str:
    return " ".join(f"{name}={json.dumps(v)}" for name, v in table.space_settings.items())


def _interval(low_s: float, high_s: float) -> str:
    return text.format_interval(low_s, high_s)


def _write_fixed(table: Table) -> None:
    """Print what every network has: the call, stems, heads."""
    from boardfront.host.table import print_table

    rows = [("call", *_times(table.fixed_s, table.fixed_low_s, table.fixed_high_s), "", "")]
    rows += [
        (
            entry.block.text,
            *_times(entry.time_s, entry.low_s, entry.high_s),
            _verdict(entry),
            str(entry.count),
        )
        for entry in table.entries
        if entry.block.kind in {STEM, HEAD}
    ]
    print_table(
        ("fixed part", "ms", "+-ms", "verdict", "samples"),
        rows[:_LISTED],
        right={"ms", "+-ms", "samples"},
    )
    sys.stdout.write("\n")


def _verdict(entry: TableEntry) -> str:
    """Return how an entry was measured, or where it comes from."""
    is_measured = entry.origin is EntryOrigin.MEASURED
    return entry.verdict.value if is_measured else entry.origin.value


def _times(time_s: float, low_s: float, high_s: float) -> tuple[str, str]:
    return f"{time_s * 1e3:.4f}", f"{(high_s - low_s) / 2 * 1e3:.4f}"


def _write_heat_map(table: Table) -> None:
    """Print a cell a block: rows are kinds, columns are places. Milliseconds."""
    entries = {
        entry.block: entry for entry in table.entries if entry.block.kind not in {STEM, HEAD}
    }
    kinds = list(dict.fromkeys(block.kind for block in entries))
    places = list(dict.fromkeys(_place(block) for block in entries))
    if len(kinds) * len(places) > 4 * max(1, len(entries)):
        _write_slowest(list(entries.values()))
        return
    by_cell = {(entry.block.kind, _place(block)): entry for block, entry in entries.items()}
    for start in range(0, len(places), _COLUMNS):
        some = places[start : start + _COLUMNS]
        _write_cells(
            some,
            [(kind, [by_cell.get((kind, place)) for place in some]) for kind in kinds],
            list(entries.values()),
        )
        sys.stdout.write("\n")
    if any(entry.origin is not EntryOrigin.MEASURED for entry in entries.values()):
        sys.stdout.write("~ not measured here\n\n")


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

    console = Console()
    if not console.is_terminal:
        lines = [["ms", *places]]
        lines += [[kind, *(_cell(entry) for entry in cells)] for kind, cells in rows]
        sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
        return
    shown = RichTable(box=None, pad_edge=False, title="ms a block", title_justify="left")
    shown.add_column("")
    for place in places:
        shown.add_column(place, justify="right", overflow="fold")
    for kind, cells in rows:
        shown.add_row(
            kind, *(Text(_cell(entry), style=_colour(entry, entries)) for entry in cells)
        )
    console.print(shown)


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

    slowest = sorted(entries, key=lambda entry: -entry.time_s)[:_LISTED]
    print_table(
        ("block", "ms", "+-ms", "verdict"),
        [
            (one.block.text, *_times(one.time_s, one.low_s, one.high_s), _verdict(one))
            for one in slowest
        ],
        title=f"the slowest {len(slowest)} of {len(entries)} blocks",
        right={"ms", "+-ms"},
    )
    sys.stdout.write("\n")


def _write_networks(table: Table) -> None:
    """Print each whole network's error on a common axis."""
    shown = [one for one in table.networks if table.covers(one.decomposition)]
    if not shown:
        return
    errors = {one.encoding: table.predict_s(one.decomposition) / one.time_s - 1 for one in shown}
    reach = max(0.05, *(abs(error) for error in errors.values()))
    header = f"{-reach:+.0%}".ljust(_PLOT // 2) + "0" + f"{reach:+.0%}".rjust(_PLOT // 2)
    width = max(len(one.encoding) for one in shown)
    sys.stdout.write(f"{'predicted over measured':<{width}}  {'measured':>10}  {'error':>7}  ")
    sys.stdout.write(f"{header}\n")
    for one in sorted(shown, key=lambda one: (one.role is NetworkRole.CALIBRATION, one.time_s)):
        error = errors[one.encoding]
        mark = "o" if one.role is NetworkRole.CALIBRATION else "*"
        line = [" "] * _PLOT
        line[_PLOT // 2] = "|"
        line[round((error / reach + 1) / 2 * (_PLOT - 1))] = mark
        measured = text.format_time(one.time_s)
        plot = "".join(line).rstrip()
        sys.stdout.write(f"{one.encoding:<{width}}  {measured:>10}  {error:>+7.1%}  {plot}\n")
    sys.stdout.write("* held out, o calibrated on\n")


def _write_missing(table: Table) -> None:
    if table.missing:
        some = ", ".join(table.missing[:10])
        more = len(table.missing) - 10
        rest = f" and {more} more" if more > 0 else ""
        sys.stdout.write(f"\nnot measured: {some}{rest}\n")
