"""The rows of a report's tables: cells as text, ready for a page, for Markdown, for JSON."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the records' fields
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.host.report import reproduce, words
from boardfront.host.report.findings import limit_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boardfront.host.report.circumstances import Surroundings
    from boardfront.host.report.findings import Findings, Member, MemberTime
    from boardfront.host.view.run_view import CandidateView

MISSING = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeCells:
    """A member's time on one target.

    Args:
        searched: With its verdict where that is not ok.
        time: The best there is: re-measured, else searched.
        interval: 95 %, of that time.
        trust: Whether to act on it, and why not.
        is_trusted: The same as a flag.
        limit: Whether the hard limit is kept; MISSING where there is none.
        is_broken: Whether it is not.
    """

    searched: str
    time: str
    interval: str
    trust: str
    is_trusted: bool
    limit: str
    is_broken: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontRow:
    """A member of the front. `key` links it to its points; `marks` as `export --pick` has them."""

    key: int
    index: int
    encoding: str
    marks: str
    params: str
    macs: str
    validation: str
    test: str
    times: Mapping[str, TimeCells]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontColumns:
    """The front's columns: targets, each one's hard limit (empty: none), test accuracies."""

    targets: tuple[str, ...]
    limits: Mapping[str, str]
    has_tests: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateRow:
    """A candidate: (text, value to sort by) of each cell, and whether it is on the front."""

    key: int
    is_on_front: bool
    cells: tuple[tuple[str, float | str], ...]


def front_rows(found: Findings) -> list[FrontRow]:
    """Return the front, in order of its numbers."""
    return [_front_row(member) for member in found.members]


def front_columns(found: Findings) -> FrontColumns:
    """Return which columns the front's table has."""
    limits = {target: limit_s(found.view, target) for target in found.targets}
    return FrontColumns(
        targets=found.targets,
        limits={t: "" if one is None else text.format_time(one) for t, one in limits.items()},
        has_tests=any(member.test_accuracy is not None for member in found.members),
    )


def candidate_headings(found: Findings) -> tuple[str, ...]:
    """Return the headings of the candidates' table."""
    return ("evaluation", "generation", "encoding", "validation accuracy", *found.targets, "state")


def candidate_rows(
    candidates: Iterable[CandidateView], targets: Sequence[str]
) -> list[CandidateRow]:
    """Return the candidates in order of evaluation."""
    rows = []
    for one in candidates:
        cells: list[tuple[str, float | str]] = [
            (str(one.index), one.index),
            (str(one.generation), one.generation),
            (one.encoding, one.encoding),
            (MISSING, -1.0) if one.accuracy is None else (f"{one.accuracy:.2%}", one.accuracy),
        ]
        for target in targets:
            latency = one.latencies.get(target)
            cells.append(
                (text.format_latency(latency), latency.median_s) if latency else (MISSING, 1e9)
            )
        state = "front" if one.is_on_front else "scored"
        if one.failure is not None:
            state = f"failed: {one.failure.kind.value if one.failure.kind else 'no score'}"
        cells.append((state, state))
        rows.append(CandidateRow(key=one.index, is_on_front=one.is_on_front, cells=tuple(cells)))
    return rows


def circumstance_rows(surroundings: Sequence[Surroundings]) -> list[tuple[str, list[str]]]:
    """Return what measurements were taken in: a name, then one cell an entry."""
    rows: list[tuple[str, list[str]]] = [
        ("device", [one.device for one in surroundings]),
        ("backend", [one.backend for one in surroundings]),
        ("options", [one.options or MISSING for one in surroundings]),
        ("task", [one.task for one in surroundings]),
        ("cores", [one.cpus or "the device's default" for one in surroundings]),
        ("origin of times", [one.origin for one in surroundings]),
        (
            "measurements",
            [
                f"{one.measurements}" + (f", {one.failures} failed" if one.failures else "")
                for one in surroundings
            ],
        ),
        ("verdicts as measured", [words.verdict_words(one.verdicts) for one in surroundings]),
        ("governor", [", ".join(one.governors) or "not readable" for one in surroundings]),
    ]
    names = dict.fromkeys(name for one in surroundings for name in one.readings)
    rows += [(name, [_spread(one, name) for one in surroundings]) for name in names]
    rows += [
        (name, ["not readable"] * len(surroundings))
        for name in ("frequency (MHz)", "temperature (C)")
        if name not in names
    ]
    rows += [
        (
            "throttle events",
            [
                "not readable" if one.throttle_events is None else str(one.throttle_events)
                for one in surroundings
            ],
        ),
        ("fingerprint", [one.fingerprint for one in surroundings]),
        ("agent", [one.agent_version for one in surroundings]),
    ]
    return rows if surroundings else []


