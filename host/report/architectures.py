"""Networks drawn: a row each, a box a block, the higher the more pixels go through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from boardfront.host import text
from boardfront.host.report.theme import FONT
from boardfront.latency_models.blocks import HEAD, STEM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.report.findings import Member
    from boardfront.host.report.theme import Colours

_SVG = "http://www.w3.org/2000/svg"
_ROW, _HIGHEST, _LOWEST, _GAP, _LABEL = 74, 46, 18, 3, 190


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A block as it is drawn.

    Args:
        kind: Written into it; blocks of a kind have one colour.
        words: All that is known of it.
        pixels: A side, of its input; None where nobody knows.
        note: Below it, e.g. the channels from here on; empty: none.
    """

    kind: str
    words: str
    pixels: int | None = None
    note: str = ""


def draw(
    members: Sequence[Member], target: str, colours: Colours, *, title: str, message: str
) -> str:
    """Draw members as rows of blocks.

    Args:
        members: Of a front.
        target: Whose times stand beside them; empty: none.
        colours: To draw in.
        title: Of the drawing.
        message: What it says, in words.

    Returns:
        An SVG document.
    """
    rows = [(member, cells_of(member)) for member in members]
    kinds = dict.fromkeys(cell.kind for _, cells in rows for cell in cells)
    fills = _fills([kind for kind in kinds if kind not in {STEM, HEAD}], colours)
    widths = {kind: max(26, 9 + 8 * len(kind)) for kind in kinds}
    width = _LABEL + max(
        (sum(widths[cell.kind] + _GAP for cell in cells) for _, cells in rows), default=0
    )
    height = _ROW * len(rows) + 8
    root = ET.Element(
        "svg",
        {
            "xmlns": _SVG,
            "width": str(width + 8),
            "height": str(height),
            "viewBox": f"0 0 {width + 8} {height}",
            "role": "group",
            "aria-labelledby": "architectures-title architectures-words",
            "font-family": FONT,
            "font-size": "12",
        },
    )
    ET.SubElement(root, "title", {"id": "architectures-title"}).text = title
    ET.SubElement(root, "desc", {"id": "architectures-words"}).text = message
    if colours.paper != "transparent":
        paper = {"width": "100%", "height": "100%", "fill": colours.paper}
        ET.SubElement(root, "rect", paper)
    highest = max((c.pixels or 1 for _, cells in rows for c in cells), default=1)
    for number, (member, cells) in enumerate(rows):
        group = ET.SubElement(
            root,
            "g",
            {"data-c": str(member.candidate.index), "transform": f"translate(0,{_ROW * number})"},
        )
        _label(group, member, target, colours)
        x = _LABEL
        for cell in cells:
            _box(group, cell, (x, widths[cell.kind], highest), fills, colours)
            x += widths[cell.kind] + _GAP
    return ET.tostring(root, encoding="unicode")


def cells_of(member: Member) -> list[Cell]:
    """Return a member's blocks, or where nobody knows them the signs of its encoding."""
    if not member.blocks:
        encoding = member.candidate.encoding
        return [Cell(kind=sign, words=f"{sign}, sign {i}") for i, sign in enumerate(encoding)]
    cells = []
    channels = 0
    for number, block in enumerate(member.blocks):
        note = f"{block.out_channels}" if block.out_channels != channels else ""
        channels = block.out_channels
        words = (
            f"block {number}: {block.kind}, {block.in_channels} to {block.out_channels} channels, "
            f"stride {block.stride}, input of {block.resolution} x {block.resolution} pixels"
        )
        cells.append(Cell(kind=block.kind, words=words, pixels=block.resolution, note=note))
    return cells


def _fills(kinds: Sequence[str], colours: Colours) -> Mapping[str, str]:
    return {kind: colours.series[i % len(colours.series)] for i, kind in enumerate(sorted(kinds))}


def _label(group: ET.Element, member: Member, target: str, colours: Colours) -> None:
    time = member.times.get(target)
    latency = time.latency if time else None
    lines = [f"{member.index}  {member.candidate.encoding}", ", ".join(member.marks)]
    lines.append(text.format_latency(latency) if latency else "no time")
    for number, words in enumerate(line for line in lines if line):
        style = (
            {"fill": colours.ink, "font-weight": "600"} if number == 0 else {"fill": colours.muted}
        )
        ET.SubElement(group, "text", {"x": "4", "y": str(24 + 16 * number), **style}).text = words


def _box(
    group: ET.Element,
    cell: Cell,
    place: tuple[int, int, int],
    fills: Mapping[str, str],
    colours: Colours,
) -> None:
    """Draw a block. A box is outlined in its kind's colour and shaded with it: words stay dark."""
    x, width, highest = place
    share = (cell.pixels or highest) / highest
    height = round(_LOWEST + (_HIGHEST - _LOWEST) * share)
    y = 4 + (_HIGHEST - height) // 2
    colour = fills.get(cell.kind, colours.muted)
    box = ET.SubElement(group, "g", {})
    ET.SubElement(box, "title").text = cell.words
    ET.SubElement(
        box,
        "rect",
        {
            "x": str(x),
            "y": str(y),
            "width": str(width),
            "height": str(height),
            "rx": "3",
            "fill": colour,
            "fill-opacity": "0.22",
            "stroke": colour,
            "stroke-width": "1.5",
        },
    )
    middle = {"x": f"{x + width / 2:g}", "text-anchor": "middle"}
    ET.SubElement(
        box, "text", {**middle, "y": str(y + height // 2 + 4), "fill": colours.ink}
    ).text = cell.kind
    if cell.note:
        low = {"y": str(_HIGHEST + 18), "fill": colours.muted, "font-size": "11"}
        ET.SubElement(box, "text", {**middle, **low}).text = cell.note
