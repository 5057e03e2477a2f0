"""From what a person calls a device to where its agent is: a name, tags, an address, `local`."""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.fleet.address import AgentAddress, LocalAgent, RemoteAddress
from boardfront.host.fleet.fleet_file import Fleet, FleetEntry, is_address, load_fleet, parse_tag
from boardfront.host.paths import default_fleet
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from boardfront.host.fleet.client import AgentClient

_PATIENCE_S = 0.5
"""How much longer, once a free board is known, those before it in the file may take to answer."""

_ASKED_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """One device that a person's text means.

    Args:
        name: What to call it: its name in the fleet file, else the text as it was given.
        address: Where its agent is. Whoever resolved it closes it.
        entry: Its entry in the fleet file; None for `local` and for a bare HOST:PORT.
    """

    name: str
    address: AgentAddress
    entry: FleetEntry | None = None


def select(text: str, fleet: Fleet | Path | None = None) -> tuple[Selected, ...]:
    """Return the devices that a text means; nothing is connected, nothing is started.

    Args:
        text: `local`; a board's name in the fleet file; tags, e.g. `soc=rk3588,room=lab`, which
            mean all boards that have them all; or HOST:PORT, with the credentials of the board
            that the fleet file has at it.
        fleet: Whose names and tags, or the file that has them, which `local` does not need;
            None: the person's own file (`default_fleet`).

    Returns:
        One device, or for tags at least one, in the fleet file's order.

    Raises:
        WrongInputError: If it means none, or the fleet file is wrong.
    """
    if text == "local":
        return (Selected(name="local", address=LocalAgent()),)
    if not isinstance(fleet, Fleet):
        fleet = load_fleet(fleet or default_fleet())
    if "=" in text:
        return tuple(of_entry(entry, fleet) for entry in _tagged(text, fleet))
    entry = fleet.find(text)
    if entry is None and is_address(text):
        entry = fleet.at(text)
        if entry is None:
            return (Selected(name=text, address=RemoteAddress(text)),)
    if entry is None:
        raise WrongInputError(_unknown(text, fleet))
    return (of_entry(entry, fleet),)


def select_one(
    text: str, fleet: Fleet | Path | None = None, *, say: Callable[[str], None] = lambda _: None
) -> Selected:
    """Return the device that a text means; of several, the first whose lease is free.

    Of tags that mean several boards, all are asked at once who holds them. If none is free, the
    first that answers is taken: its queue is waited in; if none answers, the first.

    Args:
        text: As for `select`.
        fleet: As for `select`.
        say: Told in a few words which of several was taken.

    Raises:
        WrongInputError: As `select` does.
    """
    found = select(text, fleet)
    if len(found) == 1:
        return found[0]
    taken, why = _first_free(found)
    say(f"{text}: {taken.name}, {why} of {len(found)}")
    return taken


def of_entry(entry: FleetEntry, fleet: Fleet) -> Selected:
    """Return a board of the fleet file as a device to speak to."""
    return Selected(name=entry.name, address=address_of(entry, fleet), entry=entry)


def address_of(entry: FleetEntry, fleet: Fleet) -> RemoteAddress:
    """Return where a board is, with the credentials that it asks for."""
    if not entry.is_enrolled:
        return RemoteAddress(entry.address)
    from boardfront.host.fleet.credentials import DeviceCredentials

    # Beside the file's name, not beside what a link points to: keys stay out of a repository.
    folder = fleet.path.parent
    return RemoteAddress(entry.address, DeviceCredentials(folder, entry.device_id))


def _tagged(text: str, fleet: Fleet) -> tuple[FleetEntry, ...]:
    wanted = [parse_tag(part) for part in text.split(",")]
    found = tuple(e for e in fleet.entries if all(e.has(key, value) for key, value in wanted))
    if not found:
        known = sorted(
            {f"{key}={value}" for entry in fleet.entries for key, value in _all_tags(entry)}
        )
        raise WrongInputError(
            f"no board in {fleet.path} has {text}: expected tags out of "
            f"{', '.join(known) or 'none yet'}; see boardfront device list"
        )
    return found


def _all_tags(entry: FleetEntry) -> list[tuple[str, str]]:
    facts = [(k, v) for k, values in entry.facts.items() if k not in entry.tags for v in values]
    return [*entry.tags.items(), *facts]


def _unknown(text: str, fleet: Fleet) -> str:
    names = [entry.name for entry in fleet.entries]
    near = difflib.get_close_matches(text, names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"device {text!r}: expected 'local' or HOST:PORT, e.g. 192.168.1.20:50051, or a name in "
        f"{fleet.path} ({', '.join(names) or 'which has none yet: boardfront device add'}), "
        f"or tags, e.g. soc=rk3588{meant}"
    )


def _first_free(devices: Sequence[Selected]) -> tuple[Selected, str]:
    """Return the first device in order that nobody holds, and why it was taken."""
    from boardfront.host.fleet.asking import Asking

    free: dict[int, bool] = {}
    deadline_s = time.monotonic() + _ASKED_WITHIN_S
    with Asking(devices, _is_free) as asking:
        while found := asking.next_answer(deadline_s - time.monotonic()):
            index, answer = found
            if isinstance(answer, BoardfrontError):
                continue
            free[index] = answer
            if answer:
                # Who stands before it in the file has a moment left: mostly the same one is taken.
                deadline_s = min(deadline_s, time.monotonic() + _PATIENCE_S)
            first = min((i for i, is_free in free.items() if is_free), default=len(devices))
            if not any(before in asking.waiting for before in range(first)):
                break
    for wanted, why in ((True, "the first that is free"), (False, "held like all that answer")):
        if wanted in free.values():
            return devices[min(i for i, is_free in free.items() if is_free is wanted)], why
    return devices[0], "no answer from any"


def _is_free(_: Selected, client: AgentClient) -> bool:
    status = client.show_lease()
    return status.holder is None and not status.waiting
