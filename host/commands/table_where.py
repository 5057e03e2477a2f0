"""What the commands that build, transfer and verify tables share: a device, a task, a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.protos.core_lists import format_cpus, parse_cpus
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Task, TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from boardfront.host.chain_writer import TableSpace
    from boardfront.latency_models.base import Measurer
    from boardfront.latency_models.table import Table
    from boardfront.protos.records import DeviceDescription

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TASKS = (TaskKind.INFERENCE, TaskKind.TRAINING_STEP, TaskKind.TRAINING_STEP_GRAPH)


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which device measures, and where answers are kept."""

    device: str
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    start_below_c: float | None = None
    store: str | Path
    fleet: Path | None = None
    priority: int = 0


def said_options(
    where: Where, table: Table | None, description: DeviceDescription
) -> dict[str, str]:
    """Return the backend options of a table, and those that are asked for, less all defaults.

    So a job that was sent when they were said is the same where they are not.
    """
    info = description.backend(where.backend or (table.target.backend if table else ""))
    defaults = {option.name: option.default for option in info.options} if info else {}
    said = {**(table.target.options if table is not None else {}), **where.options}
    # A default may be what nobody could ask for, such as nothing.
    return {name: value for name, value in said.items() if value != defaults.get(name)}


def same_cpus(text: str) -> str:
    """Return a list of cores as agents write it; what is none, as it stands."""
    found = parse_cpus(text)
    return format_cpus(found) if found else text


@contextlib.contextmanager
def connected(
    where: Where, what: str, say: Callable[[str], None], *, seed: str = ""
) -> Iterator[tuple[Measurer, DeviceDescription]]:
    """Hold a device and give its measurer: one lease for all that is measured.

    Args:
        where: Which device.
        what: What the run is called where others wait for the device.
        say: Told who is waited for, and when a connection is lost.
        seed: Names what may be gone on with: it meets its own lease again.
    """
    from boardfront.host.fleet.lease import lease_request, leased_client
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.host.fleet.select import select_one
    from boardfront.latency_models.store import MeasurementStore

    device = select_one(where.device, where.fleet, say=say)
    with (
        MeasurementStore(where.store) as store,
        contextlib.closing(device.address),
        leased_client(
            device.address,
            lease_request(what, seed=seed, priority=where.priority),
            device=device.name,
            say=say,
            on_lost=say,
        ) as client,
    ):
        yield DeviceMeasurer(client, store), client.describe()


def parse_duration(given: str) -> float | None:
    """Return the seconds of `45m`, `90s` or `1.5h`; None for an empty text.

    Raises:
        WrongInputError: If the text has another form.
    """
    if not given:
        return None
    try:
        amount = float(given[:-1])
    except ValueError:
        amount = 0.0
    if given[-1] not in _UNITS_S or not 0 < amount < float("inf"):
        raise WrongInputError(f"--budget {given!r}: expected e.g. 45m, 90s or 1.5h")
    return amount * _UNITS_S[given[-1]]


def task_of(kind: str, batch: int, space: TableSpace) -> Task:
    """Return what is timed, in full.

    Raises:
        WrongInputError: If there is no such task.
    """
    known = {one.value: one for one in _TASKS}
    if kind not in known:
        raise WrongInputError(f"--task {kind!r}: expected one of {', '.join(known)}")
    task = Task(
        kind=known[kind],
        batch=batch,
        resolution=space.networks.resolution,
        classes=space.networks.classes,
    )
    space.set_task(task)
    return task
