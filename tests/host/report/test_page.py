"""The page and the Markdown: what they say, and that they are well made."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import html5lib
import pytest
from tests.host.report.made import Plan, make

from boardfront.host.report import comparing, page, plots, rows
from boardfront.host.report.drawing import png_of
from boardfront.host.report.reading import read_findings
from boardfront.host.report.theme import PAPER

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.run_folder import RunFolder

_XHTML = "{http://www.w3.org/1999/xhtml}"
_SVG = "{http://www.w3.org/2000/svg}"
_NO_ADDRESS = ("http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg")


@pytest.fixture(scope="module")
def written(whole: RunFolder) -> str:
    """The page of the whole run."""
    return _page(whole)


@pytest.fixture(scope="module")
def tree(written: str) -> ET.Element:
    """The same, parsed; a strict parser raises at what is wrong."""
    return _parsed(written)


def test_pages_are_valid_and_self_contained(
    whole: RunFolder, other: RunFolder, part: RunFolder, empty: RunFolder
) -> None:
    both = page.page(
        comparing.comparison([read_findings(whole), read_findings(other)], page.in_page), 0.0
    )
    for written in (_page(part), _page(empty), both):
        _check(written)


def test_the_page_is_valid_and_self_contained(written: str) -> None:
    _check(written)


def test_first_comes_what_an_engineer_acts_on(written: str, tree: ET.Element) -> None:
    headings = [_text(one) for one in tree.iter(f"{_XHTML}h2")]
    assert headings == [
        "What was found",
        "Front",
        "Hypervolume over evaluations",
        "Searched against re-measured",
        "Device against device",
        "Architectures",
        "Training",
        "Circumstances of measurement",
        "Verdicts and failures",
        "To have it again",
    ]
    first = next(tree.iter(f"{_XHTML}table"))
    cells = [[_text(cell) for cell in row] for row in first.iter(f"{_XHTML}tr")]
    assert cells[1][:8] == [
        "#", "pick", "encoding", "val. acc.", "test acc.", "time", "95 % interval", "verdict",
    ]  # fmt: skip
    assert any("do not trust: contended" in row for row in cells[2:])
    assert any("broken" in row for row in cells[2:])
    assert "boardfront export" in written
    assert "--pick knee" in written or "--pick fastest" in written


def test_rows_and_points_have_common_keys(whole: RunFolder, tree: ET.Element) -> None:
    found = read_findings(whole)
    members = {str(member.candidate.index) for member in found.members}
    keys: dict[str, set[str]] = {"tr": set(), "path": set(), "g": set()}
    for element in tree.iter():
        name = str(element.tag).rpartition("}")[2]
        if "data-c" in element.attrib and name in keys:
            keys[name].add(element.attrib["data-c"])
    timed = {str(one.index) for one in found.view.candidates if "pi5" in one.latencies}
    assert keys["g"] == members
    assert keys["path"] == timed
    assert members < keys["tr"]


def test_each_plot_has_a_name_and_its_message_in_words(tree: ET.Element) -> None:
    drawn = list(tree.iter(f"{_SVG}svg"))
    # Two targets: two fronts and residuals; one is an objective: one hypervolume; three others.
    assert len(drawn) == 8
    for svg in drawn:
        named = svg.attrib["aria-labelledby"].split()
        told = {one.attrib.get("id"): _text(one) for one in svg if one.attrib.get("id")}
        assert all(told[name] for name in named)


def test_what_a_device_calls_itself_is_text(tmp_path: Path) -> None:
    run = make(tmp_path, Plan(evaluations=24))
    raw = run.measurements.read_text().replace('"pi5"', '"<b>pi</b> & |x|"')
    run.measurements.write_text(raw)
    written = _page(run)
    assert "<b>pi" not in written
    assert "&lt;b&gt;pi&lt;/b&gt; &amp; |x|" in written
    told = page.markdown(page.report(read_findings(run), lambda _: {}))
    assert "&lt;b>pi&lt;/b> & \\|x\\|" in told


def test_a_damaged_front_file_is_told(tmp_path: Path) -> None:
    run = make(tmp_path, Plan(evaluations=24))
    run.front_json.write_text('{"members": [')
    assert "front.json cannot be read" in _page(run)


def test_markdown_says_the_same(whole: RunFolder) -> None:
    found = read_findings(whole)
    told = page.markdown(page.report(found, lambda plot: {"file": f"{plot.name}.svg"}))
    lines = told.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    separators = [i for i, line in enumerate(tables) if set(line) <= set("|-: ")]
    assert len(separators) == 6
    for start, end in zip(separators, [*separators[1:], len(tables) + 1], strict=True):
        assert len(set(widths[start - 1 : end - 1])) == 1
    assert "](front-pi5.svg)" in told
    for member in found.members:
        assert f"`{member.candidate.encoding}`" in told


def test_a_comparison_says_what_differs(whole: RunFolder, other: RunFolder) -> None:
    runs = [read_findings(whole), read_findings(other)]
    differing = dict(comparing.differences(runs))
    assert differing["seed"] == ["1", "2"]
    assert differing["search.evaluations"] == ["60", "48"]
    assert differing["objective[1].limit"] == ["0.0008", "null"]
    said = comparing.to_json(runs)
    volumes = said["hypervolumes"]["pi5"]["last"]
    assert set(volumes) == {run.view.name for run in runs}
    told = page.markdown(comparing.comparison(runs, lambda _: {}))
    for target in ("pi5", "rock5b"):
        (line,) = [one for one in told.splitlines() if one.startswith(f"| fastest on {target} |")]
        for run, cell in zip(runs, line.split(" | ")[1:], strict=True):
            latencies = {m.candidate.encoding: m.times[target].latency for m in run.members}
            times = {name: one.median_s for name, one in latencies.items() if one}
            least = min(times, key=times.__getitem__)
            assert cell.startswith(f"{least}: ")
    assert f"{max(volumes, key=volumes.get)} has the largest." in told


def test_rows_of_runs_that_are_compared_have_their_own_points(
    whole: RunFolder, other: RunFolder
) -> None:
    runs = [read_findings(whole), read_findings(other)]
    tree = _parsed(page.page(comparing.comparison(runs, page.in_page), 0.0))
    rows_, points = (
        [one.attrib["data-c"] for one in tree.iter(tag) if "data-c" in one.attrib]
        for tag in (f"{_XHTML}tr", f"{_SVG}path")
    )
    assert len(rows_) == len(set(rows_)) == sum(len(run.members) for run in runs)
    assert set(points) == set(rows_)


def test_a_run_that_found_nothing_is_compared(other: RunFolder, tmp_path: Path) -> None:
    nothing = make(tmp_path, Plan(evaluations=12, limit_ms=1e-3, ended=False), "nothing")
    runs = [read_findings(other), read_findings(nothing)]
    told = page.markdown(comparing.comparison(runs, lambda _: {}))
    (line,) = [one for one in told.splitlines() if one.startswith("| 95 % of it after |")]
    assert re.fullmatch(r"\| 95 % of it after \| \d+ evaluations \| - \|", line)
    assert "None" not in told


def test_a_comparison_says_where_a_name_means_another_thing(
    whole: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    same = read_findings(other)
    batch = {"pi5": "batch = 8\n"}
    run = make(tmp_path, Plan(evaluations=24, settings=batch), "batched")
    run.measurements.write_text(run.measurements.read_text().replace("0" * 16, "e" * 16))
    changed = read_findings(run)
    lines = comparing.comparison([same, changed], lambda _: {}).content["headline"]
    assert lines[0] == (
        f"pi5 is not the same in all runs: local, fake, noise=0.01 in {same.view.name}; local, "
        f"fake, noise=0.01, batch 8 in {changed.view.name}. What differs in time may be that, not "
        "the networks."
    )
    devices = "Not all runs were measured on the same devices: "
    assert [line for line in lines if line.startswith(devices)] == [
        f"{devices}{same.view.name} on pi5 (00000000), rock5b (11111111); {changed.view.name} on "
        "pi5 (eeeeeeee), rock5b (11111111)."
    ]
    calm = comparing.comparison([same, read_findings(whole)], lambda _: {}).content["headline"]
    assert not any("same in all runs" in one or "same devices" in one for one in calm)


def test_targets_may_be_called_anything(tmp_path: Path) -> None:
    names = ("pi.5", "pi-5")
    found = read_findings(make(tmp_path, Plan(evaluations=24, targets=names)))
    drawn = [one.name for each in plots.plots(found).values() for one in each]
    assert len(drawn) == len(set(drawn)) == 8
    assert plots.plot(found, "front", "pi.5").name == "front-pi-5"
    assert plots.plot(found, "front", "pi-5").name == "front-pi-5-2"
    ids = re.findall(r' id="([^"]+)"', page.page(page.report(found, page.in_page), 0.0))
    assert len(ids) == len(set(ids))


def test_a_target_is_text_in_markdown(tmp_path: Path) -> None:
    names = ("a|b <i>", "`c`")
    settings = {"a|b <i>": 'reference = "`0|1`"\n'}
    found = read_findings(make(tmp_path, Plan(evaluations=24, targets=names), "one"))
    other = make(tmp_path, Plan(evaluations=24, targets=names, settings=settings), "two")
    both = [found, read_findings(other)]
    for told in (
        page.markdown(page.report(found, lambda _: {})),
        page.markdown(comparing.comparison(both, lambda _: {})),
    ):
        before_code = told.partition("```console")[0]
        assert "<i>" not in before_code
        assert "&lt;i>" in before_code
        for table in re.findall(r"(?:^\|.*\n)+", told, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1
    assert '| `` "`0\\|1`" `` |' in told


@pytest.mark.parametrize(("limit_ms", "is_drawn"), [(0.8, True), (100.0, False)])
def test_a_limit_far_off_is_told_in_place_of_drawn(
    limit_ms: float,
    is_drawn: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    plan = Plan(evaluations=24, targets=("pi5",), limit_ms=limit_ms, ended=False)
    plot = plots.plot(read_findings(make(tmp_path, plan)), "front")
    drawn = re.findall(r">limit (.*?)<", plot.svg(PAPER))
    assert drawn == (["800.0 us"] if is_drawn else [])
    assert ("The limit of 100.0 ms is too far off to be drawn." in plot.message) is not is_drawn
    assert "too far off" not in plot.message or not is_drawn


def test_values_are_seconds_and_fractions(whole: RunFolder) -> None:
    said = rows.to_json(read_findings(whole))
    first = said["front"][0]
    assert first["picks"][0] == "fastest"
    low_s, high_s = first["times"]["pi5"]["interval_s"]
    assert low_s < first["times"]["pi5"]["measured_s"] < high_s < 0.01
    assert said["evaluations"] == {"done": 60, "asked": 60, "failed": 2}


@pytest.mark.parametrize("kind", plots.KINDS)
def test_each_plot_is_a_file_too(whole: RunFolder, kind: str) -> None:
    plot = plots.plot(read_findings(whole), kind)
    svg = plot.svg(PAPER)
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    assert root.tag == f"{_SVG}svg"
    assert "var(--" not in svg
    assert _text(root[1]) == plot.message
    assert png_of(svg, scale=0.5)[:8] == b"\x89PNG\r\n\x1a\n"


def test_very_many_candidates_are_thinned_but_for_the_front(
    whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_findings(whole)
    monkeypatch.setattr(plots, "MOST_CANDIDATES", 10)
    shown = plots.shown_candidates(found)
    assert len(shown) <= 10 + len(found.members)
    assert {one.encoding for one in shown if one.is_on_front} == {
        one.encoding for one in found.view.front
    }


def _page(run: RunFolder) -> str:
    return page.page(page.report(read_findings(run), page.in_page), 0.0)


def _parsed(written: str) -> ET.Element:
    parser = html5lib.HTMLParser(strict=True)
    parsed: ET.Element = parser.parse(written)
    return parsed


def _check(written: str) -> None:
    """Check that a page is strict HTML, its ids are unique, its links stay inside."""
    tree = _parsed(written)
    ids = [one.attrib["id"] for one in tree.iter() if "id" in one.attrib]
    assert len(ids) == len(set(ids))
    links = [one.attrib["href"] for one in tree.iter(f"{_XHTML}a")]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    for found in re.findall(r"[a-z]+://[^\s\"'<)]*", written):
        assert found in _NO_ADDRESS
    assert not re.search(r"@import|url\((?!#)|<(?:img|iframe|object|embed)\b", written)
    for table in tree.iter(f"{_XHTML}table"):
        assert table.find(f"{_XHTML}caption") is not None
        assert all("scope" in one.attrib for one in table.iter(f"{_XHTML}th"))
    levels = [int(str(one.tag)[-1]) for one in tree.iter() if re.search(r"}h[1-6]$", str(one.tag))]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def _text(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())
