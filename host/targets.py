"""The targets of an experiment, connected: one client a device, one rule a target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.address import AgentAddress, parse_device
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.sentinel import Finding, SentinelRule, State
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import Deadlines, Precision, Task, Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.measured_latency import MeasuredLatency, TimingRule
from boardfront.search.verdicts import Reaction, VerdictPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.host.experiment import FinalistSettings, TargetSettings
    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.space import NetworkSpace

# On a restless machine the interval never gets narrow: after so many times the shortest look
# the rest is not worth the wait, and the verdict says what the time is worth.
_SEARCH_PATIENCE = 4.0
_FINALIST_PATIENCE = 1.5
_ALONE_S = 3.0
_MIN_RUN_S = 60.0
_RUN_FACTOR = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectedTarget:
    """A target whose device answers."""

    settings: TargetSettings
    measurer: DeviceMeasurer
    source: MeasuredLatency
    rule: TimingRule


class Targets:
    """All targets of an experiment. Close it when done: a local agent ends with it.

    Args:
        settings: Of the experiment.
        space: Whose networks are measured.
        store: Where answers are kept.
        job_seed: Names the run.
        say: Told when a connection is lost or back, and when a device's level has moved.
        on_remeasured: Told (target, encoding, time) of each time that replaces an earlier one.

    Raises:
        BoardfrontError: If a device does not answer.
        WrongInputError: If a device lacks the backend.
    """

    def __init__(
        self,
        settings: Sequence[TargetSettings],
        space: NetworkSpace,
        store: MeasurementStore,
        *,
        job_seed: str,
        say: Callable[[str], None],
        on_remeasured: Callable[[str, str, Latency], None] = lambda *_: None,
    ) -> None:
        self._addresses: dict[str, AgentAddress] = {}
        self._clients: dict[str, AgentClient] = {}
        self.by_name: dict[str, ConnectedTarget] = {}
        try:
            for target in settings:
                client = self._client(target.device, say)
                self.by_name[target.name] = _connect(
                    target,
                    client,
                    space,
                    _Surroundings(
                        store=store, job_seed=job_seed, say=say, on_remeasured=on_remeasured
                    ),
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up, and stop a local agent of ours."""
        for client in self._clients.values():
            client.close()
        for address in self._addresses.values():
            address.close()

    def time_alone(self, name: str, encoding: str) -> Latency:
        """Measure one architecture on a target before anything long begins.

        It proves that the whole chain works, and is the quiet time of a reference.

        Raises:
            BoardfrontError: If the target cannot measure it.
        """
        answer = self.by_name[name].source.alone(encoding, Precision(max_duration_s=_ALONE_S))
        if isinstance(answer, EvaluationFailure):
            kind = f"{answer.kind.value}: " if answer.kind else ""
            raise BoardfrontError(
                f"target {name!r} cannot measure the space's networks: {kind}{answer.message}"
            )
        return answer

    def divide_by(self, name: str, encoding: str, quiet_s: float) -> None:
        """Alternate every network of a target with this one, and divide by it."""
        source = self.by_name[name].source
        source.reference = source.reference_model(encoding, quiet_s)

    def _client(self, device: str, say: Callable[[str], None]) -> AgentClient:
        if device not in self._clients:
            self._addresses[device] = parse_device(device)
            self._clients[device] = AgentClient(self._addresses[device], on_lost=say)
        return self._clients[device]


def finalist_rule(rule: TimingRule, settings: FinalistSettings) -> TimingRule:
    """Return the rule by which finalists are timed."""
    return replace(
        rule,
        precision=Precision(
            relative_half_width=settings.precision,
            min_duration_s=settings.min_duration_s,
            max_duration_s=_FINALIST_PATIENCE * settings.min_duration_s,
        ),
        deadlines=_deadlines(settings.min_duration_s),
    )


def _deadlines(min_duration_s: float) -> Deadlines:
    return Deadlines(run_s=max(_MIN_RUN_S, _RUN_FACTOR * min_duration_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Surroundings:
    """What all targets share."""

    store: MeasurementStore
    job_seed: str
    say: Callable[[str], None]
    on_remeasured: Callable[[str, str, Latency], None]


def _connect(
    target: TargetSettings, client: AgentClient, space: NetworkSpace, around: _Surroundings
) -> ConnectedTarget:
    description = client.describe()
    info = description.backend(target.backend)
    if info is None or not info.available:
        known = sorted(b.name for b in description.backends if b.available)
        reason = f" ({info.reason})" if info else ""
        raise WrongInputError(
            f"target {target.name!r}: backend {target.backend!r} is not on device "
            f"{description.name}{reason}: expected one of {known}"
        )
    known_options = {option.name for option in info.options}
    for name in target.options:
        if name not in known_options:
            raise WrongInputError(
                f"target {target.name!r}: backend {target.backend} has no option {name!r}: "
                f"expected one of {sorted(known_options)}"
            )
    rule = TimingRule(
        task=Task(
            kind=target.task,
            batch=target.batch,
            resolution=space.resolution,
            classes=space.classes,
        ),
        backend=target.backend,
        options=target.options,
        precision=Precision(
            relative_half_width=target.precision,
            min_duration_s=target.min_duration_s,
            max_duration_s=_SEARCH_PATIENCE * target.min_duration_s,
        ),
        deadlines=_deadlines(target.min_duration_s),
        cpus=target.cpus,
        start_below_c=target.start_below_c,
        policy=VerdictPolicy(
            reactions={
                Verdict(verdict): Reaction(reaction)
                for verdict, reaction in target.verdicts.items()
            },
            retries=target.retries,
            cool_down_s=target.cool_down_s,
        ),
    )
    watch = _SentinelWatch(target.name, around)
    measurer = DeviceMeasurer(client, around.store, sentinel=watch.rule(target))
    source = MeasuredLatency(space, measurer, rule, job_seed=f"{around.job_seed} {target.name}")
    watch.source = source
    return ConnectedTarget(settings=target, measurer=measurer, source=source, rule=rule)


class _SentinelWatch:
    """Tells a run what the sentinel of a target found; needed where there is no reference."""

    def __init__(self, target: str, around: _Surroundings) -> None:
        self._target = target
        self._around = around
        self.source: MeasuredLatency | None = None

    def rule(self, target: TargetSettings) -> SentinelRule | None:
        """Return when the sentinel is timed; ratios to a reference need none."""
        if target.reference != "none":
            return None
        return SentinelRule(on_finding=self._found, on_remeasured=self._remeasured)

    def _found(self, finding: Finding) -> None:
        if finding.state is not State.STEADY:
            self._around.say(f"{self._target}: {finding.message}")

    def _remeasured(self, old: Measurement, new: Measurement) -> None:
        encoding = self.source.remeasured(old, new) if self.source else None
        if encoding is not None and self.source is not None:
            self._around.on_remeasured(self._target, encoding, self.source.corrections[encoding])
