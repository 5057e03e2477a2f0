"""`boardfront device rotate` and `revoke`: the certificates of boards and of people."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.fleet_file import load_fleet
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.credentials import ClientInfo
    from boardfront.host.fleet.enrolment import Enrolled
    from boardfront.host.fleet.fleet_file import Fleet, FleetEntry
    from boardfront.host.fleet.select import Selected

_WITHIN_S = 60.0


def run_rotate(
    names: Sequence[str], fleet_file: Path, *, every: bool, own: bool, as_json: bool
) -> int:
    """Renew the named boards' certificates one by one; return 1 if one could not be."""
    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.enrolment import renew_own

    fleet = load_fleet(fleet_file)
    entries = _meant(names, fleet, every=every)
    if not entries and not own:
        raise WrongInputError(
            "no board was named: expected boardfront device rotate NAME, --all for all enrolled "
            "boards, or --own for this host's own certificate"
        )
    authority = Authority.open(fleet_file.parent)
    info = renew_own(authority) if own else None
    answers = [(entry, _rotate(entry, fleet, authority)) for entry in entries]
    if as_json:
        _print_rotated_json(answers, info)
    else:
        if info is not None:
            sys.stdout.write(f"{info.name} (this host) until {info.not_after:%Y-%m-%d}\n")
        for entry, answer in answers:
            if not isinstance(answer, BoardfrontError):
                sys.stdout.write(f"{entry.name} until {answer.not_after:%Y-%m-%d}\n")
    return _tell_failed(answers)


def run_revoke(who: str, fleet_file: Path, *, as_json: bool) -> int:
    """Revoke somebody's certificates and tell all boards; return 1 if one could not be told."""
    from boardfront.host.fleet.asking import ask_all
    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.enrolment import send_revoked
    from boardfront.host.fleet.select import of_entry

    fleet = load_fleet(fleet_file)
    authority = Authority.open(fleet_file.parent)
    _check_not_own(who, fleet_file.parent)
    serials = authority.revoke(who)
    boards = [of_entry(entry, fleet) for entry in fleet.entries if entry.is_enrolled]

    def tell(board: Selected, _: AgentClient) -> None:
        send_revoked(board.address, authority)

    answers = ask_all(boards, tell, within_s=_WITHIN_S)
    away = {
        board.name: answer
        for board, answer in zip(boards, answers, strict=True)
        if isinstance(answer, BoardfrontError)
    }
    told = [board.name for board in boards if board.name not in away]
    if as_json:
        content = {
            "revoked": list(serials),
            "told": told,
            "not_told": {name: str(error) for name, error in away.items()},
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        new = ", ".join(serials) or "no certificate that was not revoked before"
        sys.stdout.write(f"revoked: {new}\ntold: {', '.join(told) or 'no board'}\n")
    for name, error in away.items():
        sys.stderr.write(f"boardfront: {name} was not told: {error}\n")
    if away:
        sys.stderr.write(f"tell them later: boardfront device revoke {who}\n")
    return 1 if away else 0


def _meant(names: Sequence[str], fleet: Fleet, *, every: bool) -> list[FleetEntry]:
    if every:
        return [entry for entry in fleet.entries if entry.is_enrolled]
    entries = [fleet.get(name) for name in names]
    for entry in entries:
        if not entry.is_enrolled:
            raise WrongInputError(
                f"{entry.name!r} has no certificate to renew: expected an enrolled board; "
                "`boardfront-agent enroll` there, then boardfront device add with its token"
            )
    return entries


def _rotate(entry: FleetEntry, fleet: Fleet, authority: Authority) -> Enrolled | BoardfrontError:
    from boardfront.host.fleet.enrolment import rotate
    from boardfront.host.fleet.fleet_edit import put
    from boardfront.host.fleet.select import address_of

    try:
        renewed = rotate(address_of(entry, fleet), authority, entry.name)
    except BoardfrontError as error:
        return error
    put(
        fleet.path,
        replace(entry, certificate_serial=renewed.serial, certificate_not_after=renewed.not_after),
    )
    return renewed


def _print_rotated_json(
    answers: Sequence[tuple[FleetEntry, Enrolled | BoardfrontError]], info: ClientInfo | None
) -> None:
    devices = [
        {"device": entry.name, "error": str(answer)}
        if isinstance(answer, BoardfrontError)
        else {
            "device": entry.name,
            "serial": answer.serial,
            "not_after": answer.not_after.isoformat(),
        }
        for entry, answer in answers
    ]
    own = None
    if info is not None:
        own = {"name": info.name, "serial": info.serial, "not_after": info.not_after.isoformat()}
    sys.stdout.write(json.dumps({"own": own, "devices": devices}, indent=2) + "\n")


def _tell_failed(answers: Sequence[tuple[FleetEntry, Enrolled | BoardfrontError]]) -> int:
    failed = [(e.name, answer) for e, answer in answers if isinstance(answer, BoardfrontError)]
    for name, error in failed:
        sys.stderr.write(f"boardfront: {name} keeps its certificate: {error}\n")
    return 1 if failed else 0


def _check_not_own(who: str, folder: Path) -> None:
    """Refuse to lock oneself out: nobody could tell the boards anything any more."""
    from boardfront.host.fleet.credentials import read_client

    own = read_client(folder)
    if own is not None and who in {own.name, own.serial}:
        raise WrongInputError(
            f"{who!r} is this host's own certificate: expected another's; boardfront device "
            "rotate --own renews yours, then the old serial can be revoked"
        )