def to_json(found: Findings) -> dict[str, Any]:
    """Return the report's values: seconds and fractions, None where nothing is known."""
    view = found.view
    return {
        "format": 1,
        "run": view.name,
        "folder": str(view.folder),
        "state": view.state.value,
        "found": words.headline(found),
        "evaluations": {
            "done": len(view.candidates),
            "asked": view.evaluations,
            "failed": len(view.candidates) - found.scored,
        },
        "front": [_member_json(member) for member in found.members],
        "residuals": {
            target: {
                "networks": one.networks,
                "mape": one.mape,
                "bias": one.bias,
                "worst": one.worst,
                "spearman": one.spearman,
                "noise_floor": one.noise_floor.mape if one.noise_floor else None,
            }
            for target, one in found.residuals.items()
        },
        "agreement": {target: dict(one) for target, one in found.agreement.items()},
        "rank_agreement": dict(found.rank_agreement),
        "verdicts": {target: dict(one) for target, one in found.verdicts.items()},
        "measured_verdicts": {t: dict(one) for t, one in found.measured_verdicts.items()},
        "failures": [
            {"kind": f.kind, "target": f.target, "message": f.message, "count": f.count}
            for f in found.failures
        ],
        "seed": view.seed,
        "versions": dict(view.versions),
        "commands": [
            *(line for _, line in reproduce.commands(found)),
            *reproduce.measuring(found),
        ],
        "notes": list(found.notes),
    }


def _front_row(member: Member) -> FrontRow:
    one = member.candidate
    return FrontRow(
        key=one.index,
        index=member.index,
        encoding=one.encoding,
        marks=", ".join(member.marks),
        params=text.format_count(member.counts.params) if member.counts else MISSING,
        macs=text.format_count(member.counts.macs) if member.counts else MISSING,
        validation=MISSING if one.accuracy is None else f"{one.accuracy:.2%}",
        test=MISSING if member.test_accuracy is None else f"{member.test_accuracy:.2%}",
        times={target: _time_cells(time) for target, time in member.times.items()},
    )


def _time_cells(time: MemberTime) -> TimeCells:
    latency = time.latency
    limit = words.limit(time)
    return TimeCells(
        searched=text.format_latency(time.searched) if time.searched else MISSING,
        time=text.format_time(latency.median_s) if latency else MISSING,
        interval=text.format_interval(latency.low_s, latency.high_s) if latency else MISSING,
        trust=words.trust(time),
        is_trusted=time.is_trusted,
        limit=limit or MISSING,
        is_broken=limit.startswith("broken"),
    )


def _member_json(member: Member) -> dict[str, Any]:
    return {
        "index": member.index,
        "encoding": member.candidate.encoding,
        "evaluation": member.candidate.index,
        "picks": list(member.marks),
        "validation_accuracy": member.candidate.accuracy,
        "test_accuracy": member.test_accuracy,
        "params": member.counts.params if member.counts else None,
        "macs": member.counts.macs if member.counts else None,
        "model": member.model or None,
        "times": {target: _time_json(time) for target, time in member.times.items()},
    }


def _time_json(time: MemberTime) -> dict[str, Any]:
    latency = time.latency
    return {
        "searched_s": time.searched.median_s if time.searched else None,
        "measured_s": time.measured.median_s if time.measured else None,
        "interval_s": [latency.low_s, latency.high_s] if latency else None,
        "verdict": latency.word if latency else None,
        "is_trusted": time.is_trusted,
        "limit_s": time.limit_s,
        "over_limit": time.over_limit,
        "failure": time.failure or None,
    }


def _spread(one: Surroundings, name: str) -> str:
    found = one.readings.get(name)
    if found is None:
        return "not readable"
    if found.low == found.high:
        return f"{found.low:.4g}"
    return f"{found.low:.4g} .. {found.high:.4g}, median {found.middle:.4g}"
