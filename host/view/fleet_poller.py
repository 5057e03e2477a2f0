"""Watches boards, each on a thread of its own: one that hangs delays neither others nor a screen.

Of each board one stream is asked for, on which its agent tells every two seconds how it is; no
other call is made to an agent that knows how to tell all in one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from boardfront.host.fleet.address import NoLocalAgentError, RunningAgent
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.fleet_file import load_fleet
from boardfront.host.fleet.ledger import take
from boardfront.host.fleet.select import Selected, of_entry, select
from boardfront.host.view.board_record import BoardRecord
from boardfront.host.view.fleet_view import BoardState, BoardView, FleetView
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.protos.records import TelemetrySample

PERIOD_S = 2.0
"""How often a board tells how it is."""

_ASK_LEASE_EVERY_S = 10.0
_AGAIN_AFTER_S = (1.0, 2.0, 5.0, 10.0)
"""Pauses before a board that was lost is asked again; the last one repeats."""

_HUNG_S = 15.0
"""So long a board may be silent before its connection is given up and made anew."""

_ENDS_WITHIN_S = 1.0


def watched(devices: Sequence[str], fleet_file: Path) -> tuple[Selected, ...]:
    """Return the boards to watch: of this machine the agent that others run, never one of ours.

    Args:
        devices: Names, tags or addresses; none: this machine and all of the fleet file.
        fleet_file: The fleet file.

    Raises:
        WrongInputError: If a text means no board, or the fleet file is wrong.
    """
    if devices:
        found = [one for device in devices for one in select(device, fleet_file)]
    else:
        fleet = load_fleet(fleet_file)
        found = [*select("local"), *(of_entry(entry, fleet) for entry in fleet.entries)]
    # Tags may mean one board again: where it stands first counts.
    by_name = {one.name: one for one in reversed(found)}
    return tuple(_looked_on(one) for one in reversed(by_name.values()))


class FleetPoller:
    """Follows boards from `start` to `close`, or inside a `with`.

    Args:
        devices: See `watched`.
        ledger: Of a run, which says what boards it leaves out; None: of no run.
        period_s: How often a board tells how it is, in seconds.
    """

    def __init__(
        self,
        devices: Sequence[Selected],
        *,
        ledger: Path | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        self._watches = [_Watch(device, period_s) for device in devices]
        self._ledger = None if ledger is None else _LedgerTail(ledger)
        self._stop = threading.Event()
        self._guard = threading.Thread(target=self._give_up_hung, name="fleet", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to watch."""
        for watch in self._watches:
            watch.start()
        self._guard.start()

    def close(self) -> None:
        """Hang up; a board that does not let go is left behind."""
        self._stop.set()
        for watch in self._watches:
            watch.stop()
        end_s = time.monotonic() + _ENDS_WITHIN_S
        for watch in self._watches:
            watch.join(max(0.0, end_s - time.monotonic()))

    def view(self) -> FleetView:
        """Return what is known now, at once."""
        left_out = {} if self._ledger is None else self._ledger.left_out()
        return FleetView(
            time_unix_s=time.time(),
            boards=tuple(watch.view(left_out.get(watch.name, "")) for watch in self._watches),
        )

    def _give_up_hung(self) -> None:
        while not self._stop.wait(1.0):
            for watch in self._watches:
                watch.give_up_hung()


class _Watch:
    """One board and the thread that listens to it."""

    def __init__(self, device: Selected, period_s: float) -> None:
        self.name = device.name
        self._device = device
        self._period_s = period_s
        entry = device.entry
        self._record = BoardRecord(
            device.name,
            address="" if entry is None else entry.address,
            known="" if entry is None else _known(device),
        )
        self._lock = threading.Lock()
        self._client: AgentClient | None = None
        self._heard_s = time.monotonic()
        self._lease_asked_s = float("-inf")
        self._losses = 0
        self._stop = threading.Event()
        # A daemon: a board that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name=f"watch {self.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end."""
        self._stop.set()
        self._abandon()

    def join(self, within_s: float) -> None:
        """Wait for the thread for so long, in seconds."""
        self._thread.join(timeout=within_s)

    def view(self, left_out: str) -> BoardView:
        """Return what is known of the board."""
        with self._lock:
            self._record.left_out(left_out)
            return self._record.view(time.monotonic(), time.time())

    def give_up_hung(self) -> None:
        """Hang up on a board that has been silent for too long."""
        with self._lock:
            hung = time.monotonic() - self._heard_s > max(_HUNG_S, 4 * self._period_s)
        if hung:
            self._abandon()

    def _abandon(self) -> None:
        client = self._client
        if client is not None:
            client.abandon()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._listen()
            pause = _AGAIN_AFTER_S[min(self._losses, len(_AGAIN_AFTER_S) - 1)]
            self._losses += 1
            self._stop.wait(pause)

    def _listen(self) -> None:
        """Listen to the board until it is lost."""
        with self._lock:
            self._heard_s = time.monotonic()
        client = self._client = AgentClient(self._device.address)
        try:
            for sample in client.telemetry(self._period_s):
                if self._stop.is_set():
                    return
                self._take(sample, client)
            self._lost(BoardState.AWAY, "it hung up")
        except NoLocalAgentError as error:
            self._lost(BoardState.OFF, str(error))
        except DeviceUnreachableError as error:
            self._lost(BoardState.AWAY, str(error))
        except BoardfrontError as error:
            self._lost(BoardState.REFUSED, str(error))
        except ValueError:
            # gRPC's word for a channel that another thread closed in this very moment.
            self._lost(BoardState.AWAY, "it does not answer")
        finally:
            self._client = None
            client.close()

    def _take(self, sample: TelemetrySample, client: AgentClient) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._heard_s = now_s
            self._losses = 0
            self._record.heard(sample, now_s)
            wants_lease = self._record.wants_lease
        if wants_lease and now_s - self._lease_asked_s > _ASK_LEASE_EVERY_S:
            self._lease_asked_s = now_s
            lease = client.show_lease()
            with self._lock:
                self._record.heard_lease(lease)

    def _lost(self, state: BoardState, why: str) -> None:
        with self._lock:
            self._record.lost(state, why)


class _LedgerTail:
    """Which boards a run leaves out, read from what was added to its ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        self._left_out: dict[str, str] = {}

    def left_out(self) -> dict[str, str]:
        """Return why boards get no work, by name."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._end)
                fresh = file.read()
        except OSError:
            return self._left_out
        whole, newline, _torn = fresh.rpartition(b"\n")
        self._end += len(whole) + len(newline)
        works: dict[str, str] = {}
        for line in whole.decode(errors="replace").splitlines():
            take(line, works, self._left_out)
        return self._left_out


def _looked_on(device: Selected) -> Selected:
    if device.name != "local":
        return device
    return Selected(name=device.name, address=RunningAgent())


def _known(device: Selected) -> str:
    entry = device.entry
    if entry is None:
        return ""
    facts = [f"{key}={value}" for key, values in entry.facts.items() for value in values]
    tags = [f"{key}={value}" for key, value in entry.tags.items()]
    return ",".join([*tags, *facts])
