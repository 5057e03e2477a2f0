"""What a board says of itself, as tags that a person can select it by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boardfront.host.fleet.fleet_file import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boardfront.protos.records import DeviceDescription


def facts_of(description: DeviceDescription) -> dict[str, tuple[str, ...]]:
    """Return the facts that last, by key; those that the board does not know are left out.

    `soc` is the chip's short name, `machine` the instruction set, `backend` every backend that
    measures there. What changes with an update or a setting (kernel, governor) is no fact.
    """
    hardware = description.hardware
    facts = {
        "soc": (_soc(hardware.soc or ""),),
        "machine": (hardware.machine,),
        "cpu": (hardware.cpu_model,),
        "cores": (str(hardware.logical_cores),),
        "backend": tuple(info.name for info in description.backends if info.available),
    }
    return {key: clean for key, values in facts.items() if (clean := _clean(values))}


def name_of(description_name: str, taken: Iterable[str]) -> str:
    """Return a name that a board may be called by, near to what it calls itself.

    Args:
        description_name: What the board calls itself; any text.
        taken: Names that others have.
    """
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", description_name).strip("-._")[:50]
    base = text if NAME.fullmatch(text) and text != "local" else "board"
    taken = set(taken)
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _soc(text: str) -> str:
    """Return `rk3588` of `rockchip,rk3588`: the vendor is in no one's mind, a comma parts tags."""
    return text.rpartition(",")[2]


def _clean(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values as tags can have them; a board's words may be anything."""
    clean = (
        " ".join("".join(c if c.isprintable() and c not in ",=" else " " for c in value).split())
        for value in values
    )
    return tuple(value[:80] for value in clean if value)
