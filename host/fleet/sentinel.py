"""The drift sentinel: a small network that the agent carries, timed again every so many jobs.

When it is slower or faster than it was, so is everything else: what was measured since it was
last as before is put in quarantine.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.fleet.compiling import is_compiled_here
from boardfront.host.fleet.connection import ArtifactGoneError
from boardfront.host.fleet.kept_artifacts import KeptArtifacts, KeptNetwork, KeptRequest
from boardfront.protos.records import (
    FailureKind,
    Precision,
    Purpose,
    Task,
    TaskKind,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.latency_models.key import TimeKey
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.protos.records import DeviceDescription, Result

MAX_SHIFT = 0.02
"""Relative shift above which the sentinel convicts; MLPerf calls a 2 % difference material."""

EVERY_JOBS = 20

LOOK = Precision(relative_half_width=MAX_SHIFT, min_duration_s=1.0, max_duration_s=2.0)
"""How closely the sentinel is timed."""

_LOOKS = 10
"""Good looks of which the newest that is not in quarantine counts; few ever are."""

_NOTED = 200
"""Of what was measured since the last good look, so much can be measured again."""

_HOPELESS = (FailureKind.UNSUPPORTED, FailureKind.INVALID_ARTIFACT)


class State(enum.Enum):
    """What a look at the sentinel tells."""

    FIRST = "first"
    STEADY = "steady"
    SHIFTED = "shifted"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a look at the sentinel told.

    Args:
        state: In one word.
        message: In a sentence.
        quarantined: Numbers of the measurements that were put in quarantine.
    """

    state: State
    message: str
    quarantined: frozenset[int] = frozenset()

    @property
    def is_level_known(self) -> bool:
        """Whether later looks are compared with this one."""
        return self.state in {State.FIRST, State.STEADY, State.SHIFTED}


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentinelRule:
    """When a device's sentinel is timed, and who is told.

    Args:
        every: Jobs between two looks.
        at_once: Look before the first job; otherwise when the store holds no good look that is
            newer than `every` jobs of the device.
        look: How closely the sentinel is timed.
        again: Whether what cannot be trusted any more is measured again on the same device.
        on_look: Called before a look, which takes a second or two.
        on_finding: Told what each look told.
        on_remeasured: Told (old, new) of each measurement that was in quarantine and was taken
            again.
    """

    every: int = EVERY_JOBS
    at_once: bool = True
    look: Precision = LOOK
    again: bool = True
    on_look: Callable[[], None] = _ignore
    on_finding: Callable[[Finding], None] = _ignore
    on_remeasured: Callable[[Measurement, Measurement], None] = _ignore


class Sentinel:
    """Watches one target of one device.

    A look whose own verdict is not ok neither convicts nor acquits: the next job tries again.
    The last good look in the store is what the next one is compared with, in this process or in
    another; after a shift that is the new level.

    Args:
        kept: Measures on the device.
        store: Holds what was measured.
        key: Of the sentinel on the target, see `sentinel_key`.
        device_id: Of the device.
        rule: When it is timed.
    """

    def __init__(
        self,
        kept: KeptArtifacts,
        store: MeasurementStore,
        key: TimeKey,
        *,
        device_id: str,
        rule: SentinelRule,
    ) -> None:
        self._kept = kept
        self._store = store
        self._key = key
        self._device_id = device_id
        self._rule = rule
        self._hopeless = False
        # Numbers and samples, no models: the agent has those.
        self._since_good: deque[tuple[Measurement, KeptRequest]] = deque(maxlen=_NOTED)
        self._jobs = rule.every if rule.at_once else self._jobs_since_good()

    @property
    def is_due(self) -> bool:
        """Whether it shall be timed before the next job."""
        return self.is_due_after(0)

    def is_due_after(self, jobs: int) -> bool:
        """Return whether it shall be timed once so many more jobs were measured."""
        return not self._hopeless and self._jobs + jobs >= self._rule.every

    def note(self, requests: Sequence[TimeRequest], answers: Sequence[Measurement]) -> None:
        """Note what a job of the target measured."""
        self._jobs += 1
        for request, answer in zip(requests, answers, strict=True):
            if answer.result is not None:
                self._since_good.append((answer, _repeat(request, answer, answer.result)))

    def look(self, description: DeviceDescription) -> Finding:
        """Time the sentinel and compare it with its last good time.

        After a shift that a second look confirms, all that the device measured on this target
        since the last good look is in quarantine: the times, not the ratios to a reference. What
        of that this object noted, and the agent still has, is measured again, each alone.
        """
        self._rule.on_look()
        finding = self._look(description)
        self._rule.on_finding(finding)
        self._jobs = 0 if finding.is_level_known else self._rule.every
        if finding.is_level_known:
            noted = tuple(self._since_good)
            self._since_good.clear()
            if self._rule.again:
                self._measure_again(noted, finding.quarantined, description)
        return finding

    def _measure_again(
        self,
        noted: Sequence[tuple[Measurement, KeptRequest]],
        quarantined: Collection[int],
        description: DeviceDescription,
    ) -> None:
        for old, request in noted:
            if old.id not in quarantined:
                continue
            try:
                new = self._kept.measure(request, description)
            except ArtifactGoneError:
                continue
            self._jobs += 1
            if new.result is not None:
                self._since_good.append((new, request))
            self._rule.on_remeasured(old, new)

    def _look(self, description: DeviceDescription) -> Finding:
        before = self._last_good()
        first = self._time(description)
        if not is_good(first):
            return self._doubt(first)
        if before is None:
            return Finding(state=State.FIRST, message=f"the sentinel takes {_time(first)}")
        if not is_shifted(before, first):
            return _steady(before, first)
        second = self._time(description)
        if not is_good(second):
            # Or the next look would take it for the level of before.
            self._store.quarantine(
                _ids(first), f"a sentinel {_told(before, first)}; a second look was not good"
            )
            return self._doubt(second)
        if not is_shifted(before, second):
            return _steady(before, second)
        return self._convict(before, first, second)

    def _convict(self, before: Measurement, first: Measurement, second: Measurement) -> Finding:
        told = f"the sentinel {_told(before, second)}"
        since = self._store.recent(device_id=self._device_id, after_id=before.id or 0)
        convicted = [
            one
            for one in since
            if one.result is not None and not one.quarantined and self._is_touched(one, first)
        ]
        self._store.quarantine(_ids(*convicted), told, times_only=True)
        times = "1 time" if len(convicted) == 1 else f"{len(convicted)} times"
        return Finding(
            state=State.SHIFTED,
            message=f"{told}: {times} measured since then cannot be trusted",
            quarantined=frozenset(_ids(*convicted)),
        )

    def _is_touched(self, one: Measurement, look: Measurement) -> bool:
        """Whether it was measured on this target before the look and is not the sentinel's."""
        own = one.key.structure_hash == self._key.structure_hash
        return not own and (one.id or 0) < (look.id or 0) and _of_target(one.key, self._key)

    def _doubt(self, look: Measurement) -> Finding:
        failure, result = look.failure, look.result
        if failure is not None:
            self._hopeless = failure.kind in _HOPELESS
            return Finding(
                state=State.FAILED,
                message=f"the sentinel was not timed: {failure.kind.value}: {failure.message}",
            )
        assert result is not None  # noqa: S101 - an answer is a result or a failure
        verdict = text.format_verdict(result.verdict, result.evidence)
        return Finding(
            state=State.UNKNOWN,
            message=f"the sentinel tells nothing about drift, it was {verdict}",
        )

    def _time(self, description: DeviceDescription) -> Measurement:
        network = KeptNetwork(artifact_sha256=description.sentinel_sha256, key=self._key)
        request = KeptRequest(network=network, precision=self._rule.look, purpose=Purpose.SENTINEL)
        return self._kept.measure(request, description)

    def _last_good(self) -> Measurement | None:
        return last_good(self._store, self._device_id, self._key)

    def _jobs_since_good(self) -> int:
        good = self._last_good()
        if good is None:
            return self._rule.every
        return self._store.count_jobs(device_id=self._device_id, after_id=good.id or 0)


