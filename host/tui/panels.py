"""The panels of the run screen. Each is told what to show and draws itself for its size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.tui import candidates, curves, scatter
from boardfront.host.tui.details import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.app import ComposeResult

    from boardfront.host.tui.looking import Looking
    from boardfront.host.view.run_view import CandidateView, EventView, RunView

_SCROLL_ROWS = 3


class RunPanel(Widget):
    """A panel that draws what a person looks at.

    Args:
        looking: At which run, and what of it; shared by all panels.
        name: Its id.
    """

    def __init__(self, looking: Looking, name: str) -> None:
        super().__init__(id=name, classes="panel")
        self.looking = looking
        self._drawn = -1

    @property
    def changes(self) -> int:
        """Grows with every change of what the panel shows."""
        return self.looking.changes

    def renew(self) -> None:
        """Draw again if there is anything new to draw."""
        if self.changes != self._drawn:
            self._drawn = self.changes
            self.refresh()


class PlotPanel(RunPanel):
    """The front as a scatter."""

    @override
    def render(self) -> Content:
        """Draw it for the panel's size."""
        looking = self.looking
        # As content: a bracket in a target's name is no markup.
        self.border_title = Content(
            f"Front: {looking.axes.caption} against time on {looking.target}"
        )
        width, height = self.content_size
        chosen = looking.selected
        canvas = scatter.draw(
            looking.view,
            looking.axes,
            chosen.encoding if chosen else None,
            width=width,
            height=height,
        )
        return canvas.content()


class TablePanel(RunPanel):
    """The candidates as rows, those around the selected one."""

    class Moved(Message):
        """The wheel was turned, or a row was clicked.

        Args:
            rows: Up or down.
        """

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.rows = rows

    @override
    def render(self) -> Content:
        """Draw the rows that fit."""
        looking = self.looking
        width, height = self.content_size
        first, rows = self._window(height - 1)
        lines = [
            Content.styled(
                candidates.heading(looking.view, looking.target, width), "bold $text-muted"
            )
        ]
        for place, one in enumerate(rows, first):
            is_selected = place == looking.place
            text = candidates.row(
                looking.view, one, looking.target, width, is_selected=is_selected
            )
            style = "reverse" if is_selected else "bold" if one.is_on_front else ""
            lines.append(Content.styled(text.ljust(width), style))
        count = len(looking.rows)
        self.border_title = f"Candidates, {looking.order.value}"
        self.border_subtitle = f"{first + 1}-{first + len(rows)} of {count}" if count else ""
        return Content("\n").join(lines)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go down."""
        event.stop()
        self.post_message(self.Moved(_SCROLL_ROWS))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go up."""
        event.stop()
        self.post_message(self.Moved(-_SCROLL_ROWS))

    def on_click(self, event: events.Click) -> None:
        """Select the row."""
        at = event.get_content_offset(self)
        first, rows = self._window(self.content_size.height - 1)
        if at is not None and 1 <= at.y <= len(rows):
            self.post_message(self.Moved(first + at.y - 1 - self.looking.place))

    def _window(self, height: int) -> tuple[int, Sequence[CandidateView]]:
        """Return the place of the first row that is shown, and the rows."""
        rows, place = self.looking.rows, self.looking.place
        first = max(0, min(place - height // 2, len(rows) - height))
        return first, rows[first : first + max(0, height)]


class DetailsPanel(RunPanel):
    """What is known of the selected candidate."""

    @override
    def render(self) -> Content:
        """Describe it."""
        self.border_title = "Selected"
        chosen = self.looking.selected
        if chosen is None:
            return Content.styled("no candidate was scored yet", "$text-muted")
        return describe(self.looking.view, chosen)


class TrainingPanel(RunPanel):
    """The curves of the supernet's training."""

    @property
    @override
    def changes(self) -> int:
        """Grows with every epoch."""
        return len(self.looking.view.training)

    @override
    def render(self) -> Content:
        """Draw them for the panel's size."""
        epochs = self.looking.view.training
        self.border_title = "Training"
        self.border_subtitle = f"epoch {epochs[-1].epoch}/{epochs[-1].epochs}" if epochs else ""
        width, height = self.content_size
        return curves.draw(epochs, width=width, height=height).content()


class LinesPanel(VerticalScroll):
    """Lines, the newest at the end; it stays there unless somebody scrolled up.

    Args:
        name: Its id.
        title: Above it.
        empty: What it says without lines.
    """

    def __init__(self, name: str, title: str, empty: str) -> None:
        super().__init__(id=name, classes="panel")
        self.border_title = title
        self._empty = empty
        self._lines: Sequence[Content] | None = None
        self._body = Static()

    @override
    def compose(self) -> ComposeResult:
        """Hold the text."""
        yield self._body

    def show(self, lines: Sequence[Content]) -> None:
        """Show lines instead of the earlier ones."""
        if lines == self._lines:
            return
        was_at_end = self.scroll_offset.y >= self.max_scroll_y
        self._lines = lines
        empty = Content.styled(self._empty, "$text-muted")
        self._body.update(Content("\n").join(lines) if lines else empty)
        if was_at_end:
            self.scroll_end(animate=False)


def failure_lines(view: RunView) -> list[Content]:
    """Return a line for each failed candidate and finalist, the last at the end."""
    lines = []
    for one in view.candidates:
        if one.failure is not None:
            where = f" on {one.failure.target}" if one.failure.target else ""
            kind = f"{one.failure.kind.value}, " if one.failure.kind else ""
            lines.append(_failure(f"{one.index} {one.encoding}{where}", kind, one.failure.message))
    for found in view.finalists:
        if found.failure is not None:
            kind = f"{found.failure.kind.value}, " if found.failure.kind else ""
            name = f"finalist {found.encoding} on {found.target}"
            lines.append(_failure(name, kind, found.failure.message))
    return lines


def log_lines(events: Sequence[EventView], said: Sequence[str]) -> list[Content]:
    """Return what happened, and behind it what the run said."""
    lines = [
        Content.styled(_event(event), "$error" if event.is_trouble else "") for event in events
    ]
    if said:
        lines.append(Content.styled("what the run said:", "bold"))
        lines += [Content.styled(line, "$text-muted") for line in said]
    return lines


def _failure(what: str, kind: str, message: str) -> Content:
    return Content.assemble((f"{what}: ", "bold"), (f"{kind}{message}", "$error"))


def _event(event: EventView) -> str:
    mark = "! " if event.is_trouble else "  "
    if event.time_unix_s is None:
        return f"{mark}{event.text}"
    at = time.strftime("%H:%M:%S", time.localtime(event.time_unix_s))
    return f"{mark}{at} {event.text}"
