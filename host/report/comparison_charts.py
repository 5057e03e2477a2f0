"""The plot of several runs over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from boardfront.host.report.chart_parts import about, dressed, inline, series_colour
from boardfront.host.report.charts import WIDTH, point_words
from boardfront.host.report.theme import time_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.report.findings import Findings
    from boardfront.host.report.theme import Colours


def comparison_chart(runs: Sequence[Findings], target: str, colours: Colours) -> dict[str, Any]:
    """Draw the fronts of several runs over each other, by the best times there are.

    Args:
        runs: To draw.
        target: Its name.
        colours: To draw in.

    Returns:
        A Vega-Lite chart; each point's description is `cRUN-INDEX|words`, runs from 0.
    """
    rows = []
    times = [
        (place, run, member, latency)
        for place, run in enumerate(runs)
        for member in run.members
        if target in member.times
        and (latency := member.times[target].latency)
        and member.candidate.accuracy is not None
    ]
    unit = time_unit([latency.median_s for _, _, _, latency in times])
    for place, run, member, latency in times:
        accuracy = member.candidate.accuracy or 0.0
        words = f"{run.view.name} member {member.index} {point_words(member.candidate, latency)}"
        rows.append(
            {
                "x": unit.of(latency.median_s),
                "low": unit.of(latency.low_s),
                "high": unit.of(latency.high_s),
                "y": 100 * accuracy,
                "series": run.view.name,
                # Evaluations have the same numbers in every run.
                "about": about(f"{place}-{member.candidate.index}", words),
            }
        )
    names = [run.view.name for run in runs]
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "x:Q",
            title=f"time on {target} ({unit.name})",
            scale=alt.Scale(zero=False, padding=12),
        ),
        y=alt.Y("y:Q", title="validation accuracy (%)", scale=alt.Scale(zero=False, padding=12)),
        color=series_colour(names, colours, legend=True),
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.7, aria=False).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            shape=alt.Shape("series:N", sort=names, legend=None), description="about:N"
        ),
    ).properties(width=WIDTH, height=400)
    return dressed(chart, colours)
