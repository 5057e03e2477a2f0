"""The key of a time: everything that the time is true for, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models import strict_json
from boardfront.protos.records import MEASUREMENT_PROTOCOL_VERSION, Origin, Target, Task

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeKey:
    """Two measurements are of the same time where their keys are equal.

    Which device of a kind was used, which agent version asked, how precisely and why: these are
    recorded beside a measurement and are no part of its key.

    Args:
        structure_hash: Of the network, see `structure.structure_hash`.
        task: What is timed.
        fingerprint: Of the kind of device and its set-up, without its identity.
        backend: What executed the network.
        backend_version: Its version.
        options: The backend's options in full, sorted by name.
        tuning: Hash of the tuning database, or empty.
        cpus: Cores that it ran on, e.g. "4-7"; empty in keys of before cores were recorded.
        input_shapes: Shapes given to a dynamic model's inputs, sorted by name.
        measurement_protocol_version: Of the rules of timing.
        origin: Whether the time was measured, emulated, simulated or programmed.
    """

    structure_hash: str
    task: Task
    fingerprint: str
    backend: str
    backend_version: str
    options: tuple[tuple[str, str], ...] = ()
    tuning: str = ""
    cpus: str = ""
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    measurement_protocol_version: int = MEASUREMENT_PROTOCOL_VERSION
    origin: Origin = Origin.MEASURED

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))
        object.__setattr__(self, "input_shapes", tuple(sorted(self.input_shapes)))

    @classmethod
    def of_target(
        cls,
        target: Target,
        *,
        structure_hash: str,
        task: Task,
        input_shapes: Mapping[str, tuple[int, ...]],
        origin: Origin,
    ) -> TimeKey:
        """Build the key of a network's time on `target`."""
        return cls(
            structure_hash=structure_hash,
            task=task,
            fingerprint=target.fingerprint,
            backend=target.backend,
            backend_version=target.backend_version,
            options=tuple(target.options.items()),
            tuning=target.tuning,
            cpus=target.cpus,
            input_shapes=tuple((name, tuple(shape)) for name, shape in input_shapes.items()),
            origin=origin,
        )

    @property
    def digest(self) -> str:
        """The sha256 of the key's canonical JSON, in 64 hexadecimal digits."""
        content = strict_json.encode(self)
        assert isinstance(content, dict)  # noqa: S101 - a record encodes to a dict
        if not self.cpus:
            # Keys of before cores were recorded keep their digest.
            del content["cpus"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
