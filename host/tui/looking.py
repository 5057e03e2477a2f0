"""What a person looks at: a run, how it is sorted and drawn, and the selected candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.tui.candidates import Order, arrange
from boardfront.host.tui.scatter import Axes, axes_of

if TYPE_CHECKING:
    from boardfront.host.view.run_view import CandidateView, RunView


class Looking:
    """Shared by the panels; nothing of it is drawn here.

    `changes` counts what makes drawings of candidates look otherwise.

    Args:
        view: The run.
    """

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.order = Order.FRONT
        self.axes = Axes()
        self.rows: list[CandidateView] = []
        self.changes = 0
        self._chosen: str | None = None
        self._arranged: tuple[CandidateView, ...] | None = None
        self.take(view)

    @property
    def target(self) -> str:
        """Name of the target whose times are drawn to the right."""
        return self.axes.target

    @property
    def place(self) -> int:
        """Of the selected candidate in the rows; what a person has not chosen is the first."""
        if self._chosen is None:
            return 0
        found = (i for i, one in enumerate(self.rows) if one.encoding == self._chosen)
        return next(found, 0)

    @property
    def selected(self) -> CandidateView | None:
        """The selected candidate; None without any."""
        return self.rows[self.place] if self.rows else None

    def take(self, view: RunView) -> None:
        """Go on with a newer view."""
        self.changes += view.finalists != self.view.finalists
        self.view = view
        if self.axes not in axes_of(view):
            self.axes = next(iter(axes_of(view)), Axes())
        if view.candidates is not self._arranged:
            self._arrange()

    def sort(self) -> None:
        """Sort in the next order."""
        self.order = self.order.next
        self._arrange()

    def move(self, rows: int) -> None:
        """Select another row; moving past an end stays there."""
        if self.rows:
            place = max(0, min(self.place + rows, len(self.rows) - 1))
            self._chosen = self.rows[place].encoding
            self.changes += 1

    def turn_target(self) -> bool:
        """Draw the next target's times to the right; return whether there is another."""
        others = [one for one in axes_of(self.view) if one.upwards == self.axes.upwards]
        return self._turn(others)

    def turn_upwards(self) -> bool:
        """Draw the next objective upwards; return whether there is another."""
        others = [one for one in axes_of(self.view) if one.target == self.axes.target]
        return self._turn(others)

    def _turn(self, others: list[Axes]) -> bool:
        if len(others) < 2:
            return False
        self.axes = others[(others.index(self.axes) + 1) % len(others)]
        self._arrange()
        return True

    def _arrange(self) -> None:
        self.changes += 1
        self._arranged = self.view.candidates
        self.rows = arrange(self.view.candidates, self.order, self.target)