def sentinel_key(key: TimeKey, description: DeviceDescription) -> TimeKey | None:
    """Return the key of the sentinel on the target of another key.

    The host never sees the sentinel's graph: its file's sha256 stands for its structure.

    Returns:
        None where the device has no sentinel or the backend runs no inference.
    """
    info = description.backend(key.backend)
    if not description.sentinel_sha256 or info is None or TaskKind.INFERENCE not in info.tasks:
        return None
    if is_compiled_here(key.backend, dict(key.options)):
        # The agent's own file is no library.
        return None
    return replace(key, structure_hash=description.sentinel_sha256, task=Task(), input_shapes=())


def last_good(store: MeasurementStore, device_id: str, key: TimeKey) -> Measurement | None:
    """Return the sentinel's level on a target: its newest good look that is not in quarantine."""
    looks = store.recent(device_id=device_id, key=key, verdict=Verdict.OK, limit=_LOOKS)
    return next((one for one in looks if not one.quarantined), None)


def is_good(look: Measurement) -> bool:
    """Whether a look tells anything about drift."""
    return look.result is not None and look.result.verdict is Verdict.OK


def is_shifted(before: Measurement, now: Measurement) -> bool:
    """Whether two results differ by more than the limit, and by more than their intervals say."""
    old, new = before.result, now.result
    if old is None or new is None:
        return False
    a, b = old.statistics, new.statistics
    apart = not (a.low_s <= b.median_s <= a.high_s or b.low_s <= a.median_s <= b.high_s)
    return apart and abs(_shift(before, now)) > MAX_SHIFT


def _repeat(request: TimeRequest, answer: Measurement, result: Result) -> KeptRequest:
    """Return what measures an answer again, alone."""
    return KeptRequest(
        network=KeptNetwork(artifact_sha256=result.artifact_sha256, key=answer.key),
        precision=request.precision,
        deadlines=request.deadlines,
        start_below_c=request.start_below_c,
        purpose=Purpose.RETRY,
    )


def _steady(before: Measurement, now: Measurement) -> Finding:
    return Finding(
        state=State.STEADY,
        message=f"the sentinel takes {_time(now)}, {_shift(before, now):+.1%} against before",
    )


def _told(before: Measurement, now: Measurement) -> str:
    shift = f"{_shift(before, now):+.1%}"
    return f"shifted by {shift} (from {_time(before)} to {_time(now)}, limit {MAX_SHIFT:.0%})"


def _median_s(look: Measurement) -> float:
    assert look.result is not None  # noqa: S101 - asked of good looks only
    return look.result.statistics.median_s


def _time(look: Measurement) -> str:
    return text.format_time(_median_s(look))


def _shift(before: Measurement, now: Measurement) -> float:
    return _median_s(now) / _median_s(before) - 1.0


def _ids(*measurements: Measurement) -> list[int]:
    return [one.id for one in measurements if one.id is not None]


def _of_target(key: TimeKey, sentinel: TimeKey) -> bool:
    """Whether a key is of the sentinel's target."""
    return (
        replace(
            key,
            structure_hash=sentinel.structure_hash,
            task=sentinel.task,
            input_shapes=sentinel.input_shapes,
        )
        == sentinel
    )
