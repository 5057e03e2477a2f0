"""The latency tables of a run: read, checked, used, and told what its finalists really took."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.table_features import features_of, interpolation_of
from boardfront.latency_models.table import Table, TargetChangedError
from boardfront.latency_models.table_finalists import Usage, add_row, judge
from boardfront.latency_models.table_models import predictor_of
from boardfront.protos.core_lists import parse_cpus
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Origin, Task
from boardfront.search.evaluation import EvaluationFailure
from boardfront.search.space import DecomposableSpace, NetworkSpace
from boardfront.search.spaces import catalog as spaces
from boardfront.search.table_latency import Level, TableLatency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from boardfront.host.experiment import Experiment, TableChoice, TargetSettings
    from boardfront.host.run_folder import RunFolder
    from boardfront.latency_models.table import FinalistRow
    from boardfront.latency_models.table_finalists import FinalistTime
    from boardfront.protos.records import DeviceDescription, Target
    from boardfront.search.space import Space

_DRAWN = 64
_LEVEL_TOLD = 0.02


def with_tables(experiment: Experiment, *, lost: RunFolder | None = None) -> Experiment:
    """Return an experiment whose tables were read and found to be of its targets.

    Args:
        experiment: As its file has it.
        lost: A run whose copies stand in for tables that are gone.

    Raises:
        WrongInputError: A table cannot be read, or is of something else.
    """

    def place(index: int, choice: TableChoice) -> Path:
        gone = lost is not None and not choice.file.exists()
        return lost.table(index) if lost is not None and gone else choice.file

    return _with_tables(experiment, place)


def with_copies(experiment: Experiment, folder: RunFolder) -> Experiment:
    """Return an experiment with the tables that its run began with.

    Raises:
        WrongInputError: As `with_tables`.
    """
    return _with_tables(experiment, lambda index, _choice: folder.table(index))


def table_files(experiment: Experiment) -> dict[int, Path]:
    """Return where the tables of an experiment are, by the place of their target."""
    return {
        index: target.table.file
        for index, target in enumerate(experiment.targets)
        if target.table is not None
    }


class RunTable:
    """A table that a run goes by on one target.

    Args:
        target: Whose times it predicts; its table was read before.
        table: That one.
        space: Of the run.
        say: Told in a few words what takes long.
    """

    def __init__(
        self,
        target: TargetSettings,
        table: Table,
        space: DecomposableSpace,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._target = target
        self.table = table
        features = features_of(table)
        if features is not None:
            say(f"{target.name}: comparing models on {len(table.networks)} networks of its table")
        interpolation = interpolation_of(table)
        self.predictor = predictor_of(table, features, interpolation)
        self.source = TableLatency(
            space,
            self.predictor.model,
            [entry.block for entry in table.entries],
            interpolates=None if interpolation is None else interpolation.covers,
            level=self._level(),
        )
        self.level: float | None = None
        self.forced: tuple[str, ...] = ()

    def _level(self) -> Level:
        """Return how far the table's level may be off; a sum without networks holds it already."""
        table = self.table
        if not self.predictor.networks:
            return Level()
        return Level(
            below=1 - table.base_low_s / table.base_s, above=table.base_high_s / table.base_s - 1
        )

    @property
    def reference(self) -> str:
        """The network whose level the table's times have; empty for an imported table."""
        return self.table.base

    def told(self) -> list[str]:
        """Return what a person has to know before the search goes by the table."""
        name, choice, predictor = self._target.name, self._target.table, self.predictor
        file = choice.name if choice else "?"
        error = "how far off is not known: too few whole networks"
        if predictor.mape is not None:
            count = predictor.networks
            error = f"off by {predictor.mape:.1%} on {count} networks left out in turn"
        lines = [
            f"{name}: times are predicted from table {file} by {predictor.name}: {error}; "
            f"{_residual(self.table)}"
        ]
        if self.table.missing:
            lines.append(
                f"{name}: the table lacks {len(self.table.missing)} blocks, e.g. "
                f"{self.table.missing[0]}: a network that has one is a failure"
            )
        if self.table.origin is not Origin.MEASURED:
            lines.append(f"{name}: the table's times are {self.table.origin.value}")
        return lines

    def check_covers(self, space: Space) -> None:
        """Make sure that there is something to search.

        Raises:
            WrongInputError: None of some networks drawn from the space is covered.
        """
        rng = np.random.default_rng(0)
        drawn = sorted({space.sample(rng) for _ in range(_DRAWN)})
        answers = self.source.predict(drawn)
        failures = [one for one in answers if isinstance(one, EvaluationFailure)]
        if len(failures) == len(drawn):
            raise WrongInputError(
                f"{self._where}expected one that covers networks of the space, got none of "
                f"{len(drawn)} drawn ({failures[0].message}): go on with its build"
            )

    def check_device(self, description: DeviceDescription) -> tuple[str, ...]:
        """Return how the device differs from the table's, for marking what comes of it.

        Raises:
            TargetChangedError: It differs, and the experiment does not say `force_table`.
        """
        return self._mark(self.table.changes(description))

    def check_measured(self, target: Target) -> tuple[str, ...]:
        """Do the same with what a measurement says of its target: options, cores, tuning."""
        mine = self.table.target
        now, then = target.options, mine.options
        found = [
            f"option {name} is {now.get(name)!r}, the table's {then.get(name)!r}"
            for name in sorted(now.keys() | then.keys())
            if now.get(name) != then.get(name)
        ]
        if parse_cpus(target.cpus) != parse_cpus(mine.cpus):
            found.append(f"cores are {target.cpus}, the table's {mine.cpus}")
        if target.tuning != mine.tuning:
            found.append(
                f"tuning is {target.tuning or 'none'}, the table's {mine.tuning or 'none'}"
            )
        return self._mark(tuple(found))

    def note_reference(self, encoding: str, time_s: float) -> str | None:
        """Learn what a network takes alone in this run; return what is worth telling of it."""
        if encoding != self.table.base or self.level is not None:
            return None
        self.level = time_s / self.table.base_s
        if abs(self.level - 1) <= _LEVEL_TOLD:
            return None
        return (
            f"{self._target.name}: the table's base takes {self.level:.3f} times as long as in "
            "the table: predictions are the table's seconds, finalists and limits those of now"
        )

    def row(self, run: str, finalists: Sequence[FinalistTime]) -> FinalistRow | None:
        """Return how far the table was from the run's finalists; None where none was measured."""
        choice = self._target.table
        return judge(
            Usage(
                run=run,
                target=self._target.name,
                measured_unix_s=time.time(),
                table_digest=choice.digest if choice else self.table.content_digest,
                model=self.predictor.name,
                level=self.level,
                forced=self.forced,
            ),
            finalists,
        )

    @property
    def _where(self) -> str:
        choice = self._target.table
        return f"target {self._target.name!r}: table {choice.name if choice else '?'}: "

    def _mark(self, changes: tuple[str, ...]) -> tuple[str, ...]:
        if changes and not self._target.force_table:
            raise TargetChangedError(changes, force="force_table = true", where=self._where)
        fresh = tuple(one for one in changes if one not in self.forced)
        self.forced += fresh
        return fresh


