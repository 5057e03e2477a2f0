"""The plots of a search: its front, its hypervolume, its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from boardfront.host import text
from boardfront.host.report.chart_parts import (
    AnyChart,
    about,
    axis,
    dressed,
    inline,
    series_colour,
    side_by_side,
)
from boardfront.host.report.limits import drawn_limits
from boardfront.host.report.theme import time_unit
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.report.findings import Findings, Member
    from boardfront.host.report.hypervolumes import Growth
    from boardfront.host.report.limits import DrawnLimits
    from boardfront.host.report.theme import Colours, TimeUnit
    from boardfront.host.view.run_view import CandidateView
    from boardfront.search.evaluation import Latency

WIDTH, PANEL_WIDTH = 940, 280
"""Of plots as wide as a page, and of three beside each other; units of the drawing."""

_CANDIDATE, _FRONT, _MEASURED = "candidate", "front, as searched", "re-measured, 95 % interval"


def front_chart(
    found: Findings, candidates: Sequence[CandidateView], target: str, colours: Colours
) -> dict[str, Any]:
    """Draw accuracy against time on one target: all candidates, the front, its re-measured times.

    Args:
        found: The run.
        candidates: Those to draw.
        target: Its name.
        colours: To draw in.

    Returns:
        A Vega-Lite chart; each point's description is `cINDEX|words`.
    """
    shown = [
        (one, latency)
        for one in candidates
        if (latency := one.latencies.get(target)) and one.accuracy is not None
    ]
    unit = time_unit([latency.median_s for _, latency in shown])
    layers: list[Any] = [_candidates(shown, unit, colours)]
    front = [pair for pair in shown if pair[0].is_on_front]
    if front:
        layers += _front(front, unit, colours)
    layers += _measured(found.members, target, unit)
    layers += _limits(drawn_limits(found, candidates, target), unit, colours)
    title = f"time on {target} ({unit.name})"
    chart = (
        alt.layer(*layers)
        .encode(
            x=alt.X("x:Q", title=title, scale=alt.Scale(zero=False, nice=True, padding=12)),
            y=alt.Y(
                "y:Q",
                title="validation accuracy (%)",
                scale=alt.Scale(zero=False, nice=True, padding=12),
            ),
        )
        .properties(width=WIDTH, height=400)
    )
    return dressed(chart, colours)


def hypervolume_chart(growths: Sequence[Growth], colours: Colours) -> dict[str, Any]:
    """Draw how much of the best front was found after how many evaluations.

    Args:
        growths: Of runs, all against one reference point.
        colours: To draw in.
    """
    whole = max((growth.last for growth in growths), default=0.0) or 1.0
    rows = [
        {"x": evaluation, "y": 100 * volume / whole, "series": growth.name}
        for growth in growths
        for evaluation, volume in growth.steps
    ]
    names = [growth.name for growth in growths]
    chart = (
        alt.Chart(inline(rows))
        .mark_line(interpolate="step-after", strokeWidth=2, aria=False)
        .encode(
            x=axis("x", "evaluations"),
            y=alt.Y("y:Q", title="hypervolume (% of the largest)"),
            color=series_colour(names, colours, legend=len(names) > 1),
            strokeDash=alt.StrokeDash("series:N", sort=names, legend=None),
        )
        .properties(width=WIDTH, height=240)
    )
    return dressed(chart, colours)


def training_chart(found: Findings, colours: Colours) -> dict[str, Any]:
    """Draw loss and validation accuracy over the epochs of the estimator's training."""
    epochs = found.view.training
    panels: list[AnyChart] = [_curve([(e.epoch, e.loss) for e in epochs], "loss", colours.front)]
    right = [
        (e.epoch, 100 * e.validation_accuracy) for e in epochs if e.validation_accuracy is not None
    ]
    if right:
        panels.append(_curve(right, "validation accuracy of random paths (%)", colours.measured))
    rates = [(e.epoch, e.learning_rate) for e in epochs]
    panels.append(_curve(rates, "learning rate", colours.muted))
    return dressed(side_by_side(panels), colours)


def _candidates(
    shown: Sequence[tuple[CandidateView, Latency]], unit: TimeUnit, colours: Colours
) -> AnyChart:
    rows = [
        {
            **_point(one, latency, unit),
            "generation": one.generation,
            "series": _CANDIDATE,
        }
        for one, latency in shown
        if not one.is_on_front
    ]
    last = max((one.generation for one, _ in shown), default=0)
    names = [_CANDIDATE, _FRONT, _MEASURED]
    ranged = [colours.candidate, colours.front, colours.measured]
    opacity = alt.Opacity(
        "generation:Q",
        title="generation",
        scale=alt.Scale(domain=[0, max(1, last)], range=[0.3, 1]),
        legend=alt.Legend(tickCount=3, format="d", symbolType="circle") if last else None,
    )
    points: AnyChart = (
        alt.Chart(inline(rows))
        .mark_point(size=26, strokeWidth=1.2)
        .encode(
            color=alt.Color(
                "series:N",
                title=None,
                scale=alt.Scale(domain=names, range=ranged),
                legend=alt.Legend(symbolOpacity=1, symbolSize=60, symbolStrokeWidth=2),
            ),
            shape=alt.Shape(
                "series:N",
                title=None,
                scale=alt.Scale(domain=names, range=["circle", "diamond", "stroke"]),
            ),
            fill=_fill(colours.candidate),
            opacity=opacity,
            description="about:N",
        )
    )
    return points


