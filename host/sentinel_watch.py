"""What the sentinel of a run's targets found, told to the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.fleet.sentinel import Finding, SentinelRule, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.host.experiment import TargetSettings
    from boardfront.host.fleet.pool import Pool
    from boardfront.host.targets import TargetSurroundings
    from boardfront.latency_models.base import Measurement
    from boardfront.search.measured_latency import MeasuredLatency


class SentinelWatch:
    """Tells a run what the sentinel of a target found; needed where there is no reference.

    Args:
        target: Its name.
        around: Who is told.
        post: Has something called on the run's own thread; None: the sentinel is timed there.
    """

    def __init__(
        self,
        target: str,
        around: TargetSurroundings,
        post: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._target = target
        self._around = around
        self._post = post or _at_once
        self.source: MeasuredLatency | None = None
        self.pool: Pool | None = None
        self.found_wrong = 0
        """Times that looks have put in quarantine."""

    def rule(self, target: TargetSettings, *, of_pool: bool = False) -> SentinelRule | None:
        """Return when the sentinel is timed; ratios to a reference need none.

        Args:
            target: Whose.
            of_pool: It was timed already when the pool was put together, and a board whose level
                moved measures nothing again: the others do.
        """
        if target.reference != "none":
            return None
        return SentinelRule(
            at_once=not of_pool,
            again=not of_pool,
            on_finding=lambda finding: self._post(lambda: self._found(finding)),
            on_remeasured=lambda old, new: self._post(lambda: self._remeasured(old, new)),
        )

    def _found(self, finding: Finding) -> None:
        if finding.state is not State.STEADY:
            self._around.say(f"{self._target}: {finding.message}")
        self.found_wrong += len(finding.quarantined)
        if self.source is not None and self.pool is not None and len(self.pool.boards) > 1:
            for old, new in self.source.measure_again(finding.quarantined, self._around.store):
                self._remeasured(old, new)

    def _remeasured(self, old: Measurement, new: Measurement) -> None:
        encoding = self.source.remeasured(old, new) if self.source else None
        if encoding is not None and self.source is not None:
            self._around.on_remeasured(self._target, encoding, self.source.corrections[encoding])


def _at_once(call: Callable[[], None]) -> None:
    call()
