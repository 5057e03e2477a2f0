"""Are boards alike, and is one fit: the sentinel that every agent carries, timed on each.

Boards of one pool answer for each other, so their answers must be worth the same: same kind and
set-up (the fingerprint), same version of the backend, and a sentinel that takes the same time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.fleet.compiling import is_compiled_here
from boardfront.host.fleet.kept_artifacts import KeptArtifacts, KeptNetwork, KeptRequest
from boardfront.host.fleet.sentinel import (
    LOOK,
    MAX_SHIFT,
    is_good,
    is_shifted,
    last_good,
)
from boardfront.latency_models.key import TimeKey
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import (
    Deadlines,
    DeviceDescription,
    Precision,
    Purpose,
    Target,
    Task,
    TaskKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.fleet.client import AgentClient
    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.store import MeasurementStore


class UnfitBoardError(BoardfrontError):
    """A board did not pass its self-test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """Times the sentinel on one target of a board.

    Args:
        backend: What executes it.
        options: Of the backend.
        cpus: Cores to run on; empty takes the device's default.
        store: Keeps the looks.
        look: How closely it is timed.
    """

    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    store: MeasurementStore
    look: Precision = LOOK

    def time(self, client: AgentClient, description: DeviceDescription) -> Measurement | None:
        """Time the sentinel; None where the board has none or the backend runs no inference."""
        key = self._key(description)
        if key is None:
            return None
        network = KeptNetwork(artifact_sha256=description.sentinel_sha256, key=key)
        request = KeptRequest(
            network=network,
            precision=self.look,
            deadlines=Deadlines(),
            purpose=Purpose.SENTINEL,
        )
        before = last_good(self.store, description.device_id, key)
        look = KeptArtifacts(client, self.store).measure(request, description)
        if before is not None and look.id is not None and is_good(look):
            self._leave_level(before, look)
        return look

    def _leave_level(self, before: Measurement, look: Measurement) -> None:
        """Keep a shifted look from becoming the level: what was measured since is not judged here.

        The drift sentinel finds the shift at its own next look, and puts that in quarantine.
        """
        if look.id is not None and is_shifted(before, look):
            self.store.quarantine([look.id], "a self-test off the sentinel's last good level")

    def check(self, client: AgentClient, now: DeviceDescription, before: Seen) -> None:
        """Raise unless a board is what it was, and takes the time that it took.

        A look whose verdict is not ok tells nothing, and keeps no board out.

        Args:
            client: Of the board.
            now: What it says of itself.
            before: What was seen of it when it joined the pool.

        Raises:
            UnfitBoardError: If it is not fit.
            DeviceUnreachableError: If it does not answer any more.
        """
        was = before.description
        if was and (now.device_id, now.fingerprint) != (was.device_id, was.fingerprint):
            raise UnfitBoardError(
                f"{now.name} is not the {was.name} that it was (fingerprint "
                f"{now.fingerprint[:12]}, expected {was.fingerprint[:12]}): start anew"
            )
        earlier, look = before.look, self.time(client, now)
        if look is None:
            return
        if look.failure is not None:
            raise UnfitBoardError(f"its sentinel failed: {look.failure.message}")
        if earlier is not None and is_good(look) and is_shifted(earlier, look):
            raise UnfitBoardError(
                f"its sentinel takes {_time(look)}, before it took {_time(earlier)}: more than "
                f"{MAX_SHIFT:.0%} off"
            )

    def _key(self, description: DeviceDescription) -> TimeKey | None:
        info = description.backend(self.backend)
        if not description.sentinel_sha256 or info is None or TaskKind.INFERENCE not in info.tasks:
            return None
        if is_compiled_here(self.backend, self.options):
            # The agent's own file is no library.
            return None
        options = {option.name: option.default for option in info.options} | dict(self.options)
        target = Target(
            fingerprint=description.fingerprint,
            backend=info.name,
            backend_version=info.version,
            options=options,
            cpus=self.cpus or description.default_cpus,
        )
        return TimeKey.of_target(
            target,
            structure_hash=description.sentinel_sha256,
            task=Task(),
            input_shapes={},
            origin=info.origin,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is known of a board before it joins a pool.

    Args:
        name: Of the board.
        description: What it says of itself; None: it did not answer.
        look: At its sentinel; None: it has none, or was not asked.
        error: Why one of them is missing.
    """

    name: str
    description: DeviceDescription | None = None
    look: Measurement | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Equality:
    """Which boards are alike.

    Args:
        alike: Names of those that are, in the order given.
        left_out: Why the others are not, by name.
        level: What the sentinel takes on those that are alike, for people; empty: nobody knows.
    """

    alike: tuple[str, ...]
    left_out: Mapping[str, str]
    level: str = ""


def same_kind(boards: Sequence[Seen], backend: str) -> Equality:
    """Return the largest group of one fingerprint and one backend version.

    Of equal groups the one with the first board counts.
    """
    kinds = {board.name: _kind(board, backend) for board in boards}
    known = [kind for kind in kinds.values() if kind is not None]
    if not known:
        return Equality(alike=(), left_out={b.name: b.error or _lacks(backend) for b in boards})
    (common, _), *_ = Counter(known).most_common(1)
    left_out = {
        board.name: _unlike(board, kinds[board.name], common, backend)
        for board in boards
        if kinds[board.name] != common
    }
    return Equality(
        alike=tuple(board.name for board in boards if board.name not in left_out),
        left_out=left_out,
    )


def same_level(boards: Sequence[Seen]) -> Equality:
    """Return the boards whose sentinels agree within the limit with the median of all.

    Two boards that differ have no median to trust: the first one counts, and the other is told.
    A board differs if its time is off by more than the limit and by more than the intervals say;
    a look whose verdict is not ok tells nothing, and leaves no board out.
    """
    left_out = {board.name: board.error for board in boards if board.error}
    timed = {
        board.name: board.look
        for board in boards
        if board.look is not None and board.name not in left_out
    }
    for name, look in timed.items():
        if look.failure is not None:
            failure = look.failure
            left_out[name] = f"its sentinel failed: {failure.kind.value}: {failure.message}"
    good = {name: look for name, look in timed.items() if is_good(look)}
    if good:
        middle = _middle(list(good.values()))
        left_out |= {
            name: f"its sentinel takes {_time(look)}, on the others {_time(middle)}: more than "
            f"{MAX_SHIFT:.0%} off"
            for name, look in good.items()
            if is_shifted(middle, look)
        }
    alike = tuple(board.name for board in boards if board.name not in left_out)
    levels = [_median_s(good[name]) for name in alike if name in good]
    return Equality(
        alike=alike,
        left_out=left_out,
        level=f"{text.format_time(min(levels))} to {text.format_time(max(levels))}"
        if levels
        else "",
    )


def _kind(board: Seen, backend: str) -> tuple[str, str] | None:
    description = board.description
    info = description.backend(backend) if description is not None else None
    if description is None or info is None or not info.available:
        return None
    return description.fingerprint, info.version


def _unlike(
    board: Seen, kind: tuple[str, str] | None, common: tuple[str, str], backend: str
) -> str:
    if board.description is None:
        return board.error
    if kind is None:
        info = board.description.backend(backend)
        return _lacks(backend) if info is None else f"{_lacks(backend)}: {info.reason}"
    if kind[0] != common[0]:
        return (
            f"it is of another kind or set-up (fingerprint {kind[0][:12]}, the others "
            f"{common[0][:12]}: compare `boardfront devices`)"
        )
    return f"its {backend} is {kind[1]}, the others' {common[1]}"


def _lacks(backend: str) -> str:
    return f"it has no usable backend {backend!r}"


def _middle(looks: Sequence[Measurement]) -> Measurement:
    if len(looks) == 2:
        return looks[0]
    middle_s = median(_median_s(look) for look in looks)
    return min(looks, key=lambda look: abs(_median_s(look) - middle_s))


def _median_s(look: Measurement) -> float:
    assert look.result is not None  # noqa: S101 - asked of results only
    return look.result.statistics.median_s


def _time(look: Measurement) -> str:
    return text.format_time(_median_s(look))
