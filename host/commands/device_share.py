"""`boardfront device invite` and `join`: one fleet for several people."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.fleet_edit import check_writable, put
from boardfront.host.fleet.fleet_file import FleetEntry, load_fleet, parse_fleet, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.host.fleet.fleet_file import Fleet


@dataclass(frozen=True, kw_only=True, slots=True)
class _Merge:
    """What an invitation's boards become: those to write, and those that are left as they are."""

    taken: tuple[FleetEntry, ...]
    left: tuple[str, ...]


def run_invite(name: str, output: Path, fleet_file: Path, *, admin: bool, as_json: bool) -> int:
    """Write an invitation and say what to do with it; return 0."""
    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.credentials import Role
    from boardfront.host.fleet.invitation import invite

    fleet = load_fleet(fleet_file)
    authority = Authority.open(fleet_file.parent)
    shared = [entry.name for entry in fleet.entries if entry.is_enrolled]
    role = Role.ADMIN if admin else Role.USER
    issued = invite(authority, name, output, fleet=_shared_text(fleet), role=role)
    if as_json:
        content = {
            "name": name,
            "file": str(output),
            "role": role.value,
            "serial": issued.serial,
            "not_after": issued.not_after.isoformat(),
            "devices": shared,
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    sys.stdout.write(
        f"{output} lets {name} use {', '.join(shared) or 'boards to come'} "
        f"until {issued.not_after:%Y-%m-%d}\n"
        f"  it holds a private key: carry it by a safe way (scp), then remove it here\n"
        f"  there        boardfront device join {output.name}\n"
        f"  take it back boardfront device revoke {name}\n"
    )
    return 0


def run_join(invitation: Path, fleet_file: Path, *, as_json: bool) -> int:
    """Use an invitation; return 0."""
    from boardfront.host.fleet.invitation import join

    # Our own file first: nothing is begun that could not be ended.
    fleet = load_fleet(fleet_file)
    check_writable(fleet_file)
    joined = join(invitation, fleet_file.parent)
    theirs = parse_fleet(joined.fleet, invitation)
    merge = _merge(fleet.entries, theirs.entries)
    for entry in merge.taken:
        put(fleet_file, entry)
    if as_json:
        content = {
            "name": joined.name,
            "not_after": joined.not_after.isoformat(),
            "devices": [entry.name for entry in merge.taken],
            "not_taken": list(merge.left),
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        names = ", ".join(entry.name for entry in merge.taken) or "no boards yet"
        sys.stdout.write(
            f"you are {joined.name} until {joined.not_after:%Y-%m-%d}; in {fleet_file}: {names}\n"
            f"  look         boardfront devices\n"
            f"  {invitation} holds your private key: remove it\n"
        )
    for name in merge.left:
        sys.stderr.write(
            f"note: {name!r} is another board in your file and stays: rename yours in "
            f"{fleet_file}, then join again\n"
        )
    return 0


def _shared_text(fleet: Fleet) -> str:
    """Return the fleet file without the boards that only this host can reach."""
    import tomlkit

    document = tomlkit.parse(read_text(fleet.path))
    for entry in fleet.entries:
        if not entry.is_enrolled:
            del document["device"][entry.name]
    return tomlkit.dumps(document)


def _merge(ours: Sequence[FleetEntry], theirs: Sequence[FleetEntry]) -> _Merge:
    """Take their boards; of one that we have, their address and our tags before theirs.

    A board that we call otherwise keeps our name.
    """
    by_id = {entry.device_id: entry for entry in ours if entry.device_id}
    names = {entry.name for entry in ours}
    taken, left = [], []
    for entry in theirs:
        known = by_id.get(entry.device_id)
        if known is not None:
            taken.append(replace(entry, name=known.name, tags={**entry.tags, **known.tags}))
        elif entry.name in names:
            left.append(entry.name)
        else:
            taken.append(entry)
    return _Merge(taken=tuple(taken), left=tuple(left))
