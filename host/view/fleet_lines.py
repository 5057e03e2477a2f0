"""What changes in a fleet, as lines: for pipes, logs and programs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from boardfront.host.view import fleet_text
from boardfront.host.view.fleet_view import BoardState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from boardfront.host.view.fleet_view import BoardView, FleetView

_LOOK_EVERY_S = 0.5


def follow(
    look: Callable[[], FleetView],
    out: TextIO,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write a line whenever a board changes, for ever.

    Args:
        look: Returns the boards as they are.
        out: Where lines go; each is there at once.
        as_json: A JSON object a line, instead of one for people.
        sleep: Lets seconds pass between two looks.
    """
    changes = Changes()
    while True:
        view = look()
        for board in changes.of(view):
            out.write(_line(board, view.time_unix_s, as_json=as_json))
        out.flush()
        sleep(_LOOK_EVERY_S)


class Changes:
    """Tells news from what was seen before."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, ...]] = {}

    def of(self, view: FleetView) -> Iterator[BoardView]:
        """Yield the boards that are not as they were; one that did not answer yet is none."""
        for board in view.boards:
            gist = fleet_text.gist(board)
            if board.state is not BoardState.ASKING and self._seen.get(board.name) != gist:
                self._seen[board.name] = gist
                yield board


def _line(board: BoardView, time_unix_s: float, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(fleet_text.to_json(board, time_unix_s)) + "\n"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time_unix_s))
    return f"{stamp} {fleet_text.line(board)}\n"
