"""A latency table: what the blocks of one space cost on one target, and how far to trust it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping  # noqa: TC003 - strict_json resolves the annotations
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.latency_models import strict_json
from boardfront.latency_models.table_origin import (
    TransferOrigin,  # noqa: TC001 - strict_json resolves the annotations
)
from boardfront.latency_models.table_parts import (
    Calibration,
    EntryOrigin,
    FinalistRow,
    NetworkRole,
    NetworkTime,
    Residual,
    TableEntry,
)
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import (  # noqa: TC001 - strict_json resolves the annotations
    Origin,
    Target,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.protos.records import DeviceDescription

__all__ = [
    "FORMAT",
    "VERSION",
    "Calibration",
    "EntryOrigin",
    "FinalistRow",
    "NetworkRole",
    "NetworkTime",
    "Residual",
    "Table",
    "TableEntry",
    "TargetChangedError",
    "from_json",
    "missing_of",
    "target_text",
    "to_json",
    "write_whole",
]

FORMAT = "boardfront-latency-table"
VERSION = 1
"""Of the file's form. A reader of an older version refuses a newer one."""

_LARGEST_BYTES = 1 << 28


class TargetChangedError(WrongInputError):
    """A table is not of this device as it is now.

    Args:
        changes: What differs, one sentence each.
        force: How to use it nevertheless.
        where: What the text begins with.
    """

    def __init__(
        self, changes: tuple[str, ...], *, force: str = "--force", where: str = ""
    ) -> None:
        self.changes = changes
        super().__init__(
            f"{where}expected the target that the table was measured on, got another: "
            f"{'; '.join(changes)}: build the table anew, or use it as it is with {force}, "
            "which marks the results"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Block times of one space for one target and task, in seconds.

    A network is predicted as `fixed_s` plus the times of its blocks, the stem and the head among
    them; then calibrated.

    Args:
        space: Name of the space.
        space_settings: As they were given; those left out have the space's defaults.
        task: What was timed.
        target: Kind of device, backend, its options in full, cores.
        origin: Whether the times were measured or programmed.
        device_id: Of the device that measured. Recorded, not compared.
        device_name: That device's name for people.
        agent_version: Of its agent.
        built_unix_s: When it was begun, in seconds since 1970 (UTC).
        measurement_protocol_version: Of the rules of timing.
        base: The network whose level all times have: most blocks were inserted into it.
        base_s: Its time alone, seconds a run; 1 where there is no base, in an imported table.
        base_low_s: Of that time's 95 % interval. A shift of it shifts the whole table.
        base_high_s: Of that interval.
        fixed_s: What a call costs without any block.
        fixed_low_s: Of its 95 % interval.
        fixed_high_s: Of its 95 % interval.
        entries: In the order of the space.
        missing: Blocks, as text, that the build was not able to measure, or not yet.
        networks: Whole networks.
        calibration: Fitted on those for it; None where there were too few.
        residual: On the held-out ones; None where there are none yet: such a table is not
            finished.
        precision: Asked of an entry: half of the interval's width over the time.
        unit: Of all times.
        seed: Names the jobs of the build, so that going on with it measures nothing twice.
        notes: What a reader has to know besides.
        finalists: A row a search that went by the table, in the order of measuring. They are no
            part of what was measured to build it.
        transfer: Another board's table that the entries come from; None: from none.
    """

    space: str
    space_settings: Mapping[str, object]
    task: Task
    target: Target
    origin: Origin
    device_id: str
    device_name: str
    agent_version: str
    built_unix_s: float
    measurement_protocol_version: int
    base: str
    base_s: float
    base_low_s: float
    base_high_s: float
    fixed_s: float
    fixed_low_s: float
    fixed_high_s: float
    entries: tuple[TableEntry, ...]
    missing: tuple[str, ...] = ()
    networks: tuple[NetworkTime, ...] = ()
    calibration: Calibration | None = None
    residual: Residual | None = None
    precision: float = 0.05
    unit: str = "s"
    seed: str = ""
    notes: tuple[str, ...] = ()
    finalists: tuple[FinalistRow, ...] = ()
    transfer: TransferOrigin | None = None

    def __post_init__(self) -> None:
        if not 0 < self.base_low_s <= self.base_s <= self.base_high_s:
            raise WrongInputError(
                f"expected 0 < base_low_s <= base_s <= base_high_s, got {self.base_low_s}, "
                f"{self.base_s}, {self.base_high_s}: the table is damaged; build it anew"
            )
        if self.unit != "s":
            raise WrongInputError(
                f"expected a table in seconds (unit 's'), got {self.unit!r}: convert its times"
            )
        blocks = len(self.times_s)
        if blocks != len(self.entries):
            raise WrongInputError(
                f"expected each block once, got {len(self.entries)} entries of {blocks} "
                "blocks: the table is damaged; build it anew"
            )

    @property
    def times_s(self) -> dict[BlockKey, float]:
        """The entries' times by block, seconds."""
        return {entry.block: entry.time_s for entry in self.entries}

    @property
    def is_finished(self) -> bool:
        """Whether nothing is missing: a table without its residual is not finished."""
        return not self.missing and self.residual is not None

    @property
    def content_digest(self) -> str:
        """A sha256, in 64 hexadecimal digits, of all that predicts: all but `finalists`."""
        body = to_json(replace(self, finalists=()))
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def entry(self, block: BlockKey) -> TableEntry | None:
        """Return a block's entry, or None."""
        return next((entry for entry in self.entries if entry.block == block), None)

    def covers(self, decomposition: Decomposition) -> bool:
        """Return whether all blocks of a network have an entry."""
        known = {entry.block for entry in self.entries}
        return known.issuperset(decomposition.blocks)

    def sum_s(self, decomposition: Decomposition) -> float:
        """Return the plain sum of a network's blocks and the fixed part, seconds.

        Raises:
            WrongInputError: A block has no entry.
        """
        return self.sums_s([decomposition])[0]

    def sums_s(self, decompositions: Iterable[Decomposition]) -> list[float]:
        """Return the plain sums of networks, seconds, see `sum_s`."""
        times_s = self.times_s
        try:
            return [
                sum((times_s[block] for block in one.blocks), self.fixed_s)
                for one in decompositions
            ]
        except KeyError as missing:
            raise WrongInputError(
                f"expected a table with block {missing.args[0].text!r}, got none of it among "
                f"{len(self.entries)} entries: go on with its build, or take another space's"
            ) from missing

    def predict_s(self, decomposition: Decomposition) -> float:
        """Return the calibrated time of a network, seconds.

        Raises:
            WrongInputError: A block has no entry.
        """
        return self.calibrated_s(self.sum_s(decomposition))

    def calibrated_s(self, sum_s: float) -> float:
        """Return the time of a network whose blocks come to `sum_s`, seconds."""
        if self.calibration is None:
            return sum_s
        return self.calibration.offset_s + self.calibration.slope * sum_s

    def changes(self, description: DeviceDescription) -> tuple[str, ...]:
        """Return in which ways a device is not the table's target, one sentence each."""
        found = []
        if description.fingerprint != self.target.fingerprint:
            found.append(
                f"{description.name} has the fingerprint {description.fingerprint[:12]}, the "
                f"table {self.target.fingerprint[:12]} (hardware, system or clocks changed)"
            )
        info = description.backend(self.target.backend)
        if info is None or not info.available:
            found.append(f"{description.name} has no backend {self.target.backend!r}")
        elif info.version != self.target.backend_version:
            found.append(
                f"{self.target.backend} is {info.version}, the table was measured with "
                f"{self.target.backend_version}"
            )
        if description.measurement_protocol_version != self.measurement_protocol_version:
            found.append(
                f"the rules of timing are version {description.measurement_protocol_version}, "
                f"the table's {self.measurement_protocol_version}"
            )
        return tuple(found)

    def check_target(
        self, description: DeviceDescription, *, force: bool = False
    ) -> tuple[str, ...]:
        """Return how a device differs from the table's target, for marking what comes of it.

        Args:
            description: Of the device now.
            force: Use the table nevertheless.

        Raises:
            TargetChangedError: It differs, and `force` is not given.
        """
        found = self.changes(description)
        if found and not force:
            raise TargetChangedError(found)
        return found

    def save(self, path: str | Path) -> None:
        """Write the table; the file appears whole or not at all.

        Raises:
            WrongInputError: The file cannot be written.
        """
        write_whole(Path(path), json.dumps(to_json(self), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Table:
        """Read what `save` wrote.

        Raises:
            WrongInputError: There is no such file, or it is damaged or of a newer version.
        """
        place = Path(path)
        try:
            with place.open("rb") as file:
                content = file.read(_LARGEST_BYTES + 1)
        except OSError as problem:
            raise WrongInputError(
                f"{place}: expected a latency table, got {problem.strerror}: check the path"
            ) from problem
        if len(content) > _LARGEST_BYTES:
            raise WrongInputError(
                f"{place}: expected a latency table of at most {_LARGEST_BYTES >> 20} MiB, got "
                "more: give a file that `boardfront table build` wrote"
            )
        try:
            data = json.loads(content.decode(), parse_constant=_refuse)
        except (ValueError, RecursionError) as problem:
            raise WrongInputError(
                f"{place}: expected a latency table, got no JSON ({problem}): the file is "
                "damaged; build it anew (what was measured is in the store)"
            ) from problem
        return from_json(data, str(place))


def to_json(table: Table) -> dict[str, object]:
    """Return a table as a JSON document that says what it is."""
    body = strict_json.encode(table)
    assert isinstance(body, dict)  # noqa: S101 - a record encodes to a dict
    return {"format": FORMAT, "version": VERSION, **body}


def from_json(data: object, place: str) -> Table:
    """Read what `to_json` made.

    Args:
        data: The JSON document.
        place: Where it came from, for the error's text.

    Raises:
        WrongInputError: It is no table, or not one of this version.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        got = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise WrongInputError(
            f"{place}: expected a latency table (format {FORMAT!r}), got {got!r:.60}: give a "
            "file that `boardfront table build` or `table import` wrote"
        )
    if data.get("version") != VERSION:
        raise WrongInputError(
            f"{place}: expected a table of version {VERSION}, got {data.get('version')!r:.20}: "
            "it was written by another boardfront; use that, or build the table anew"
        )
    body = {name: value for name, value in data.items() if name not in {"format", "version"}}
    try:
        return strict_json.decode(Table, body)
    except WrongInputError as error:
        raise WrongInputError(f"{place}: {error}") from error


def target_text(table: Table) -> str:
    """Return the target in a few words."""
    options = " ".join(f"{name}={value}" for name, value in sorted(table.target.options.items()))
    cpus = f" cpus {table.target.cpus}" if table.target.cpus else ""
    version = f"{table.target.backend} {table.target.backend_version}"
    return f"{table.device_name}, {version}{cpus}" + (f" ({options})" if options else "")


def missing_of(blocks: Iterable[BlockKey], entries: Iterable[TableEntry]) -> tuple[str, ...]:
    """Return those of a space's blocks, as text, that have no entry."""
    known = {entry.block for entry in entries}
    return tuple(block.text for block in blocks if block not in known)


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        WrongInputError: It cannot be written.
    """
    part = ""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except OSError as problem:
        if part:
            Path(part).unlink(missing_ok=True)
        raise WrongInputError(
            f"{path}: expected a place to write to, got {problem.strerror}: choose another"
        ) from problem


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no finite number")
