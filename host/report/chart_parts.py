"""What all charts have in common: dress, axes, series, descriptions of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, Union

import altair as alt

from boardfront.host.report.theme import FONT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.report.theme import Colours

AnyChart: TypeAlias = Union[
    "alt.Chart", "alt.LayerChart", "alt.FacetChart", "alt.HConcatChart", "alt.VConcatChart"
]

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke")
"""So that a series is told from another without its colour."""


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Return rows as a chart's data."""
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def about(key: str, words: str) -> str:
    """Return a point's description; `drawing.tidy` takes it apart again."""
    return f"c{key}|{words}"


def axis(name: str, title: str) -> alt.X:
    """Return a horizontal axis of counts."""
    return alt.X(
        f"{name}:Q",
        title=title,
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(zero=False, nice=False),
    )


def series_colour(names: Sequence[str], colours: Colours, *, legend: bool) -> alt.Color:
    """Return the colours of things side by side."""
    ranged = [colours.series[i % len(colours.series)] for i in range(len(names))]
    return alt.Color(
        "series:N",
        title=None,
        sort=list(names),
        scale=alt.Scale(domain=list(names), range=ranged),
        legend=alt.Legend(symbolOpacity=1) if legend else None,
    )


def series_shape(names: Sequence[str]) -> alt.Shape:
    """Return the shapes of things side by side."""
    ranged = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    return alt.Shape("series:N", title=None, scale=alt.Scale(domain=list(names), range=ranged))


def side_by_side(panels: Sequence[AnyChart]) -> alt.HConcatChart:
    """Return panels in a row."""
    return alt.hconcat(*panels, spacing=28)


def dressed(chart: AnyChart, colours: Colours) -> dict[str, Any]:
    """Return the chart in a theme's colours, as Vega-Lite."""
    words: dict[str, Any] = {
        "labelColor": colours.muted,
        "titleColor": colours.ink,
        "labelFontSize": 12,
    }
    drawn: dict[str, Any] = (
        chart.configure(background=colours.paper, font=FONT, padding=6)
        .configure_view(stroke=None)
        .configure_axis(
            **words,
            titleFontSize=12,
            titleFontWeight="normal",
            labelFlush=False,
            labelOverlap=True,
            gridColor=colours.line,
            domainColor=colours.muted,
            tickColor=colours.muted,
        )
        .configure_legend(
            labelColor=colours.ink,
            labelFontSize=12,
            labelLimit=300,
            titleColor=colours.ink,
            titleFontWeight="normal",
            titleFontSize=12,
            orient="top",
            direction="horizontal",
            symbolSize=70,
        )
        .configure_title(color=colours.ink, fontSize=12, fontWeight="normal", anchor="start")
        .to_dict()
    )
    return drawn
