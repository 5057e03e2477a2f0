"""The plots of times: predicted against measured, device against device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from boardfront.host import text
from boardfront.host.report.chart_parts import (
    AnyChart,
    about,
    dressed,
    inline,
    series_colour,
    series_shape,
    side_by_side,
)
from boardfront.host.report.theme import time_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.report.findings import Findings
    from boardfront.host.report.pairs import Pair
    from boardfront.host.report.theme import Colours


_ENDS = ("predicted_low", "predicted_high", "low", "high")


def predicted_chart(pairs: Sequence[Pair], colours: Colours) -> dict[str, Any]:
    """Draw predicted against measured times with the line of equals, and the residuals."""
    unit = time_unit([pair.measured_s for pair in pairs])
    rows: list[dict[str, Any]] = [
        {
            "predicted": unit.of(pair.predicted_s),
            "measured": unit.of(pair.measured_s),
            "low": unit.of(pair.low_s),
            "high": unit.of(pair.high_s),
            "predicted_low": unit.of(_or(pair.predicted_low_s, pair.predicted_s)),
            "predicted_high": unit.of(_or(pair.predicted_high_s, pair.predicted_s)),
            "error": 100 * pair.error,
            "error_low": 100 * (pair.predicted_s / pair.high_s - 1),
            "error_high": 100 * (pair.predicted_s / pair.low_s - 1),
            "series": pair.series,
            "about": about(pair.key, pair.words),
        }
        for pair in pairs
    ]
    names = list(dict.fromkeys(pair.series for pair in pairs))
    ends = [row[end] for row in rows for end in _ENDS]
    reach = (min(ends, default=0.0), max(ends, default=1.0))
    data = inline(rows)
    panels = [
        _equals(data, reach, unit.name, names, colours),
        _errors(data, unit.name, names, colours),
    ]
    return dressed(side_by_side(panels), colours)


def devices_chart(found: Findings, colours: Colours) -> dict[str, Any]:
    """Draw how much longer each member takes than the fastest one, target by target."""
    fastest = {
        target: min(
            (t.median_s for m in found.members if (t := m.times[target].latency)), default=None
        )
        for target in found.targets
    }
    rows = []
    for member in found.members:
        for target, least_s in fastest.items():
            latency = member.times[target].latency
            if latency is None or least_s is None:
                continue
            words = (
                f"member {member.index} {member.candidate.encoding} on {target}: "
                f"{text.format_latency(latency)}, {latency.median_s / least_s:.2f} times the "
                "fastest member there"
            )
            rows.append(
                {
                    "network": f"{member.index}  {member.candidate.encoding}",
                    "y": latency.median_s / least_s,
                    "low": latency.low_s / least_s,
                    "high": latency.high_s / least_s,
                    "series": target,
                    "about": about(str(member.candidate.index), words),
                }
            )
    names = list(found.targets)
    base = alt.Chart(inline(rows)).encode(
        y=alt.Y("network:N", title=None, sort=None, axis=alt.Axis(labelLimit=260, grid=True)),
        yOffset=alt.YOffset("series:N", sort=names),
        color=series_colour(names, colours, legend=True),
    )
    lowest: dict[str, Any] = {"title": "time over the fastest member's on that target"}
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.7, aria=False).encode(
            x=alt.X("low:Q", scale=alt.Scale(zero=False, padding=8), **lowest), x2="high:Q"
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=alt.X("y:Q"), shape=series_shape(names), description="about:N"
        ),
    ).properties(width=700, height=alt.Step(14))
    return dressed(chart, colours)


def _equals(
    data: alt.Data, reach: tuple[float, float], unit: str, names: Sequence[str], colours: Colours
) -> AnyChart:
    scale = alt.Scale(zero=False, padding=8)
    line = (
        alt.Chart(inline([{"x": end, "y": end} for end in reach]))
        .mark_line(strokeDash=[5, 4], strokeWidth=1.2, color=colours.muted, aria=False)
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("y:Q", scale=scale))
    )
    base = alt.Chart(data).encode(
        x=alt.X("predicted:Q", title=f"predicted ({unit})", scale=scale),
        color=series_colour(names, colours, legend=True),
    )
    predicted_bars = base.mark_rule(strokeWidth=2, opacity=0.35, aria=False).encode(
        x=alt.X("predicted_low:Q", title=f"predicted ({unit})", scale=scale),
        x2="predicted_high:Q",
        y=alt.Y("measured:Q", title=f"measured ({unit})", scale=scale),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.7, aria=False).encode(
        y=alt.Y("low:Q", title=f"measured ({unit})", scale=scale), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=alt.Y("measured:Q", title=f"measured ({unit})", scale=scale),
        shape=series_shape(names),
        description="about:N",
    )
    return alt.layer(line, predicted_bars, bars, points).properties(width=420, height=300)


def _errors(data: alt.Data, unit: str, names: Sequence[str], colours: Colours) -> AnyChart:
    zero = (
        alt.Chart(inline([{"y": 0}]))
        .mark_rule(strokeDash=[5, 4], strokeWidth=1.2, color=colours.muted, aria=False)
        .encode(y="y:Q")
    )
    base = alt.Chart(data).encode(
        x=alt.X("measured:Q", title=f"measured ({unit})", scale=alt.Scale(zero=False, padding=8)),
        color=series_colour(names, colours, legend=True),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.7, aria=False).encode(
        y=alt.Y("error_low:Q", title="predicted over measured (%)"), y2="error_high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y="error:Q", shape=series_shape(names), description="about:N"
    )
    return alt.layer(zero, bars, points).properties(width=420, height=300)


def _or(time_s: float | None, otherwise_s: float) -> float:
    return otherwise_s if time_s is None else time_s
