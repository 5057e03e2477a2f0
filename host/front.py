"""The front of a finished run: its records, its files, and whether its order held."""

from __future__ import annotations

import csv
import enum
import io
import json
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.latency_models import strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from boardfront.host.finalists import WholeTime
    from boardfront.latency_models.table import FinalistRow
    from boardfront.search.evaluation import Latency
    from boardfront.search.space import Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontMember:
    """One network that can be shipped.

    Args:
        index: Its place in the front, from 0, fastest first.
        encoding: The architecture.
        counts: Its size.
        validation_accuracy: By which it was searched, a fraction.
        test_accuracy: Of images that no choice was made on, a fraction.
        searched: Times by which it was searched, by target.
        whole: Times of the network as it would be deployed, by target.
        over_limit: Targets whose hard limit the re-measured time breaks, by however little.
        limits_s: The hard limits, seconds, by target.
        model: Its ONNX file, relative to the run's folder.
    """

    index: int
    encoding: str
    counts: Counts
    validation_accuracy: float
    test_accuracy: float
    searched: Mapping[str, Latency]
    whole: Mapping[str, WholeTime]
    over_limit: tuple[str, ...] = ()
    limits_s: Mapping[str, float] = field(default_factory=dict)
    model: str = ""

    def difference(self, target: str) -> float | None:
        """Return searched over re-measured time, less 1; None where one of them is missing."""
        searched, whole = self.searched.get(target), self.whole.get(target)
        if searched is None or whole is None or whole.latency is None:
            return None
        return searched.median_s / whole.latency.median_s - 1

    def excess(self, target: str) -> float | None:
        """Return by how much the re-measured time is over the limit, relative; None: it is not."""
        whole = self.whole.get(target)
        if target not in self.over_limit or whole is None or whole.latency is None:
            return None
        limit_s = self.limits_s.get(target)
        return None if limit_s is None else whole.latency.median_s / limit_s - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TableUse:
    """What a search went by on a target where it did not measure.

    Args:
        name: The table, as the experiment file gives it.
        model: What predicted, e.g. "additive, calibrated".
        model_mape: Its mean error on whole networks left out; None where these are too few.
        residual_mape: The table's, on networks that built nothing in it; None: it has none.
        finalists: How far the predictions were from the finalists, which were chosen by them;
            None where none was measured.
    """

    name: str
    model: str
    model_mape: float | None = None
    residual_mape: float | None = None
    finalists: FinalistRow | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderAgreement:
    """Whether re-measured times stand in the searched order, over all pairs of members.

    A pair is `within` when its order changed but one of the two measurements could not tell the
    two apart (their intervals overlap); `broken` when both could and they disagree.
    """

    same: int
    within: int
    broken: int


_LEVEL_TOLD = 0.005
"""From here on the error at the table's level differs from the other one to be seen."""


class AccuracyOf(enum.Enum):
    """Which weights the accuracies on a front are those of."""

    SUPERNET = "supernet"
    SHORT_TRAINING = "short-training"


