"""`boardfront device add`: a board into the fleet file, enrolled if it comes with a token."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host.commands.device_list import entry_json, facts_text, retire, tags_text
from boardfront.host.fleet import facts
from boardfront.host.fleet.address import AgentAddress, RemoteAddress
from boardfront.host.fleet.fleet_edit import check_writable, put, remove
from boardfront.host.fleet.fleet_file import Fleet, FleetEntry, check_name, load_fleet
from boardfront.host.fleet.select import address_of
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.host.fleet.enrolment import Enrolled
    from boardfront.protos.records import DeviceDescription

_LOOPBACK = re.compile(r"(127\.[0-9.]+|localhost|\[::1\]):[0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class AddArguments:
    """What the person asked."""

    address: str
    token: str
    name: str
    tags: Mapping[str, str]
    replace: bool
    as_json: bool
    fleet: Path


def run(arguments: AddArguments) -> int:
    """Add the board, say what it is, and return 0."""
    RemoteAddress(arguments.address)
    fleet = load_fleet(arguments.fleet)
    if arguments.name:
        _check_free(arguments, fleet)
    # Before anything happens on the board that could not be written down here.
    check_writable(arguments.fleet)
    entry, unseen = _enrol(arguments) if arguments.token else _reach(arguments, fleet)
    entry = _merged(entry, arguments, fleet)
    ousted = fleet.find(entry.name)
    if ousted is not None and ousted.device_id != entry.device_id:
        retire(ousted, arguments.fleet.parent)
    older = _of_same_board(entry, fleet)
    if older is not None and older.name != entry.name:
        remove(arguments.fleet, older.name)
    put(arguments.fleet, entry)
    if arguments.as_json:
        sys.stdout.write(json.dumps(entry_json(entry), indent=2) + "\n")
    else:
        sys.stdout.write(_told(entry, arguments.fleet))
    if unseen:
        sys.stderr.write(f"note: {unseen}\n")
    return 0


def _check_free(arguments: AddArguments, fleet: Fleet) -> None:
    """Refuse a name that another board has; without a token it may be the same board again."""
    check_name(arguments.name)
    taken = fleet.find(arguments.name)
    if taken is not None and arguments.token and not arguments.replace:
        raise WrongInputError(_is_taken(taken, fleet))


def _enrol(arguments: AddArguments) -> tuple[FleetEntry, str]:
    """Give the board a certificate; return its entry and what went wrong afterwards."""
    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.enrolment import enrol, read_token

    token = read_token(arguments.token, sys.stdin).strip()
    authority = Authority.open(arguments.fleet.parent, create=True)
    enrolled = enrol(
        arguments.address, token, authority, arguments.name, replace=arguments.replace
    )
    entry = _entry_of(enrolled)
    if not enrolled.answers:
        return entry, (
            f"{enrolled.name} has its certificate and does not serve yet: start boardfront-agent "
            f"serve there, then boardfront device show {enrolled.name}"
        )
    address = address_of(entry, Fleet(path=arguments.fleet))
    try:
        description = _describe(address)
    except BoardfrontError as error:
        # The board is ours already: what it said of itself can be asked for later.
        return entry, f"{enrolled.name} is enrolled, but said nothing of itself: {error}"
    return replace(entry, facts=facts.facts_of(description)), ""


def _entry_of(enrolled: Enrolled) -> FleetEntry:
    return FleetEntry(
        name=enrolled.name,
        address=enrolled.address,
        device_id=enrolled.device_id,
        certificate_serial=enrolled.serial,
        certificate_not_after=enrolled.not_after,
    )


def _reach(arguments: AddArguments, fleet: Fleet) -> tuple[FleetEntry, str]:
    """Ask what is there: a board that we know by its certificate, or an agent without TLS.

    Only through loopback nobody can listen in.
    """
    known = fleet.find(arguments.name)
    if known is not None and known.is_enrolled and not arguments.replace:
        # It has moved: that it is the same board, its certificate proves.
        moved = replace(known, address=arguments.address)
        return replace(moved, facts=facts.facts_of(_describe(address_of(moved, fleet)))), ""
    if _LOOPBACK.fullmatch(arguments.address) is None:
        raise WrongInputError(
            f"no --token for {arguments.address}: expected the one that `boardfront-agent enroll "
            "--listen 0.0.0.0:PORT` prints on the board, or 127.0.0.1:PORT of an SSH tunnel"
        )
    description = _describe(RemoteAddress(arguments.address))
    entry = FleetEntry(
        name=arguments.name or description.name,
        address=arguments.address,
        device_id=description.device_id,
        facts=facts.facts_of(description),
    )
    return entry, ""


def _describe(address: AgentAddress) -> DeviceDescription:
    from boardfront.host.fleet.client import AgentClient

    with contextlib.closing(AgentClient(address)) as client:
        return client.describe()


def _merged(entry: FleetEntry, arguments: AddArguments, fleet: Fleet) -> FleetEntry:
    """Return the entry with its final name and with what the file said of the board before.

    Raises:
        WrongInputError: If an enrolled board came without its token, if the name is another
            board's, or the board is there under another name, and nothing is to be replaced.
    """
    older = _of_same_board(entry, fleet)
    name = arguments.name or (older.name if older else "")
    if not name:
        name = facts.name_of(entry.name, (one.name for one in fleet.entries))
    taken = fleet.find(name)
    # What was enrolled is written down in any case: its certificate cannot be taken back.
    if not arguments.replace and not arguments.token:
        if taken is not None and taken.device_id != entry.device_id:
            raise WrongInputError(_is_taken(taken, fleet))
        if older is not None and older.name != name:
            raise WrongInputError(
                f"the board at {entry.address} is in {fleet.path} as {older.name!r}: use that "
                f"name, or give --replace to call it {name!r}"
            )
        if older is not None and older.is_enrolled and not entry.is_enrolled:
            raise WrongInputError(
                f"{older.name!r} is enrolled, and this agent speaks without certificates: enrol "
                "it again with its token, or give --replace to trust the plain connection"
            )
    tags = {**(older.tags if older else {}), **arguments.tags}
    kept_facts = older.facts if older and not entry.facts else entry.facts
    return replace(entry, name=name, tags=tags, facts=kept_facts)


def _of_same_board(entry: FleetEntry, fleet: Fleet) -> FleetEntry | None:
    return next((one for one in fleet.entries if one.device_id == entry.device_id), None)


def _is_taken(taken: FleetEntry, fleet: Fleet) -> str:
    return (
        f"{taken.name!r} is another board in {fleet.path} ({taken.address}): expected a free "
        "name; choose one, or give --replace"
    )


def _told(entry: FleetEntry, fleet_file: Path) -> str:
    after = entry.certificate_not_after
    lines = [f"{entry.name} ({entry.address}) is in {fleet_file}"]
    if after is not None:
        lines.append(f"  certificate  until {after:%Y-%m-%d}")
    for heading, content in (("tags", tags_text(entry)), ("known", facts_text(entry))):
        if content:
            lines.append(f"  {heading:<11}  {content}")
    lines.append(f"  measure      boardfront measure net.onnx --device {entry.name}")
    return "\n".join(lines) + "\n"