def _front(
    front: Sequence[tuple[CandidateView, Latency]], unit: TimeUnit, colours: Colours
) -> list[AnyChart]:
    rows = [{**_point(one, latency, unit), "series": _FRONT} for one, latency in front]
    rows.sort(key=lambda row: row["x"])
    data = inline(rows)
    line = alt.Chart(inline(_undominated(rows))).mark_line(
        interpolate="step-after", strokeWidth=1.5, color=colours.front, aria=False
    )
    points = (
        alt.Chart(data)
        .mark_point(size=110, strokeWidth=2, opacity=1)
        .encode(
            color="series:N",
            shape="series:N",
            fill=_fill(colours.front),
            description="about:N",
        )
    )
    return [line, points]


def _undominated(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those in order of time that are more accurate than all faster ones.

    The front is one of all objectives: on one target alone some of it may be beaten.
    """
    kept: list[dict[str, Any]] = []
    for row in rows:
        if not kept or row["y"] > kept[-1]["y"]:
            kept.append(row)
    return kept


def _measured(members: Sequence[Member], target: str, unit: TimeUnit) -> list[AnyChart]:
    rows = []
    for member in members:
        latency = member.times[target].measured
        if latency is None or member.candidate.accuracy is None:
            continue
        words = f"re-measured: {point_words(member.candidate, latency)}"
        rows.append(
            {
                "x": unit.of(latency.median_s),
                "low": unit.of(latency.low_s),
                "high": unit.of(latency.high_s),
                "y": 100 * member.candidate.accuracy,
                "series": _MEASURED,
                "about": about(str(member.candidate.index), words),
            }
        )
    if not rows:
        return []
    base = alt.Chart(inline(rows)).encode(color="series:N")
    return [
        base.mark_rule(strokeWidth=2.5, opacity=0.75, aria=False).encode(x="low:Q", x2="high:Q"),
        base.mark_point(size=70, filled=True, opacity=1, shape="circle").encode(
            description="about:N"
        ),
    ]


def _limits(limits: DrawnLimits, unit: TimeUnit, colours: Colours) -> list[AnyChart]:
    layers: list[AnyChart] = []
    latest_s, least = limits.time_s, limits.accuracy
    rule: dict[str, Any] = {
        "color": colours.bad,
        "strokeDash": [6, 4],
        "strokeWidth": 1.5,
        "aria": False,
    }
    words: dict[str, Any] = {"color": colours.bad, "aria": False, "fontSize": 12}
    if latest_s is not None:
        base = alt.Chart(
            inline([{"x": unit.of(latest_s), "t": text.format_time(latest_s)}])
        ).transform_calculate(label="'limit ' + datum.t")
        layers.append(base.mark_rule(**rule).encode(y=alt.Y()))
        layers.append(
            base.mark_text(align="right", dx=-5, baseline="top", **words).encode(
                y=alt.value(4), text="label:N"
            )
        )
    if least is not None:
        base = alt.Chart(inline([{"y": 100 * least, "t": f"limit {least:.1%}"}]))
        layers.append(base.mark_rule(**rule).encode(x=alt.X()))
        layers.append(
            base.mark_text(align="left", dy=-7, **words).encode(x=alt.value(4), text="t:N")
        )
    return layers


def _fill(colour: str) -> Any:
    """Fill what is trusted; leave what is not hollow."""
    return alt.condition("datum.trusted", alt.value(colour), alt.value("transparent"))


def _point(one: CandidateView, latency: Latency, unit: TimeUnit) -> dict[str, Any]:
    return {
        "x": unit.of(latency.median_s),
        "y": 100 * (one.accuracy or 0.0),
        "trusted": latency.verdict in {Verdict.OK, None},
        "about": about(str(one.index), point_words(one, latency)),
    }


def point_words(one: CandidateView, latency: Latency) -> str:
    """Return what is known of a point."""
    return (
        f"{one.encoding}: {one.accuracy or 0.0:.2%}, {text.format_time(latency.median_s)} "
        f"({text.format_interval(latency.low_s, latency.high_s)}), {latency.word}, "
        f"evaluation {one.index}, generation {one.generation}"
    )


def _curve(points: Sequence[tuple[int, float]], title: str, colour: str) -> AnyChart:
    rows = [{"x": x, "y": y} for x, y in points]
    curve: AnyChart = (
        alt.Chart(inline(rows), title=title)
        .mark_line(
            strokeWidth=2,
            color=colour,
            point={"color": colour} if len(rows) == 1 else False,
            aria=False,
        )
        .encode(x=axis("x", "epoch"), y=alt.Y("y:Q", title=None, scale=alt.Scale(zero=False)))
        .properties(width=PANEL_WIDTH, height=190)
    )
    return curve
