"""The targets of an experiment, connected: one client a device, one rule a target.

A target on this machine is measured on the caller's thread and nothing overlaps it. Any other one
is a pool of one or several boards, each with a thread of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.crew import Crew, Patience
from boardfront.host.fleet.lease import lease_request
from boardfront.host.fleet.ledger import Ledger
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.pool import BOARD_DESCRIPTION_HOLDS_S, Muster, Pool, muster
from boardfront.host.fleet.run_leases import RunLeases
from boardfront.host.fleet.select import select
from boardfront.host.fleet.self_test import SelfTest
from boardfront.host.fleet.this_machine import may_overlap, own_device_id
from boardfront.host.fleet.under_way import JobsUnderWay
from boardfront.host.sentinel_watch import SentinelWatch
from boardfront.host.timing_rules import timing_rule
from boardfront.latency_models.base import Measurer
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import Precision
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.measured_latency import MeasuredLatency, TimingRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from boardfront.host.experiment import TargetSettings
    from boardfront.host.fleet.board import Board
    from boardfront.host.fleet.select import Selected
    from boardfront.host.fleet.sentinel import SentinelRule
    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.protos.records import DeviceDescription, JobEvent
    from boardfront.search.space import NetworkSpace

_ALONE_S = 3.0


class TargetMeasurer(Measurer, Protocol):
    """A Measurer that also measures together what is to be compared."""

    def measure_groups(
        self, groups: Iterable[Sequence[TimeRequest]]
    ) -> Iterator[tuple[Measurement, ...]]:
        """Answer groups in order, the windows of each interleaved in one job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectedTarget:
    """A target whose device answers."""

    settings: TargetSettings
    measurer: TargetMeasurer
    source: MeasuredLatency
    rule: TimingRule
    watch: SentinelWatch

    @property
    def is_by_sentinel(self) -> bool:
        """Whether its times rest on the device's level, which the sentinel watches."""
        return self.settings.reference == "none" and self.settings.table is None


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSurroundings:
    """What all targets of a run share.

    Args:
        store: Where answers are kept.
        job_seed: Names the run.
        say: Told when a connection is lost or back, and when a device's level has moved.
        on_remeasured: Told (target, encoding, time) of each time that replaces an earlier one.
        ledger: File that says which board got which job; None: nobody will ask.
        listener: Told (label, event) while jobs run, on the boards' threads.
        run: What people call the run, where they wait for its devices.
        priority: Of the run where others wait for its devices too; higher is served first.
        patience: With boards that do not answer.
        check: Told (target, description) of each target's device once it is described; what it
            raises ends the run.
        under_way: Is told of the run's jobs, of which a person may end one.
    """

    store: MeasurementStore
    job_seed: str
    say: Callable[[str], None]
    on_remeasured: Callable[[str, str, Latency], None] = lambda *_: None
    ledger: Path | None = None
    listener: Callable[[str, JobEvent], None] = lambda *_: None
    run: str = "search"
    priority: int = 0
    patience: Patience = field(default_factory=Patience)
    check: Callable[[str, DeviceDescription], None] = lambda *_: None
    under_way: JobsUnderWay = field(default_factory=JobsUnderWay)


