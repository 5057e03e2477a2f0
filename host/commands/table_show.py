"""`boardfront table show`: a latency table for people."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from boardfront.host import text
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

    from boardfront.latency_models.predictors import Choice
    from boardfront.latency_models.table import FinalistRow, NetworkTime, Residual, TableEntry
    from boardfront.latency_models.table_parts import PredictionError

_SEARCHES = 3


def run(file: Path, *, as_json: bool, networks: bool = True) -> int:
    """Print a table.

    Raises:
        WrongInputError: There is no such table, or it is damaged.
    """
    from boardfront.host.commands.table_pictures import write_fixed, write_heat_map, write_networks

    table = Table.load(file)
    if as_json:
        content = {**to_json(table), "model": model_json(table)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    write_summary(table)
    sys.stdout.write("\n")
    write_fixed(table)
    write_heat_map(table)
    if networks:
        write_networks(table)
    _write_missing(table)
    return 0


def write_summary(table: Table) -> None:
    """Print what a table is of, and how far it can be trusted."""
    from boardfront.host.table import print_pairs

    rows = [
        ("space", f"{table.space} {_settings(table)}".rstrip()),
        ("task", _task(table)),
        *(_measured(table) if table.base else _imported(table)),
        ("blocks", _blocks(table)),
    ]
    rows += transfer_lines(table)
    rows += _trust(table)
    if table.origin is not Origin.MEASURED:
        rows.append(("origin", f"{table.origin.value}: not to be acted upon"))
    rows += [("note", note) for note in table.notes[:5]]
    print_pairs(rows)


def _measured(table: Table) -> list[tuple[str, str]]:
    """Return what a table was measured on, when and at which level."""
    base = text.format_time(table.base_s)
    span = text.format_interval(table.base_low_s, table.base_high_s)
    return [
        ("target", target_text(table)),
        ("fingerprint", table.target.fingerprint),
        ("built", _minute(table.built_unix_s)),
        ("protocol", f"measurement protocol {table.measurement_protocol_version}"),
        ("base", f"{table.base}  {base}  ({span})"),
    ]


def _imported(table: Table) -> list[tuple[str, str]]:
    """Return the same of a table that was imported: its file tells none of it."""
    return [
        ("target", f"{table.device_name}, else not known"),
        ("fingerprint", "-"),
        ("built", f"file of {_minute(table.built_unix_s)}"),
        ("protocol", "-"),
        ("base", "-"),
        ("intervals", "imported: no interval is known"),
    ]


def _minute(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


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


def residual_lines(
    residual: Residual, networks: Sequence[NetworkTime] = ()
) -> list[tuple[str, str]]:
    """Return what whole networks say of a table, as names and values.

    Args:
        residual: Of a table.
        networks: That it is of, for how many of them are not ok; empty: that is not said.
    """
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
            f"MAPE {residual.mape:.2%} on {residual.networks} networks that built nothing in it"
            f"{_doubtful(networks)} (plain sum {residual.uncalibrated_mape:.2%}, "
            f"bias {residual.bias:+.2%})",
        ),
        ("noise floor", floor),
        ("within 5 %", f"{five}, within 10 % {ten}"),
        ("worst", f"{residual.worst:+.1%} {residual.worst_encoding}"),
        ("ranks", f"{ranks}; the networks' times have a spread of {residual.spread:.1%}"),
    ]


def _doubtful(networks: Sequence[NetworkTime]) -> str:
    """Return how many of some networks have a verdict that is not ok; empty where none has."""
    count = sum(one.verdict is not Verdict.OK for one in networks)
    return f", {count} of {len(networks)} of them not ok" if count else ""


def _of_role(table: Table, role: NetworkRole) -> list[NetworkTime]:
    return [one for one in table.networks if one.role is role and table.covers(one.decomposition)]


def _trust(table: Table) -> list[tuple[str, str]]:
    rows = []
    if table.calibration is not None:
        found = table.calibration
        offset = f"{found.offset_s * 1e3:+.4g} ms"
        on = f"on {found.networks} networks{_doubtful(_of_role(table, NetworkRole.CALIBRATION))}"
        rows.append(("calibration", f"{found.slope:.4g} x sum {offset}, {on}"))
    if table.residual is None:
        rows.append(("residual", "none yet: the table is not finished"))
    else:
        rows += residual_lines(table.residual, _of_role(table, NetworkRole.HELD_OUT))
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
    day = _minute(row.measured_unix_s)
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
    from boardfront.latency_models.table_models import predictor_of

    if table.transfer is not None:
        how = "the held-out networks say how wide its intervals are"
        return [("model", f"{predictor_of(table).name}; {how}")]
    choice = _choice(table)
    if choice is None:
        return []
    head, *scores, chosen = choice.lines
    return [("model", chosen.removeprefix("chosen: ")), *(("", one) for one in (head, *scores))]


def _choice(table: Table) -> Choice | None:
    """Choose a table's model; where that takes long, say so on standard error."""
    from boardfront.host.table_features import features_of
    from boardfront.latency_models.table_models import choose_model

    features = features_of(table)
    if features is not None:
        sys.stderr.write(f"comparing models on {len(table.networks)} networks ...\n")
    return choose_model(table, features)


def model_json(table: Table) -> dict[str, object] | None:
    """Return which model whole networks speak for, and each one's error, as JSON.

    Errors are relative, e.g. 0.02. A transferred table's model is its sum: nothing is compared.

    Returns:
        None where nothing was chosen: there are too few whole networks.
    """
    from boardfront.latency_models.table_models import predictor_of

    if table.transfer is not None:
        found = predictor_of(table)
        said = {"name": found.name, "best": None, "mape": found.mape}
        return {**said, "networks": found.networks, "scores": []}
    choice = _choice(table)
    if choice is None:
        return None
    mape = next(score.mape for score in choice.scores if score.name == choice.name)
    return {
        "name": choice.name,
        "best": choice.best,
        "mape": mape,
        "networks": choice.networks,
        "scores": [asdict(score) for score in choice.scores],
    }


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
    is_known = entry.origin is not EntryOrigin.IMPORTED
    return is_known and entry.half_width_s > precision * abs(entry.time_s)


def _task(table: Table) -> str:
    task = table.task
    return f"{task.kind.value}, batch {task.batch}" + (
        f", {task.resolution}x{task.resolution}" if task.resolution else ""
    )


def _settings(table: Table) -> str:
    return " ".join(f"{name}={json.dumps(v)}" for name, v in table.space_settings.items())


def _write_missing(table: Table) -> None:
    from boardfront.host.table import print_pairs

    if table.missing:
        some = table.missing[:10] if sys.stdout.isatty() else table.missing
        more = len(table.missing) - len(some)
        rest = f" and {more} more" if more > 0 else ""
        sys.stdout.write("\n")
        print_pairs([("not measured", f"{', '.join(some)}{rest}")])
