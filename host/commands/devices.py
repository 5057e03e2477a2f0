"""`boardfront devices`: which devices answer, what they can do, and who holds them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from boardfront.host import text
from boardfront.host.table import print_table
from boardfront.protos import codec
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.select import Selected
    from boardfront.protos.records import DeviceDescription, LeaseParty, LeaseStatus

_HEADINGS = (
    *("device", "state", "held by", "until", "waiting", "queue"),
    *("name", "processor", "cores", "backends", "fingerprint"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a device answered. `lease` is None where its agent knows no leases."""

    description: DeviceDescription
    lease: LeaseStatus | None


def run(devices: Sequence[str], fleet_file: Path, *, within_s: float, as_json: bool) -> int:
    """Ask all devices at once, print a table, and return 1 if one did not answer.

    Args:
        devices: Names, tags or addresses; none: this machine and all of the fleet file.
        fleet_file: The fleet file.
        within_s: How long each device may take, in seconds.
        as_json: Whether to print JSON.
    """
    from rich.console import Console

    from boardfront.host.fleet.asking import ask_all
    from boardfront.host.fleet.fleet_file import load_fleet
    from boardfront.host.fleet.select import of_entry, select

    if devices:
        asked = _unique([one for device in devices for one in select(device, fleet_file)])
    else:
        fleet = load_fleet(fleet_file)
        asked = [*select("local"), *(of_entry(entry, fleet) for entry in fleet.entries)]
    console = Console(stderr=True)
    with console.status("asking", refresh_per_second=2) as status:
        answers = ask_all(
            asked,
            _look,
            within_s=within_s,
            on_waiting=lambda left: status.update(f"asking {', '.join(d.name for d in left)}"),
        )
    seen = list(zip(asked, answers, strict=True))
    if as_json:
        content = [_to_json(device, answer) for device, answer in seen]
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        _print(seen)
    return 1 if any(isinstance(answer, BoardfrontError) for answer in answers) else 0


def watch(devices: Sequence[str], fleet_file: Path, *, as_json: bool) -> int:
    """Follow devices until somebody leaves: a screen, or a line a change without a terminal.

    Args:
        devices: Names, tags or addresses; none: this machine and all of the fleet file.
        fleet_file: The fleet file.
        as_json: Whether to write a JSON object a change, whatever the terminal.
    """
    from boardfront.host.tui.pace import give_way
    from boardfront.host.view.fleet_poller import FleetPoller, watched

    # Before the boards' threads begin: each has what it is started with.
    give_way()
    with FleetPoller(watched(devices, fleet_file)) as poller:
        if not as_json and sys.stdin.isatty() and sys.stdout.isatty():
            from boardfront.host.tui.fleet_app import FleetApp

            FleetApp(poller.view).run()
            return 0
        from boardfront.host.view.fleet_lines import follow

        follow(poller.view, sys.stdout, as_json=as_json)
    return 0


def lease_json(lease: LeaseStatus | None) -> dict[str, Any] | None:
    """Return who holds a device and who waits, for programs; None: the agent knows no leases."""
    if lease is None:
        return None
    return {
        "holder": asdict(lease.holder) if lease.holder else None,
        "waiting": [asdict(party) for party in lease.waiting],
    }


def ask_lease(client: AgentClient) -> LeaseStatus | None:
    """Ask who holds a device that has just answered; None: its agent knows no leases."""
    from boardfront.host.fleet.connection import DeviceUnreachableError

    try:
        return client.show_lease()
    except DeviceUnreachableError:
        raise
    except BoardfrontError:
        return None


def trouble(error: BoardfrontError) -> str:
    """Say in a word why a device said nothing of itself."""
    from boardfront.host.fleet.connection import DeviceUnreachableError

    return "away" if isinstance(error, DeviceUnreachableError) else "refused"


def _look(_: Selected, client: AgentClient) -> Seen:
    description = client.describe()
    return Seen(description=description, lease=ask_lease(client))


def _unique(devices: Sequence[Selected]) -> list[Selected]:
    """Return each device once, where it stands first: tags may mean one again."""
    return list({device.name: device for device in reversed(devices)}.values())[::-1]


def _to_json(device: Selected, answer: Seen | BoardfrontError) -> dict[str, Any]:
    known = {
        "device": device.name,
        "address": device.entry.address if device.entry else None,
        "tags": dict(device.entry.tags) if device.entry else {},
    }
    if isinstance(answer, BoardfrontError):
        return {**known, "state": trouble(answer), "error": str(answer)}
    message = json_format.MessageToDict(
        codec.to_message(answer.description), preserving_proto_field_name=True
    )
    return {**known, "state": _state(answer), "lease": lease_json(answer.lease), **message}


def _print(seen: Sequence[tuple[Selected, Seen | BoardfrontError]]) -> None:
    rows = [_row(device, answer) for device, answer in seen]
    headings: Sequence[str] = _HEADINGS
    if sys.stdout.isatty():
        # A terminal is narrow; programs get every column every time.
        headings, rows = _telling(headings, rows)
    print_table(headings, rows, right={"until", "waiting", "cores", "queue"})
    for device, answer in seen:
        if isinstance(answer, BoardfrontError):
            sys.stderr.write(f"boardfront: {device.name}: {answer}\n")


def _telling(
    headings: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Leave out the columns in which there is nothing, or no more than noughts, in any row."""
    kept = [i for i in range(len(headings)) if {row[i] for row in rows} - {"", "0"}]
    return [headings[i] for i in kept], [tuple(row[i] for i in kept) for row in rows]


def _row(device: Selected, answer: Seen | BoardfrontError) -> tuple[str, ...]:
    if isinstance(answer, BoardfrontError):
        return (device.name, trouble(answer), *[""] * (len(_HEADINGS) - 2))
    description, lease = answer.description, answer.lease
    holder = lease.holder if lease else None
    backends = ", ".join(
        f"{info.name} {info.version}" if info.available else f"({info.name})"
        for info in description.backends
    )
    return (
        device.name,
        _state(answer),
        holder.name if holder else "",
        _until(holder) if holder else "",
        str(len(lease.waiting)) if lease else "",
        str(description.queued_jobs),
        description.name,
        description.hardware.cpu_model,
        str(description.hardware.logical_cores),
        backends,
        description.fingerprint,
    )


def _state(seen: Seen) -> str:
    if seen.lease is None:
        return "up"
    return "held" if seen.lease.holder else "free"


def _until(holder: LeaseParty) -> str:
    """Say when the lease ends unless it is renewed, which its holder does all the time."""
    return f"in {text.format_duration(holder.expires_in_s)}"
