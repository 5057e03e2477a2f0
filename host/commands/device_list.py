"""`boardfront device list` and `remove`: the fleet file, without asking any board."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from boardfront.host.fleet.fleet_file import load_fleet
from boardfront.host.table import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.fleet.fleet_file import FleetEntry


def run(fleet_file: Path, *, as_json: bool) -> int:
    """Print the boards of the fleet file."""
    fleet = load_fleet(fleet_file)
    if as_json:
        content = {
            "fleet": str(fleet.path),
            "devices": [entry_json(entry) for entry in fleet.entries],
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    if not fleet.entries:
        sys.stderr.write(
            f"no boards in {fleet.path}: add one by boardfront device add HOST:PORT --token "
            "TOKEN\n"
        )
        return 0
    rows = [
        (entry.name, entry.address, until_text(entry), tags_text(entry), facts_text(entry))
        for entry in fleet.entries
    ]
    print_table(("name", "address", "certificate", "tags", "known"), rows)
    return 0


def run_remove(name: str, fleet_file: Path, *, as_json: bool) -> int:
    """Take a board out of the fleet file, and let its identity be enrolled again."""
    from boardfront.host.fleet.fleet_edit import remove

    entry = remove(fleet_file, name)
    retire(entry, fleet_file.parent)
    if as_json:
        sys.stdout.write(json.dumps(entry_json(entry), indent=2) + "\n")
    else:
        sys.stdout.write(f"{entry.name} ({entry.address}) is no longer in {fleet_file}\n")
        if entry.is_enrolled:
            sys.stdout.write(
                "  its agent goes on serving this fleet's people: end it, or enrol it elsewhere\n"
            )
    return 0


def entry_json(entry: FleetEntry) -> dict[str, Any]:
    """Return an entry of the fleet file for programs."""
    after = entry.certificate_not_after
    return {
        "name": entry.name,
        "address": entry.address,
        "device_id": entry.device_id,
        "tags": dict(entry.tags),
        "facts": {key: list(values) for key, values in entry.facts.items()},
        "certificate_serial": entry.certificate_serial or None,
        "certificate_not_after": after.isoformat() if after else None,
    }


def until_text(entry: FleetEntry) -> str:
    """Say until when the board's certificate is good."""
    if not entry.is_enrolled:
        return "none"
    after = entry.certificate_not_after
    if after is None:
        return "yes"
    return f"{'until' if after > datetime.now(timezone.utc) else 'ended'} {after:%Y-%m-%d}"


def tags_text(entry: FleetEntry) -> str:
    """Write what the person said of a board, as it is typed to select it."""
    return ",".join(f"{key}={value}" for key, value in entry.tags.items())


def facts_text(entry: FleetEntry) -> str:
    """Write what a board said of itself, as it is typed to select it."""
    return ",".join(f"{key}={value}" for key, values in entry.facts.items() for value in values)


def retire(entry: FleetEntry, folder: Path) -> None:
    """Let a board's identity be enrolled again, if this host's authority enrolled it."""
    if not entry.is_enrolled:
        return
    from boardfront.host.fleet.authority import Authority, NotTheAuthorityError

    try:
        authority = Authority.open(folder)
    except NotTheAuthorityError:
        # Of somebody else's fleet: its owner remembers the board.
        return
    authority.retire(entry.device_id)
