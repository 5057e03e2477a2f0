"""A report as one page without network, or as Markdown: what is in it, and its templates."""

from __future__ import annotations

import re
import time
from collections.abc import Callable  # noqa: TC003 - the records' fields
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.host.report import reproduce, rows, words
from boardfront.host.report.plots import plots, shown_candidates
from boardfront.host.report.theme import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.report.findings import Findings
    from boardfront.host.report.plots import Plot

_TEMPLATES = Path(__file__).parent / "templates"

_SECTIONS = (
    ("found", "What was found"),
    ("front", "Front"),
    ("hypervolume", "Hypervolume"),
    ("predicted", "Searched against re-measured"),
    ("devices", "Device against device"),
    ("architectures", "Architectures"),
    ("training", "Training"),
    ("circumstances", "Circumstances"),
    ("verdicts", "Verdicts and failures"),
    ("reproduce", "To have it again"),
)

_ACCURACIES = {
    "supernet": "Accuracies are those of the supernet's inherited weights after batch-norm "
    "recalibration: they rank networks. Train the one that you ship to the end.",
    "short-training": "Accuracies are those of a short training from scratch.",
}
_SO_FAR = "Test accuracies are found when the front is final."


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A report's words.

    Args:
        template: Without its suffix.
        content: What the template names.
    """

    template: str
    content: Mapping[str, Any]


def page(document: Document, made_unix_s: float) -> str:
    """Return a report as a page: styles, script and pictures inside."""
    return _render(
        f"{document.template}.html",
        {
            **document.content,
            "style": (_TEMPLATES / "page.css").read_text(encoding="utf-8"),
            "script": (_TEMPLATES / "page.js").read_text(encoding="utf-8"),
            "made": time.strftime("%Y-%m-%d %H:%M", time.gmtime(made_unix_s)),
            "version": _version(),
        },
    )


def markdown(document: Document) -> str:
    """Return a report as Markdown."""
    names = {"page": "report"}
    written = _render(f"{names.get(document.template, document.template)}.md", document.content)
    return re.sub(r"\n{3,}", "\n\n", written).strip() + "\n"


def in_page(plot: Plot) -> dict[str, str]:
    """Draw a plot as part of a page."""
    return {"svg": plot.svg(PAGE).replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)}


def report(found: Findings, draw: Callable[[Plot], Mapping[str, str]]) -> Document:
    """Put one run into words.

    Args:
        found: The run.
        draw: What becomes of each plot: its `svg`, the `file` that it is in, or nothing.
    """
    view = found.view
    shown = shown_candidates(found)
    is_final = any(member.test_accuracy is not None for member in found.members)
    accuracy = _ACCURACIES.get(found.accuracy_of, "" if is_final else _SO_FAR)
    return Document(
        template="page",
        content={
            **head(view.name, words.headline(found), _SECTIONS),
            "state": view.state.value,
            "about": _about(found),
            "warning": words.origin_warning(found),
            "front": rows.front_rows(found),
            "columns": rows.front_columns(found),
            "order": words.front_order(found),
            "accuracy_note": accuracy,
            "plots": {kind: drawn(each, draw) for kind, each in plots(found).items()},
            "candidates": rows.candidate_rows(shown, found.targets),
            "left_out": len(view.candidates) - len(shown),
            "candidate_headings": rows.candidate_headings(found),
            "devices_note": words.devices_words(found),
            "training_note": words.training_words(found),
            "surroundings": found.surroundings,
            "circumstances": rows.circumstance_rows(found.surroundings),
            "verdicts": [
                (
                    target,
                    words.verdict_words(found.verdicts[target]),
                    words.verdict_words(found.measured_verdicts[target]),
                )
                for target in found.targets
            ],
            "failures": found.failures,
            "commands": reproduce.commands(found),
            "measuring": reproduce.measuring(found),
            "facts": reproduce.facts(found),
            "experiment": view.experiment_text.rstrip(),
            "notes": found.notes,
        },
    )


def head(
    name: str, headline: Sequence[str], sections: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return what every document begins with."""
    return {
        "title": f"{name} - boardfront",
        "heading": name,
        "description": headline[0] if headline else "",
        "headline": headline,
        "sections": sections,
    }


def drawn(each: Sequence[Plot], draw: Callable[[Plot], Mapping[str, str]]) -> list[dict[str, str]]:
    """Return plots as templates name them."""
    return [
        {"title": one.title, "message": one.message, "svg": "", "file": "", **draw(one)}
        for one in each
    ]


def _about(found: Findings) -> str:
    parts = [
        f"{target.name}: {words.device(target.device)}, {target.backend}"
        + (f", batch {target.batch}" if target.batch != 1 else "")
        for target in found.view.targets
    ]
    return "Targets: " + "; ".join(parts) + "." if parts else "No experiment stands here yet."


def _version() -> str:
    from importlib.metadata import version

    return version("boardfront")


def _render(template: str, content: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["words"] = _markdown_words
    environment.filters["code"] = _markdown_code
    return environment.get_template(template).render(content)


def _markdown_words(value: object) -> str:
    """Return a text that is nothing but a text inside a line or a cell."""
    plain = " ".join(str(value).split())
    return plain.replace("|", "\\|").replace("<", "&lt;")


def _markdown_code(value: object) -> str:
    """Return a text as code inside a line or a cell; no sign in it ends it."""
    plain = " ".join(str(value).split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence, edge = "`" * (longest + 1), " " if "`" in plain else ""
    return f"{fence}{edge}{plain}{edge}{fence}"