class Targets:
    """All targets of an experiment. Close it when done: a local agent ends with it.

    Args:
        settings: Of the experiment.
        space: Whose networks are measured.
        around: What all targets share.

    Raises:
        BoardfrontError: If a device does not answer.
        WrongInputError: If a device lacks the backend.
    """

    def __init__(
        self,
        settings: Sequence[TargetSettings],
        space: NetworkSpace,
        around: TargetSurroundings,
    ) -> None:
        self._client: AgentClient | None = None
        self._around = around
        self._crew = Crew(around.say, ledger=Ledger(around.ledger), patience=around.patience)
        self._musters: dict[tuple[object, ...], Muster] = {}
        self._leases = RunLeases(
            lease_request(f"run {around.run}", seed=around.job_seed, priority=around.priority),
            around.say,
            self._crew.post,
        )
        self.by_name: dict[str, ConnectedTarget] = {}
        self._selected = {target.name: _select(target) for target in settings}
        try:
            # Before anything is timed: what is timed first is what all else is divided by.
            self._passed_over = self._leases.take(tuple(self._selected.values()))
            for target in settings:
                self.by_name[target.name] = self._connect(target, space)
        except BaseException:
            self.close()
            raise

    def close(self, *, cancel: bool = False) -> None:
        """Hang up, and stop a local agent of ours.

        Args:
            cancel: End the jobs that are under way on boards as well.
        """
        self._leases.stop()
        self._crew.close(cancel=cancel)
        if self._client is not None:
            self._client.close()
        # Before a local agent ends: it would keep its holder for the next.
        self._leases.close()
        for devices in self._selected.values():
            for device in devices:
                device.address.close()

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

    def _connect(self, target: TargetSettings, space: NetworkSpace) -> ConnectedTarget:
        selected = self._selected[target.name]
        if any(one.name == "local" for one in selected):
            return self._connect_local(target, space, selected)
        found = self._muster(target, selected)
        description = found.boards[0].description
        if description is None:
            raise AssertionError("a board that was mustered is described")
        self._around.check(target.name, description)
        rule = timing_rule(target, space, description)
        watch = SentinelWatch(target.name, self._around, self._crew.post)
        several = len(found.boards) > 1
        own_id = own_device_id()
        pool = Pool(
            self._crew,
            {
                board.name: self._board_measurer(board, watch.rule(target, of_pool=several))
                for board in found.boards
            },
            overlap=all(
                board.description is not None
                and may_overlap(
                    board.description, target.backend, board.address.resolve(), own_id=own_id
                )
                for board in found.boards
            ),
        )
        source = MeasuredLatency(
            space,
            pool,
            rule,
            job_seed=f"{self._around.job_seed} {target.name}",
            queue=pool,
        )
        watch.source, watch.pool = source, pool
        return ConnectedTarget(
            settings=target, measurer=pool, source=source, rule=rule, watch=watch
        )

    def _connect_local(
        self, target: TargetSettings, space: NetworkSpace, selected: Sequence[Selected]
    ) -> ConnectedTarget:
        """Connect this machine, whose measurer waits on the caller's thread."""
        if len(selected) > 1:
            raise WrongInputError(
                f"target {target.name!r}: 'local' cannot be one of several devices: nothing of "
                "ours may run on this machine while it measures; give it a target of its own"
            )
        if self._client is None:
            self._client = AgentClient(
                selected[0].address,
                on_lost=self._around.say,
                lease=self._leases.of(selected[0].name),
            )
        description = self._client.describe()
        self._around.check(target.name, description)
        rule = timing_rule(target, space, description)
        watch = SentinelWatch(target.name, self._around)
        measurer = DeviceMeasurer(self._client, self._around.store, sentinel=watch.rule(target))
        measurer.under_way = self._around.under_way
        source = MeasuredLatency(
            space, measurer, rule, job_seed=f"{self._around.job_seed} {target.name}"
        )
        watch.source = source
        return ConnectedTarget(
            settings=target, measurer=measurer, source=source, rule=rule, watch=watch
        )

    def _board_measurer(self, board: Board, sentinel: SentinelRule | None) -> DeviceMeasurer:
        measurer = DeviceMeasurer(
            board.client,
            self._around.store,
            listener=self._around.listener,
            sentinel=sentinel,
            description_holds_s=BOARD_DESCRIPTION_HOLDS_S,
        )
        measurer.under_way = self._around.under_way
        return measurer

    def _muster(self, target: TargetSettings, selected: Sequence[Selected]) -> Muster:
        """Return the boards of a target that are alike, and say which are not.

        Raises:
            BoardfrontError: If none is left.
        """
        names = tuple(one.name for one in selected)
        kind = (names, target.backend, tuple(sorted(target.options.items())), target.cpus)
        if kind in self._musters:
            return self._musters[kind]
        test = SelfTest(
            backend=target.backend,
            options=target.options,
            cpus=target.cpus,
            store=self._around.store,
        )
        boards = [
            self._crew.enlist(one.name, one.address, self._leases.of(one.name))
            for one in selected
            if one.name not in self._passed_over
        ]
        found = self._musters[kind] = muster(boards, test)
        held = {name: self._passed_over[name] for name in names if name in self._passed_over}
        left_out = {**held, **found.left_out}
        reasons = [f"board {name}: {why}" for name, why in left_out.items()]
        for reason in reasons:
            self._around.say(f"{target.name}: left out {reason}")
        if not found.boards:
            raise BoardfrontError(
                f"target {target.name!r}: no board can be used ({'; '.join(reasons)}): put one "
                "right, or name others"
            )
        if len(selected) > 1:
            level = f", on which the sentinel takes {found.level}" if found.level else ""
            listed = ", ".join(board.name for board in found.boards)
            boards_text = "1 board" if len(found.boards) == 1 else f"{len(found.boards)} boards"
            self._around.say(f"{target.name}: {boards_text} ({listed}){level}")
        return found


def _select(target: TargetSettings) -> tuple[Selected, ...]:
    devices = (target.device,) if isinstance(target.device, str) else target.device
    # A board that is named and has the tags as well is one board.
    found = {one.name: one for device in devices for one in select(device)}
    return tuple(found.values())