def load_tables(
    experiment: Experiment, space: Space, say: Callable[[str], None] = lambda _: None
) -> dict[str, RunTable]:
    """Return the tables of an experiment by target name.

    Args:
        experiment: That names them.
        space: Of the run.
        say: Told in a few words what takes long.

    Raises:
        WrongInputError: One cannot be read, or covers nothing of the space.
    """
    found = {}
    for target in experiment.targets:
        if target.table is None:
            continue
        if not isinstance(space, DecomposableSpace):
            raise WrongInputError(
                f"target {target.name!r}: expected a space whose networks are blocks one after "
                f"the other, got {experiment.space.name!r}: leave out the table"
            )
        table = RunTable(target, Table.load(target.table.file), space, say)
        table.check_covers(space)
        found[target.name] = table
    return found


def write_row(row: FinalistRow, file: Path, say: Callable[[str], None]) -> None:
    """Add a row to a table's file; that it cannot be written is told, no more."""
    try:
        add_row(file, row)
    except WrongInputError as problem:
        say(f"note: the error on the finalists is not in the table: {problem}")


def _with_tables(experiment: Experiment, place: Callable[[int, TableChoice], Path]) -> Experiment:
    targets = []
    for index, target in enumerate(experiment.targets):
        if target.table is None:
            targets.append(target)
            continue
        file = place(index, target.table)
        table = Table.load(file)
        _check(table, target, experiment)
        choice = replace(target.table, file=file, digest=table.content_digest)
        targets.append(replace(target, table=choice))
    return replace(experiment, targets=tuple(targets))


def _check(table: Table, target: TargetSettings, experiment: Experiment) -> None:
    """Refuse a table of something else, as far as the experiment says it."""
    space = spaces.load(experiment.space.name, experiment.space.settings)
    task = Task(kind=target.task, batch=target.batch)
    if isinstance(space, NetworkSpace):
        task = replace(task, resolution=space.resolution, classes=space.classes)
    pairs: list[tuple[str, object, object]] = [
        ("space", experiment.space.name, table.space),
        *_different_settings(experiment, table),
        *((name, getattr(task, name), getattr(table.task, name)) for name in _TASK),
        ("backend", target.backend, table.target.backend),
        *(
            (f"option {name}", value, table.target.options.get(name))
            for name, value in target.options.items()
        ),
    ]
    if target.cpus and parse_cpus(target.cpus) != parse_cpus(table.target.cpus):
        pairs.append(("cores", target.cpus, table.target.cpus))
    for what, asked, has in pairs:
        if asked != has:
            choice = target.table.name if target.table else "?"
            raise WrongInputError(
                f"target {target.name!r}: table {choice}: expected one of {what} {_text(asked)}, "
                f"got one of {_text(has)}: name another table, or change the experiment"
            )


_TASK = ("kind", "batch", "resolution", "classes", "frozen_stages", "cache")


def _different_settings(experiment: Experiment, table: Table) -> list[tuple[str, object, object]]:
    """Return the first setting in which the spaces differ; defaults may be left out or given."""
    asked, has = experiment.space.settings, table.space_settings
    if experiment.space.name != table.space or _plain(asked) == _plain(has):
        return []
    one, other = (vars(spaces.load(table.space, settings)) for settings in (asked, has))
    if one == other:
        return []
    names = sorted(asked.keys() | has.keys())
    name = next(name for name in names if _plain(asked).get(name) != _plain(has).get(name))
    default = "the default"
    return [(f"{table.space} with {name}", asked.get(name, default), has.get(name, default))]


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(settings))
    return plain


def _text(value: object) -> str:
    return str(getattr(value, "value", value))


def _residual(table: Table) -> str:
    residual = table.residual
    if residual is None:
        return "the table has no residual yet"
    floor = residual.noise_floor
    beside = "" if floor is None else f", noise floor {floor:.1%}"
    return f"the table's residual is {residual.mape:.1%} on {residual.networks} networks{beside}"
