"""From a chart to an SVG that a page can hold: named, described, its points linked; and to PNG."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SVG = "http://www.w3.org/2000/svg"
_ABOUT = re.compile(r"c([\w.-]*)\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


class MissingPlotsError(BoardfrontError):
    """The libraries that draw are not installed."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"expected the libraries that draw plots, got no {missing}: "
            "run pip install 'boardfront[report]'"
        )


def check_libraries(*names: str) -> None:
    """Raise MissingPlotsError where a library is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise MissingPlotsError(name)


def svg_of(chart: Mapping[str, Any], *, name: str, title: str, message: str) -> str:
    """Draw a Vega-Lite chart.

    Args:
        chart: Its points' descriptions are of `chart_parts.about`.
        name: Of the plot; begins its ids, so that many plots share a page.
        title: Of the plot.
        message: What it says, in words.

    Returns:
        An SVG document; a point that belongs to a row has its key in `data-c`.
    """
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(vl_spec=dict(chart), allowed_base_urls=[])
    return tidy(drawn, name=name, title=title, message=message)


def png_of(svg: str, *, scale: float = 2.0) -> bytes:
    """Turn an SVG into pixels, `scale` of them for each of its units."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=scale))


def tidy(svg: str, *, name: str, title: str, message: str) -> str:
    """Give an SVG its title and description, and each described point a title and a key."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    for element in root.iter():
        _tidy_element(element, name)
    root.set("role", "group")
    root.set("aria-labelledby", f"{name}-title {name}-words")
    for position, (tag, words) in enumerate((("title", title), ("desc", message))):
        element = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{'words' if position else tag}"})
        element.text = words
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode")


def _tidy_element(element: ET.Element, name: str) -> None:
    label = element.attrib.pop("aria-label", "")
    element.attrib.pop("aria-roledescription", None)
    element.attrib.pop("role", None)
    found = _ABOUT.fullmatch(label)
    if found:
        key, words = found.groups()
        if key:
            element.set("data-c", key)
        child = ET.SubElement(element, f"{{{_SVG}}}title")
        child.text = words
    for attribute, value in list(element.attrib.items()):
        if attribute == "id":
            element.set("id", f"{name}-{value}")
        elif attribute in {"transform", "d", "x", "y", "x2", "y2"}:
            element.set(attribute, _NUMBER.sub(_rounded, value))
        elif "url(#" in value:
            element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}"
