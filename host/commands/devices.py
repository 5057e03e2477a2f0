"""`boardfront devices`: which devices answer, and what they can do."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from boardfront.host.table import print_table
from boardfront.protos import codec
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.protos.records import DeviceDescription


def run(devices: Sequence[str], *, as_json: bool) -> int:
    """Ask every device, print a table, and return 1 if one did not answer."""
    answers = {device: _ask(device) for device in devices}
    if as_json:
        content = [_to_json(device, answer) for device, answer in answers.items()]
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        _print(answers)
    return 1 if any(isinstance(a, BoardfrontError) for a in answers.values()) else 0


def _ask(device: str) -> DeviceDescription | BoardfrontError:
    from boardfront.host.fleet.address import parse_device
    from boardfront.host.fleet.client import AgentClient

    address = parse_device(device)
    client = AgentClient(address)
    try:
        return client.describe()
    except WrongInputError:
        raise
    except BoardfrontError as error:
        return error
    finally:
        client.close()
        address.close()


def _to_json(device: str, answer: DeviceDescription | BoardfrontError) -> dict[str, Any]:
    if isinstance(answer, BoardfrontError):
        return {"device": device, "error": str(answer)}
    message = json_format.MessageToDict(codec.to_message(answer), preserving_proto_field_name=True)
    return {"device": device, **message}


def _print(answers: dict[str, DeviceDescription | BoardfrontError]) -> None:
    headings = ("device", "name", "processor", "cores", "backends", "fingerprint", "queue")
    rows = [
        _row(device, answer)
        for device, answer in answers.items()
        if not isinstance(answer, BoardfrontError)
    ]
    if rows:
        print_table(headings, rows, right={"cores", "queue"})
    for device, answer in answers.items():
        if isinstance(answer, BoardfrontError):
            sys.stderr.write(f"boardfront: {device}: {answer}\n")


def _row(device: str, answer: DeviceDescription) -> tuple[str, ...]:
    backends = ", ".join(
        f"{info.name} {info.version}" if info.available else f"({info.name})"
        for info in answer.backends
    )
    return (
        device,
        answer.name,
        answer.hardware.cpu_model,
        str(answer.hardware.logical_cores),
        backends,
        answer.fingerprint,
        str(answer.queued_jobs),
    )
