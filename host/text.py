"""How quantities and verdicts look on a terminal. Seconds come in, a fitting unit goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.search.evaluation import Latency

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def format_time(duration_s: float) -> str:
    """Write a time with four digits, e.g. `12.39 ms`."""
    for scale, unit in _UNITS:
        if duration_s >= scale:
            return f"{_four_digits(duration_s / scale)} {unit}"
    return f"{duration_s * 1e9:.3g} ns"


def format_latency(latency: Latency) -> str:
    """Write a time, marked where it is not ok or predicted, e.g. `1.203 ms (contended)`."""
    mark = "" if latency.verdict is Verdict.OK else f" ({latency.word})"
    return format_time(latency.median_s) + mark


def format_interval(low_s: float, high_s: float) -> str:
    """Write an interval in the unit of its upper end, e.g. `12.31 .. 12.46 ms`."""
    scale, unit = next(((s, u) for s, u in _UNITS if high_s >= s), _UNITS[-1])
    return f"{_four_digits(low_s / scale)} .. {_four_digits(high_s / scale)} {unit}"


def format_duration(duration_s: float) -> str:
    """Write how long something takes a person to wait, e.g. `1 min 20 s`."""
    seconds = round(duration_s)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_count(count: int) -> str:
    """Write a count with a metric suffix, e.g. `4.21 M`."""
    for scale, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= scale:
            return f"{count / scale:.3g}{suffix}"
    return str(count)


def format_verdict(verdict: Verdict, evidence: Sequence[str] = ()) -> str:
    """Write a verdict, with its evidence where it is not ok."""
    if verdict is Verdict.OK:
        return "ok"
    return f"{verdict.value}: {'; '.join(evidence)}" if evidence else verdict.value


def _four_digits(value: float) -> str:
    if value >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 10 else f"{value:.3f}"
