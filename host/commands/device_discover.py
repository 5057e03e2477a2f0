"""`boardfront device discover`: which agents announce themselves in this network."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from boardfront.host.table import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.fleet.discovery import Found
    from boardfront.host.fleet.fleet_file import Fleet, FleetEntry


def run(fleet_file: Path, *, within_s: float, as_json: bool) -> int:
    """Listen for a while and print who was heard; return 0 also if nobody was."""
    from rich.console import Console

    from boardfront.host.fleet.discovery import discover
    from boardfront.host.fleet.fleet_file import load_fleet

    fleet = load_fleet(fleet_file)
    with Console(stderr=True).status("listening", refresh_per_second=2):
        found = discover(within_s)
    if as_json:
        content = [_to_json(one, fleet) for one in found]
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    if not found:
        sys.stderr.write(
            f"nobody announced a board within {within_s:g} s: run boardfront-agent serve "
            "--announce there, or add it by its address\n"
        )
        return 0
    rows = [
        (one.name, one.address, "yes" if one.tls else "no", _known(one, fleet), one.device_id)
        for one in found
    ]
    print_table(("calls itself", "address", "certificates", "in your fleet", "device id"), rows)
    if any(_entry(one, fleet) is None for one in found):
        sys.stderr.write(
            "take one in: boardfront-agent enroll there, then boardfront device add with its "
            "token\n"
        )
    return 0


def _to_json(found: Found, fleet: Fleet) -> dict[str, Any]:
    entry = _entry(found, fleet)
    return {
        **asdict(found),
        "in_fleet": entry.name if entry else None,
        "moved": entry is not None and entry.address != found.address,
    }


def _known(found: Found, fleet: Fleet) -> str:
    """Say what the fleet file calls the board, and how to tell it where the board is now."""
    entry = _entry(found, fleet)
    if entry is None:
        return ""
    if entry.address == found.address:
        return entry.name
    return f"{entry.name}, moved: boardfront device add {found.address} --name {entry.name}"


def _entry(found: Found, fleet: Fleet) -> FleetEntry | None:
    """Return the board that has the identity which this one claims."""
    return next((e for e in fleet.entries if e.device_id == found.device_id), None)
