"""`boardfront monitor` on a terminal: a run as it goes on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.tui.devices import DevicesSlot
from boardfront.host.tui.header import header
from boardfront.host.tui.looking import Looking
from boardfront.host.tui.pace import Pace
from boardfront.host.tui.panels import (
    DetailsPanel,
    LinesPanel,
    PlotPanel,
    RunPanel,
    TablePanel,
    TrainingPanel,
    failure_lines,
    log_lines,
)
from boardfront.host.tui.windows import CandidateWindow, HelpWindow, Question
from boardfront.host.view.follow import RunFollower
from boardfront.host.view.run_view import RunState, RunView
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events
    from textual.app import ComposeResult

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.view.fleet_view import FleetView

WIDE = (120, 36)
"""From so many columns and rows on, everything is shown side by side."""

_TALL = 36
_TABS = ("front", "candidates", "training", "devices", "log")
_KEYS = "t target  o axis  s sort  enter open"
_HINTS = f"{_KEYS}  p pause  r resume  c cancel  ?  q quit"
_READ_ONLY_HINTS = f"{_KEYS}  ? help  q quit"
_READ_ONLY = "read-only: start boardfront monitor with --control to pause, resume and cancel"
_INTERRUPTED = 130
_SHOWN = len("cancel-job-") + 8
_GOING_ON = (RunState.RUNNING, RunState.PAUSED)
_OBEYED_AFTER = {"training": "this epoch", "search": "this candidate", "finalists": "this job"}
"""By phase: what a run ends before it obeys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a screen has its knowledge from, where that is not a run's folder.

    Args:
        run: Says how the run stands; asked once a second, in a thread.
        fleet: Says how the boards are.
        clock: Unix time, seconds.
    """

    run: Callable[[], RunView]
    fleet: Callable[[], FleetView]
    clock: Callable[[], float]


class MonitorApp(App[None]):
    """Shows a run. It writes nothing, but for requests where control was asked for.

    Args:
        folder: The run's.
        control: Whether the keys may pause, resume and cancel.
        is_live: Whether the screen belongs to the run that it shows; that allows control, and
            Ctrl-C ends it with exit code 130.
        newest: Says which run is the newest; once the shown one is over, a newer one is shown.
        source: Instead of the folder and the boards says how they are.
    """

    CSS_PATH = "monitor.tcss"
    TITLE = "boardfront monitor"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None  # so that the arrows move among the candidates
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "interrupt", "quit", priority=True, show=False),
        Binding("question_mark", "help", "help"),
        Binding("t", "target", "target"),
        Binding("o", "objective", "objective"),
        Binding("s", "sort", "sort"),
        Binding("enter", "open", "open"),
        Binding("p", "request('pause')", "pause"),
        Binding("r", "request('resume')", "resume"),
        Binding("c", "cancel_job", "cancel"),
        Binding("C", "cancel_run", "cancel the run", show=False),
        *(Binding(str(i), f"tab('{name}')", name, show=False) for i, name in enumerate(_TABS, 1)),
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("escape", "leave_panel", show=False),
        Binding("home", "move(-1000000)", show=False),
        Binding("end", "move(1000000)", show=False),
    ]

    def __init__(
        self,
        folder: RunFolder,
        *,
        control: bool = False,
        is_live: bool = False,
        newest: Callable[[], RunFolder | None] | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._newest = newest
        self._may_control = control or is_live
        self._is_live = is_live
        self._look = source.run if source else RunFollower(folder).poll
        self._fleet = source.fleet if source else None
        self._clock = source.clock if source else time.time
        self._trouble = ""
        self._pace = Pace()
        self._tab: str | None = None
        self._notice = ""
        self._notice_until_s = 0.0
        self._looking = Looking(
            RunView(name=folder.path.name, folder=folder.path, state=RunState.INTERRUPTED)
        )

    @override
    def compose(self) -> ComposeResult:
        """Make the panels; the style sheet says which of them a terminal of a size shows."""
        looking = self._looking
        yield Static(id="header")
        yield Static(id="tabs")
        with Container(id="body"):
            with Container(id="left"):
                yield PlotPanel(looking, "plot")
                yield TablePanel(looking, "table")
            with Container(id="right"):
                yield DetailsPanel(looking, "details")
                yield TrainingPanel(looking, "training")
                yield DevicesSlot(self._fleet)
                yield LinesPanel("failures", "Failures", "nothing failed")
                yield LinesPanel("log", "Log", "nothing happened yet")
        yield Static(id="keys")

    async def on_mount(self) -> None:
        """Look for the first time, and then again and again."""
        self._arrange(self.size.width, self.size.height)
        await self._follow()

    def on_resize(self, event: events.Resize) -> None:
        """Show what fits."""
        self._arrange(event.size.width, event.size.height)

    def on_table_panel_moved(self, event: TablePanel.Moved) -> None:
        """Follow the mouse."""
        self.action_move(event.rows)

    def action_interrupt(self) -> None:
        """Leave as Ctrl-C does."""
        self.exit(return_code=_INTERRUPTED if self._is_live else 0)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpWindow())

    def action_target(self) -> None:
        """Draw the next target's times."""
        if not self._looking.turn_target():
            self._say("the run has one target")
        self._redraw()

    def action_objective(self) -> None:
        """Draw the next objective upwards."""
        if not self._looking.turn_upwards():
            self._say("the run has one target: there is no other objective to draw upwards")
        self._redraw()

    def action_sort(self) -> None:
        """Sort the candidates otherwise."""
        self._looking.sort()
        self._say(f"candidates: {self._looking.order.value}")
        self._redraw()

    def action_move(self, rows: int) -> None:
        """Select another candidate."""
        self._looking.move(rows)
        self._redraw()

    def action_open(self) -> None:
        """Open the selected candidate."""
        chosen = self._looking.selected
        if chosen is None:
            self._say("no candidate was scored yet")
        else:
            self.push_screen(CandidateWindow(self._looking.view, chosen))

    def action_tab(self, name: str) -> None:
        """Show a panel on a terminal that has no room for all of them."""
        self._tab = name
        self._arrange(self.size.width, self.size.height)
        focus = {"devices": "#fleet", "log": "#log"}.get(name)
        if focus is None:
            self.set_focus(None)
        else:
            self.query_one(focus).focus()

    def action_leave_panel(self) -> None:
        """Let the arrows move among the candidates again."""
        self.set_focus(None)

    def action_request(self, what: str) -> None:
        """Ask the run for something through its folder."""
        if not self._can_ask():
            return
        try:
            self._folder.request(what)
        except BoardfrontError as error:
            self._say(str(error))
        else:
            # A whole job id leaves no room for the rest.
            self._say(f"asked the run: {what[:_SHOWN]}; obeyed {self._when(what)}")

    def action_cancel_job(self) -> None:
        """Ask whether a job shall end, and end it."""
        job = self.query_one(DevicesSlot).job
        what = f"cancel-job-{job}" if job else "cancel-job"
        which = f"job {job}" if job else "the job that has been under way longest"
        self._ask(f"Cancel {which}? Its candidate counts as failed.", what)

    def action_cancel_run(self) -> None:
        """Ask whether the run shall end, and end it."""
        self._ask("Cancel the run? What was done is kept, and it can be resumed.", "cancel")

    def _ask(self, question: str, request: str) -> None:
        if not self._can_ask():
            return

        def answered(is_yes: bool | None) -> None:  # noqa: FBT001 - Textual calls it so
            if is_yes:
                self.action_request(request)

        self.push_screen(Question(question), answered)

    def _can_ask(self) -> bool:
        """Return whether the run can be asked for something; say why where it cannot.

        What is laid into the folder of a run that is over would be obeyed when it is resumed.
        """
        state = self._looking.view.state
        if not self._may_control:
            self._say(_READ_ONLY)
        elif state not in _GOING_ON:
            self._say(f"not asked: the run does not go on, it is {state.value}")
        return self._may_control and state in _GOING_ON

    def _when(self, what: str) -> str:
        """Say when a run obeys."""
        view = self._looking.view
        if what.startswith("cancel-job") or view.state is RunState.PAUSED:
            return "within a second"
        return f"after {_OBEYED_AFTER.get(view.phase.name, 'what it does now')}"

    async def _follow(self) -> None:
        """Look, and again after a while that grows with what looking costs."""
        await self._poll()
        self.set_timer(self._pace.wait_s(), self._follow)

    async def _poll(self) -> None:
        """Look at the run in a thread: a share may be slow, and the keys shall not wait."""
        try:
            view = await asyncio.to_thread(self._look_or_turn)
        except BoardfrontError as error:
            # The path would leave no room for what is wrong.
            self._trouble = str(error).replace(f"{self._folder.path}/", "")
        else:
            self._trouble = ""
            self._looking.take(view)
        if not self.is_running:
            return
        self.query_one(DevicesSlot).show(self._looking.view, self._folder)
        self._arrange(self.size.width, self.size.height)
        self._redraw()

    def _look_or_turn(self) -> RunView:
        """Return how the run stands; where it is over and there is a newer one, of that one."""
        view = self._look()
        if self._newest is None or view.state in _GOING_ON:
            return view
        newest = self._newest()
        if newest is None or newest.path == self._folder.path:
            return view
        self._folder = newest
        self._look = RunFollower(newest).poll
        return self._look()

    def _redraw(self) -> None:
        view = self._looking.view
        self._draw_header()
        for panel in self.query(RunPanel):
            panel.renew()
        self.query_one("#failures", LinesPanel).show(failure_lines(view))
        self.query_one("#log", LinesPanel).show(log_lines(view.events, view.said))

    def _draw_header(self) -> None:
        width = max(1, self.size.width - 2)
        lines = header(self._looking.view, self._clock(), width=width, trouble=self._trouble)
        self.query_one("#header", Static).update(lines, layout=False)
        self.query_one("#tabs", Static).update(self._tab_line(), layout=False)
        notice = self._notice if time.monotonic() < self._notice_until_s else ""
        keys = notice or (_HINTS if self._may_control else _READ_ONLY_HINTS)
        style = "bold $warning" if notice else ""
        self.query_one("#keys", Static).update(
            Content.styled(keys, style).truncate(width, ellipsis=True), layout=False
        )

    def _tab_line(self) -> Content:
        parts: list[tuple[str, str]] = []
        for number, name in enumerate(_TABS, 1):
            shown = f"[{number} {name}]" if name == self._shown_tab else f" {number} {name} "
            parts.append((shown, "bold reverse" if name == self._shown_tab else ""))
        return Content.assemble(*parts)

    @property
    def _shown_tab(self) -> str:
        """What a person chose, or what is worth seeing."""
        view = self._looking.view
        is_training = view.phase.name == "training" and not view.candidates
        return self._tab or ("training" if is_training else "front")

    def _arrange(self, width: int, height: int) -> None:
        is_wide = width >= WIDE[0] and height >= WIDE[1]
        wanted = {
            "-wide": is_wide,
            "-narrow": not is_wide,
            "-tall": height >= _TALL,
            "-has-training": bool(self._looking.view.training),
            **{f"-{name}": name == self._shown_tab for name in _TABS},
        }
        screen = self.screen_stack[0]
        for name, is_on in wanted.items():
            screen.set_class(is_on, name)

    def _say(self, notice: str) -> None:
        """Say something instead of the keys for a while."""
        self._notice = notice
        self._notice_until_s = time.monotonic() + 4.0
        self._draw_header()