_EXPLAINED = {
    AccuracyOf.SUPERNET: "of the supernet's inherited weights after batch-norm recalibration",
    AccuracyOf.SHORT_TRAINING: "of each network's own weights after a short training from scratch",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontReport:
    """What a run ends with."""

    name: str
    targets: tuple[str, ...]
    evaluations: int
    failures: int
    members: tuple[FrontMember, ...]
    agreement: Mapping[str, OrderAgreement] = field(default_factory=dict)
    accuracy_of: AccuracyOf = AccuracyOf.SUPERNET
    tables: Mapping[str, TableUse] = field(default_factory=dict)


def order_agreement(members: Sequence[FrontMember], target: str) -> OrderAgreement:
    """Compare the searched and the re-measured order on one target."""
    same = within = broken = 0
    pairs = [
        (member.searched[target], member.whole[target].latency)
        for member in members
        if target in member.searched and target in member.whole
    ]
    for (searched_a, whole_a), (searched_b, whole_b) in combinations(pairs, 2):
        if whole_a is None or whole_b is None:
            continue
        if (searched_a.median_s - searched_b.median_s) * (whole_a.median_s - whole_b.median_s) > 0:
            same += 1
        elif _overlap(searched_a, searched_b) or _overlap(whole_a, whole_b):
            within += 1
        else:
            broken += 1
    return OrderAgreement(same=same, within=within, broken=broken)


def write_json(path: Path, report: FrontReport) -> None:
    """Write everything known of the front, seconds and fractions throughout."""
    _write(path, json.dumps(to_json(report), indent=2) + "\n")


def to_json(report: FrontReport) -> dict[str, Any]:
    """Return the front as plain values."""
    encoded = strict_json.encode(report)
    assert isinstance(encoded, dict)  # noqa: S101 - a record encodes to a dict
    return {"format": 1, **encoded}


def write_csv(path: Path, report: FrontReport) -> None:
    """Write the front as a table, one row a member, units in the header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["index", "encoding", "params", "macs", "activations"]
    header += ["validation_accuracy", "test_accuracy"]
    for target in report.targets:
        header += [
            f"{target}_searched_s",
            f"{target}_searched_low_s",
            f"{target}_searched_high_s",
            f"{target}_searched_verdict",
            f"{target}_median_s",
            f"{target}_low_s",
            f"{target}_high_s",
            f"{target}_verdict",
            f"{target}_raw_median_s",
            f"{target}_difference",
            f"{target}_over_limit",
        ]
    writer.writerow([*header, "model"])
    for member in report.members:
        writer.writerow(_csv_row(member, report.targets))
    _write(path, buffer.getvalue())


def table_rows(
    report: FrontReport, *, target: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the front on one target, formatted for people.

    Where times were predicted, it is said how far the prediction is off: over the re-measured
    time, less 1.
    """
    is_predicted = target in report.tables
    headings = (
        "#",
        "encoding",
        "params",
        "MACs",
        "val. acc.",
        "test acc.",
        *(("predicted", "re-measured", "off by") if is_predicted else ("searched", "re-measured")),
        "95 % interval",
        "verdict",
    )
    rows = [_row(member, target, is_predicted=is_predicted) for member in report.members]
    return headings, rows


def summary(report: FrontReport) -> list[str]:
    """Return sentences about the run, for the report and the terminal."""
    lines = [
        f"{report.evaluations} candidates scored, {report.failures} failed, "
        f"{len(report.members)} on the front"
    ]
    for target, agreement in report.agreement.items():
        pairs = agreement.same + agreement.within + agreement.broken
        lines.append(
            f"order of latency on {target}: {agreement.same} of {pairs} pairs as searched, "
            f"{agreement.within} changed within their intervals, {agreement.broken} beyond them"
        )
    for target, use in report.tables.items():
        lines += _about_table(target, use)
    for target in report.targets:
        lines += _about_limit(report.members, target)
    for member in report.members:
        lines.extend(
            f"member {member.index} could not be re-measured on {target}: {whole.failure.message}"
            for target, whole in member.whole.items()
            if whole.failure is not None
        )
    return lines


def write_report(path: Path, report: FrontReport, *, folder: str) -> None:
    """Write the front for people."""
    lines = [f"boardfront: {report.name}", "", *summary(report)]
    for target in report.targets:
        headings, rows = table_rows(report, target=target)
        lines += ["", f"target {target}", *_columns([headings, *rows])]
    lines += [
        "",
        f"models in {folder}/models, raw measurements in {folder}/measurements.jsonl",
        f"accuracy: {_EXPLAINED[report.accuracy_of]};",
        "test images were not seen before the front was final",
    ]
    _write(path, "\n".join(lines) + "\n")


def _about_table(target: str, use: TableUse) -> list[str]:
    """Say what predictions were worth where it counts, beside what they are worth elsewhere."""
    row = use.finalists
    if row is None:
        return [f"times on {target} were predicted by {use.model}; no finalist was measured"]
    error = row.error
    elsewhere = "" if use.model_mape is None else f"; {use.model_mape:.1%} on networks left out"
    lines = [
        f"times on {target} were predicted by {use.model}: off by {error.mape:.1%} on "
        f"{error.networks} finalists (bias {error.bias:+.1%}, worst {error.worst:+.1%}, "
        f"{row.inside} inside their intervals), which were chosen by it{elsewhere}"
    ]
    if row.level is not None and row.at_level is not None and abs(row.level - 1) >= _LEVEL_TOLD:
        lines.append(
            f"the table's base took {row.level:.3f} times as long as in the table on {target}: at "
            f"its level the predictions are off by {row.at_level.mape:.1%} (bias "
            f"{row.at_level.bias:+.1%})"
        )
    return [*lines, *(f"forced on {target}: {mark}" for mark in row.forced)]


def _about_limit(members: Sequence[FrontMember], target: str) -> list[str]:
    over = [member for member in members if target in member.over_limit]
    if not over:
        return []
    by = [(member.index, member.excess(target)) for member in over]
    listed = ", ".join(
        f"member {index}" + ("" if excess is None else f" by {excess:.1%}") for index, excess in by
    )
    return [f"over the limit on {target}: {len(over)} of {len(members)} ({listed})"]


def _row(member: FrontMember, target: str, *, is_predicted: bool) -> tuple[str, ...]:
    searched, whole = member.searched.get(target), member.whole.get(target)
    latency = whole.latency if whole else None
    verdict = latency.word if latency else "failed"
    if target in member.over_limit:
        excess = member.excess(target)
        verdict += ", over limit" + ("" if excess is None else f" by {excess:.1%}")
    off = member.difference(target)
    difference = ("-" if off is None else f"{off:+.1%}",) if is_predicted else ()
    return (
        str(member.index),
        member.encoding,
        text.format_count(member.counts.params),
        text.format_count(member.counts.macs),
        f"{member.validation_accuracy:.2%}",
        f"{member.test_accuracy:.2%}",
        _predicted(searched) if is_predicted else _searched(searched),
        text.format_time(latency.median_s) if latency else "-",
        *difference,
        text.format_interval(latency.low_s, latency.high_s) if latency else "-",
        verdict,
    )


def _searched(latency: Latency | None) -> str:
    return "-" if latency is None else text.format_latency(latency)


def _predicted(latency: Latency | None) -> str:
    if latency is None:
        return "-"
    return f"{text.format_time(latency.median_s)} +-{latency.relative_half_width:.1%}"


def _csv_row(member: FrontMember, targets: Sequence[str]) -> list[object]:
    row: list[object] = [
        member.index,
        member.encoding,
        member.counts.params,
        member.counts.macs,
        member.counts.activations,
        member.validation_accuracy,
        member.test_accuracy,
    ]
    for target in targets:
        searched, whole = member.searched.get(target), member.whole.get(target)
        latency = whole.latency if whole else None
        row += _csv_searched(searched) if searched else [""] * 4
        row += _csv_latency(latency) if latency else ["", "", "", "failed", ""]
        off = member.difference(target)
        row.append("" if off is None else off)
        row.append("yes" if target in member.over_limit else "no")
    return [*row, member.model]


def _csv_searched(latency: Latency) -> list[object]:
    return [latency.median_s, latency.low_s, latency.high_s, latency.word]


def _csv_latency(latency: Latency) -> list[object]:
    raw_s = latency.raw_median_s
    return [
        latency.median_s,
        latency.low_s,
        latency.high_s,
        latency.word,
        "" if raw_s is None else raw_s,
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _overlap(a: Latency, b: Latency) -> bool:
    return a.low_s <= b.high_s and b.low_s <= a.high_s


def _write(path: Path, content: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(content, encoding="utf-8")
    part.replace(path)
