"""`boardfront device show`: all that is known of one board."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from boardfront.host import text
from boardfront.host.commands.device_list import entry_json, facts_text, tags_text, until_text
from boardfront.host.commands.devices import Seen, ask_lease, lease_json, trouble
from boardfront.protos import codec
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.credentials import ClientInfo
    from boardfront.host.fleet.select import Selected
    from boardfront.protos.records import BackendInfo, DeviceDescription, LeaseStatus

_WITHIN_S = 100.0


def run(device: str, fleet_file: Path, *, as_json: bool) -> int:
    """Print what the file and the board say; return 1 if the board is away."""
    from boardfront.host.fleet.asking import ask_all

    selected = only(device, fleet_file)
    own = _own_certificate(selected)
    (answer,) = ask_all([selected], _look, within_s=_WITHIN_S)
    if as_json:
        content = _to_json(selected, answer, own)
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        lines = [*_of_file(selected, own), *_of_answer(answer)]
        sys.stdout.write(f"{selected.name}\n" + "".join(f"  {line}\n" for line in lines))
    if isinstance(answer, BoardfrontError):
        sys.stderr.write(f"boardfront: {selected.name}: {answer}\n")
        return 1
    return 0


def only(device: str, fleet_file: Path) -> Selected:
    """Return the one device that a text means.

    Raises:
        WrongInputError: If it means none, or several.
    """
    from boardfront.host.fleet.select import select

    found = select(device, fleet_file)
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise WrongInputError(f"{device!r} means several boards: expected one of {names}")
    return found[0]


def _look(_: Selected, client: AgentClient) -> Seen:
    description = client.describe()
    return Seen(description=description, lease=ask_lease(client))


def _own_certificate(selected: Selected) -> ClientInfo | None:
    from boardfront.host.fleet.credentials import read_client

    credentials = selected.address.credentials
    return None if credentials is None else read_client(credentials.folder)


def _to_json(
    selected: Selected, answer: Seen | BoardfrontError, own: ClientInfo | None
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "device": selected.name,
        "entry": entry_json(selected.entry) if selected.entry else None,
        "own_certificate": None
        if own is None
        else {
            "name": own.name,
            "role": own.role.value,
            "serial": own.serial,
            "not_after": own.not_after.isoformat(),
        },
    }
    if isinstance(answer, BoardfrontError):
        return {**content, "error": str(answer)}
    message = json_format.MessageToDict(
        codec.to_message(answer.description), preserving_proto_field_name=True
    )
    return {**content, "lease": lease_json(answer.lease), "description": message}


def _of_file(selected: Selected, own: ClientInfo | None) -> Iterator[str]:
    entry = selected.entry
    if entry is None:
        return
    yield f"address      {entry.address}"
    yield f"device id    {entry.device_id or 'not known'}"
    yield f"certificate  {until_text(entry)}"
    if own is not None:
        yield f"yours        {own.name}, {own.role.value}, until {own.not_after:%Y-%m-%d}"
    if entry.tags:
        yield f"tags         {tags_text(entry)}"
    if entry.facts:
        yield f"known        {facts_text(entry)}"


def _of_answer(answer: Seen | BoardfrontError) -> Iterator[str]:
    if isinstance(answer, BoardfrontError):
        yield f"state        {trouble(answer)}"
        return
    yield from _of_lease(answer.lease)
    yield from _of_board(answer.description)


def _of_lease(lease: LeaseStatus | None) -> Iterator[str]:
    if lease is None:
        yield "state        up, its agent knows no leases"
        return
    holder = lease.holder
    if holder is None:
        yield "state        free"
    else:
        since, until = (text.format_duration(s) for s in (holder.since_s, holder.expires_in_s))
        yield f"state        held by {holder.name} for {since}; ends in {until} unless renewed"
    for position, party in enumerate(lease.waiting, start=1):
        waited = text.format_duration(party.since_s)
        yield f"waiting {position:<4} {party.name} for {waited}, priority {party.priority}"


def _of_board(description: DeviceDescription) -> Iterator[str]:
    hardware, system = description.hardware, description.system
    yield f"calls itself {description.name}, agent {description.agent_version}"
    yield f"processor    {hardware.cpu_model}, {hardware.logical_cores} cores, {hardware.machine}"
    if hardware.soc is not None:
        yield f"chip         {hardware.soc}"
    yield f"runs on      cores {description.default_cpus} unless told otherwise"
    yield f"memory       {hardware.memory_bytes / 2**30:.1f} GiB"
    yield f"system       {system.distribution or system.name}, kernel {system.kernel}"
    yield f"governor     {system.governor or 'not readable'}"
    yield f"fingerprint  {description.fingerprint}"
    yield f"queue        {description.queued_jobs}"
    for info in description.backends:
        yield f"backend      {backend_text(info)}"


def backend_text(info: BackendInfo) -> str:
    """Write a backend with its version, or with the reason why it is not available."""
    state = info.version if info.available else f"not available: {info.reason}"
    return f"{info.name} {state}"
