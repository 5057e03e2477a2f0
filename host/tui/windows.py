"""What opens above the run screen: a candidate, the keys, a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static
from typing_extensions import override

from boardfront.host import text
from boardfront.host.tui.blocks import block_rows
from boardfront.host.tui.details import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.app import ComposeResult

    from boardfront.host.tui.blocks import BlockRow
    from boardfront.host.view.run_view import CandidateView, RunView

KEYS = (
    ("up down", "select a candidate; also page up, page down, home, end"),
    ("enter", "open the selected candidate: blocks and times"),
    ("s", "sort: front, fastest, most accurate, newest first"),
    ("t", "draw the next target's times to the right"),
    ("o", "draw the next objective upwards"),
    ("1 .. 5", "switch the panel, on a small terminal"),
    ("tab", "go to the devices, failures or log; escape goes back"),
    ("enter s", "in the devices: open a board with all it tells; sort them"),
    ("p", "pause the run, with --control"),
    ("r", "let a paused run go on, with --control"),
    ("c", "cancel the job of the marked device, with --control"),
    ("C", "cancel the run, with --control; it can be resumed"),
    ("?", "show this"),
    ("q", "leave; the run goes on"),
)


class _Window(ModalScreen[None]):
    """Closes by escape, enter or q."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark", "app.pop_screen", "close", show=False)
    ]

    def __init__(self, title: str, content: Content) -> None:
        super().__init__()
        self._title = title
        self._content = content

    @override
    def compose(self) -> ComposeResult:
        """Show the content; what does not fit is scrolled by the arrows."""
        with VerticalScroll(classes="window") as window:
            window.border_title = self._title
            window.border_subtitle = "escape closes"
            yield Static(self._content)


class HelpWindow(_Window):
    """The keys."""

    def __init__(self) -> None:
        width = max(len(keys) for keys, _ in KEYS)
        lines = [
            Content.assemble((f"{keys:<{width}}", "bold $primary"), f"  {what}")
            for keys, what in KEYS
        ]
        super().__init__("Keys", Content("\n").join(lines))


class CandidateWindow(_Window):
    """A candidate: its blocks and all of its times."""

    def __init__(self, view: RunView, one: CandidateView) -> None:
        parts = [describe(view, one), *_processes(view, one), Content(""), *_drawn(view, one)]
        super().__init__(f"Candidate {one.index}", Content("\n").join(parts))


class Question(ModalScreen[bool]):
    """Asks before something is ended. Anything but y is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes", show=False),
        Binding("n,escape,q,enter", "dismiss(False)", "no", show=False),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    @override
    def compose(self) -> ComposeResult:
        """Show the question."""
        with VerticalScroll(classes="window") as window:
            window.border_subtitle = "y: yes, n: no"
            yield Static(Content(self._question))


def _processes(view: RunView, one: CandidateView) -> Iterator[Content]:
    """Yield what each fresh process of a finalist said."""
    for found in view.finalists:
        if found.encoding == one.encoding and found.process_medians_s:
            times = ", ".join(text.format_time(s) for s in found.process_medians_s)
            yield Content(f"{found.target}: processes {times}")


def _drawn(view: RunView, one: CandidateView) -> list[Content]:
    rows = block_rows(view, one.encoding)
    width = max(len(row.kind) for row in rows)
    return [_block(row, width) for row in rows]


def _block(row: BlockRow, width: int) -> Content:
    style = "$warning" if row.is_smaller else "$primary"
    shape = f"  {row.shape}" if row.shape else ""
    return Content.assemble((f"{row.kind:>{width}}", "bold"), f"{shape}  ", (row.bar, style))
