"""Times of a space's architectures by measuring each one whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.records import Deadlines, Precision, Purpose, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.base import Measurement, Measurer
    from boardfront.search.space import NetworkSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingRule:
    """What is timed, by what, and how closely."""

    task: Task
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = field(default_factory=Precision)
    deadlines: Deadlines = field(default_factory=Deadlines)


class MeasuredLatency:
    """A LatencySource that writes the architecture's ONNX and has it measured.

    Args:
        space: Of the architectures.
        measurer: Of the target's device.
        rule: What is timed.
        job_seed: Names the run, so that a resumed run meets its own jobs.
    """

    def __init__(
        self, space: NetworkSpace, measurer: Measurer, rule: TimingRule, *, job_seed: str
    ) -> None:
        self._space = space
        self._measurer = measurer
        self._rule = rule
        self._job_seed = job_seed

    def time(self, encoding: str) -> Measurement:
        """Measure one architecture, or answer from the store."""
        (measurement,) = self._measurer.measure([self.request(encoding)])
        return measurement

    def preflight(self, encoding: str) -> Measurement:
        """Measure one architecture before anything long begins: does the whole chain work?"""
        request = replace(
            self.request(encoding), purpose=Purpose.AUDIT, job_seed=f"{self._job_seed} preflight"
        )
        (measurement,) = self._measurer.measure([request])
        return measurement

    def request(self, encoding: str) -> TimeRequest:
        """Return the request for one architecture, with drawn weights."""
        model = self._space.write_onnx(encoding, batch=self._rule.task.batch)
        return TimeRequest(
            model=model.SerializeToString(deterministic=True),
            structure_hash=structure_hash(model),
            task=self._rule.task,
            backend=self._rule.backend,
            options=self._rule.options,
            precision=self._rule.precision,
            deadlines=self._rule.deadlines,
            label=encoding,
            job_seed=self._job_seed,
        )
