"""Times of a space's architectures by measuring each one whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Deadlines, FailureKind, Precision, Purpose, Task
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.verdicts import Reaction, VerdictPolicy, better

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boardfront.latency_models.base import Measurement, Measurer
    from boardfront.search.space import NetworkSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingRule:
    """What is timed, by what, how closely, and what is done with a time that is not ok.

    Args:
        task: What is timed.
        backend: What executes it.
        options: Of the backend.
        cpus: Cores to run on; empty takes the device's default.
        precision: When a look may stop.
        deadlines: How long each phase may take.
        start_below_c: Wait until the device is no hotter.
        policy: By verdict.
    """

    task: Task
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    precision: Precision = field(default_factory=Precision)
    deadlines: Deadlines = field(default_factory=Deadlines)
    start_below_c: float | None = None
    policy: VerdictPolicy = field(default_factory=VerdictPolicy)


class MeasuredLatency:
    """A LatencySource that writes the architecture's ONNX and has it measured.

    Args:
        space: Of the architectures.
        measurer: Of the target's device.
        rule: What is timed.
        job_seed: Names the run, so that a resumed run meets its own jobs.
        sleep: Lets seconds pass before a retry.
    """

    def __init__(
        self,
        space: NetworkSpace,
        measurer: Measurer,
        rule: TimingRule,
        *,
        job_seed: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._space = space
        self._measurer = measurer
        self._rule = rule
        self._job_seed = job_seed
        self._sleep = sleep
        self.reference: ReferenceModel | None = None
        self.corrections: dict[str, Latency] = {}
        self._encodings: dict[int, str] = {}

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        """Measure one architecture, or answer from the store.

        A time that is not ok is measured again as the rule's policy says; of several the one
        with the better verdict is kept, then the one with the narrower interval.
        """
        try:
            request = self.request(encoding)
        except WrongInputError as error:
            # A network that no ONNX file can hold is no candidate; the search goes on.
            return EvaluationFailure(message=str(error), kind=FailureKind.UNSUPPORTED)
        kept: Latency | None = None
        for attempt in range(self._rule.policy.retries + 1):
            if attempt:
                self._sleep(self._rule.policy.cool_down_s)
                request = _again(request, f"{self._job_seed} retry {attempt}")
            answer = self._answer(request)
            if isinstance(answer, EvaluationFailure):
                # A retry that fails takes nothing away from what was measured before.
                return answer if kept is None else kept
            kept = replace(better(kept, answer) if kept else answer, attempts=attempt + 1)
            if self._rule.policy.reaction(answer.verdict) is not Reaction.RETRY:
                break
        if kept is None:
            raise AssertionError("the first attempt answered")
        if self._rule.policy.reaction(kept.verdict) is Reaction.DROP:
            return EvaluationFailure(
                message=f"dropped, as asked for times that are {kept.verdict.value}",
                kind=FailureKind.UNSTABLE,
            )
        return kept

    def remeasured(self, old: Measurement, new: Measurement) -> str | None:
        """Take a time that replaces one which was put in quarantine.

        Returns:
            The architecture whose time it is, or None if it is none of this run's.
        """
        encoding = self._encodings.get(old.id) if old.id is not None else None
        answer = gist(new, None)
        if encoding is None or isinstance(answer, EvaluationFailure):
            return None
        self.corrections[encoding] = answer
        return encoding

    def alone(self, encoding: str, precision: Precision) -> Latency | EvaluationFailure:
        """Measure one architecture without a reference: does the whole chain work?

        The reference's quiet time comes from here.
        """
        plain = MeasuredLatency(
            self._space,
            self._measurer,
            replace(self._rule, precision=precision),
            job_seed=f"{self._job_seed} alone",
            sleep=self._sleep,
        )
        return plain.latency(encoding)

    def reference_model(self, encoding: str, quiet_s: float) -> ReferenceModel:
        """Return an architecture as what the others may be divided by."""
        request = self.request(encoding)
        return ReferenceModel(
            model=request.model,
            structure_hash=request.structure_hash,
            quiet_s=quiet_s,
            label=encoding,
        )

    def request(self, encoding: str) -> TimeRequest:
        """Return the request for one architecture; its file is weightless."""
        model = self._space.write_onnx(encoding, batch=self._rule.task.batch)
        return TimeRequest(
            model=model.SerializeToString(deterministic=True),
            structure_hash=structure_hash(model),
            task=self._rule.task,
            backend=self._rule.backend,
            options=self._rule.options,
            cpus=self._rule.cpus,
            precision=self._rule.precision,
            deadlines=self._rule.deadlines,
            reference=self.reference,
            start_below_c=self._rule.start_below_c,
            label=encoding,
            job_seed=self._job_seed,
        )

    def _answer(self, request: TimeRequest) -> Latency | EvaluationFailure:
        (measurement,) = self._measurer.measure([request])
        if measurement.id is not None:
            self._encodings[measurement.id] = request.label
        return gist(measurement, request.reference)


def gist(
    measurement: Measurement, reference: ReferenceModel | None
) -> Latency | EvaluationFailure:
    """Return a measurement's time; with a reference the one that is normalised by it."""
    result, failure = measurement.result, measurement.failure
    if failure is not None:
        return EvaluationFailure(message=failure.message, kind=failure.kind)
    quiet_s = reference.quiet_s if reference else None
    if quiet_s is not None and (result is None or result.normalised is None):
        return EvaluationFailure(
            message="the reference failed beside it: there is nothing to divide by",
            kind=FailureKind.UNSTABLE,
        )
    return Latency.of(measurement, quiet_s=quiet_s)


def _again(request: TimeRequest, job_seed: str) -> TimeRequest:
    return replace(request, fresh=True, purpose=Purpose.RETRY, job_seed=job_seed)
