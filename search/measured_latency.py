"""Times of a space's architectures by measuring each one whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from boardfront.latency_models.artifact import artifact_of
from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Deadlines, FailureKind, Precision, Purpose, Task
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.verdicts import Reaction, VerdictPolicy, better

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping

    from boardfront.latency_models.base import Measurement, Measurer, QueueingMeasurer
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import PendingLatency
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
        is_fresh: Whether to measure even where a stored answer would do.
    """

    task: Task
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    precision: Precision = field(default_factory=Precision)
    deadlines: Deadlines = field(default_factory=Deadlines)
    start_below_c: float | None = None
    policy: VerdictPolicy = field(default_factory=VerdictPolicy)
    is_fresh: bool = False


class MeasuredLatency:
    """A LatencySource that writes the architecture's ONNX and has it measured.

    Args:
        space: Of the architectures.
        measurer: Of the target's device.
        rule: What is timed.
        job_seed: Names the run, so that a resumed run meets its own jobs.
        sleep: Lets seconds pass before a retry.
        queue: The same measurer, where it takes requests ahead; None: one at a time.
    """

    def __init__(
        self,
        space: NetworkSpace,
        measurer: Measurer,
        rule: TimingRule,
        *,
        job_seed: str,
        sleep: Callable[[float], None] = time.sleep,
        queue: QueueingMeasurer | None = None,
    ) -> None:
        self._space = space
        self._measurer = measurer
        self._queue = queue
        self._rule = rule
        self._job_seed = job_seed
        self._sleep = sleep
        self.reference: ReferenceModel | None = None
        self.corrections: dict[str, Latency] = {}
        self._encodings: dict[int, str] = {}

    @property
    def ahead(self) -> int:
        """Architectures that should be begun so that no device waits; 0: one at a time."""
        return 0 if self._queue is None else self._queue.ahead

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        """Measure one architecture, or answer from the store.

        A time that is not ok is measured again as the rule's policy says; of several the one
        with the better verdict is kept, then the one with the narrower interval.
        """
        attempts = self._attempts(encoding)
        try:
            question = next(attempts)
            while True:
                if question.delay_s:
                    self._sleep(question.delay_s)
                (measurement,) = self._measurer.measure([question.request])
                question = attempts.send(measurement)
        except StopIteration as end:
            return _answer_of(end)

    def begin(self, encoding: str) -> PendingLatency:
        """Begin to measure one architecture, as `latency` does, and return at once.

        Without a queue nothing is done before the answer is asked for.
        """
        if self._queue is None:
            return _Later(lambda: self.latency(encoding))
        return _Begun(self._attempts(encoding), self._queue)

    def _attempts(self, encoding: str) -> _Attempts:
        """Yield what has to be measured, be sent what came of it, and return the answer."""
        try:
            request = self.request(encoding)
        except WrongInputError as error:
            # A network that no ONNX file can hold is no candidate; the search goes on.
            return EvaluationFailure(message=str(error), kind=FailureKind.UNSUPPORTED)
        policy = self._rule.policy
        kept: Latency | None = None
        question = _Question(request=request)
        for attempt in range(policy.retries + 1):
            measurement = yield question
            answer = self._note(measurement, request)
            if isinstance(answer, EvaluationFailure):
                # A retry that fails takes nothing away from what was measured before; only a
                # person may.
                if kept is None or answer.kind is FailureKind.CANCELLED:
                    return answer
                return kept
            kept = replace(better(kept, answer) if kept else answer, attempts=attempt + 1)
            if policy.reaction(answer.measured_verdict) is not Reaction.RETRY:
                break
            request = _again(request, f"{self._job_seed} retry {attempt + 1}")
            question = _Question(request=request, delay_s=policy.cool_down_s, after=measurement)
        if kept is None:
            raise AssertionError("the first attempt answered")
        if policy.reaction(kept.measured_verdict) is Reaction.DROP:
            return EvaluationFailure(
                message=f"dropped, as asked for times that are {kept.word}",
                kind=FailureKind.UNSTABLE,
            )
        return kept

    def recognise(self, known: Mapping[str, Latency]) -> list[int]:
        """Take times of an earlier part of the run for this run's own.

        Args:
            known: By architecture.

        Returns:
            The measurements that these architectures' times rest on now.
        """
        current = {encoding: self.corrections.get(encoding, known[encoding]) for encoding in known}
        mine = {t.measurement_id: e for e, t in current.items() if t.measurement_id is not None}
        self._encodings.update(mine)
        return list(mine)

    def measure_again(
        self, ids: Collection[int], store: MeasurementStore
    ) -> Iterator[tuple[Measurement, Measurement]]:
        """Measure those of this run's architectures again whose times these were.

        Yields:
            The time of before, which is in quarantine, and the new one.
        """
        mine = [one for one in store.get(ids) if one.id in self._encodings]
        requests = [
            _again(self.request(self._encodings[one.id]), f"{self._job_seed} after {one.id}")
            for one in mine
            if one.id is not None
        ]
        yield from zip(mine, self._measurer.measure(requests), strict=True)

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
        if new.id is not None:
            # It may turn out wrong in its turn.
            self._encodings[new.id] = encoding
        return encoding

    def alone(self, encoding: str, precision: Precision) -> Latency | EvaluationFailure:
        """Measure one architecture without a reference: does the whole chain work?

        The reference's quiet time comes from here, and a table's level: it is of this run,
        whatever the store holds, which may be another day's or another board's of the kind.
        """
        plain = MeasuredLatency(
            self._space,
            self._measurer,
            replace(self._rule, precision=precision, is_fresh=True),
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
        network = self._space.write_onnx(encoding, batch=self._rule.task.batch)
        model = artifact_of(network, self._rule.task)
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
            fresh=self._rule.is_fresh,
            job_seed=self._job_seed,
        )

    def _note(self, measurement: Measurement, request: TimeRequest) -> Latency | EvaluationFailure:
        if measurement.id is not None:
            self._encodings[measurement.id] = request.label
        return gist(measurement, request.reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """What has to be measured next.

    Args:
        request: Of an architecture.
        delay_s: Not sooner than this.
        after: The answer that was not good enough.
    """

    request: TimeRequest
    delay_s: float = 0.0
    after: Measurement | None = None


_Attempts: TypeAlias = "Generator[_Question, Measurement, Latency | EvaluationFailure]"


class _Later:
    """A PendingLatency that nobody works on before it is waited for."""

    def __init__(self, ask: Callable[[], Latency | EvaluationFailure]) -> None:
        self._ask = ask
        self._answer: Latency | EvaluationFailure | None = None

    @property
    def is_done(self) -> bool:
        """Whether the answer is there."""
        return self._answer is not None

    def result(self) -> Latency | EvaluationFailure:
        """Have it measured now, once."""
        if self._answer is None:
            self._answer = self._ask()
        return self._answer


class _Begun:
    """A PendingLatency in the queue of a measurer."""

    def __init__(self, attempts: _Attempts, queue: QueueingMeasurer) -> None:
        self._attempts = attempts
        self._queue = queue
        self._answer: Latency | EvaluationFailure | None = None
        self._go_on(lambda: next(attempts))

    @property
    def is_done(self) -> bool:
        """Whether the answer is there; looks what has come meanwhile."""
        if self._answer is None:
            self._queue.attend(wait=False)
        return self._answer is not None

    def result(self) -> Latency | EvaluationFailure:
        """Wait for the answer."""
        while self._answer is None:
            self._queue.attend(wait=True)
        return self._answer

    def _go_on(self, step: Callable[[], _Question]) -> None:
        try:
            question = step()
        except StopIteration as end:
            self._answer = _answer_of(end)
            return
        self._queue.submit(
            question.request,
            lambda measurement: self._go_on(lambda: self._attempts.send(measurement)),
            delay_s=question.delay_s,
            after=question.after,
        )


def _answer_of(end: StopIteration) -> Latency | EvaluationFailure:
    answer: Latency | EvaluationFailure = end.value
    return answer


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
