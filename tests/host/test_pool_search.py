"""One search over one board or several, ahead of them or not: the same candidates, in order."""

from __future__ import annotations

import contextlib
import hashlib
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import AgentProcess
from tests.host.searching import (
    EVALUATIONS,
    EXPERIMENT,
    Place,
    evaluated,
    gist,
    times_measured,
)
from typing_extensions import override

from boardfront.host import journal_records as records
from boardfront.host.experiment import TargetSettings
from boardfront.host.fleet.crew import Patience
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.evaluation import Candidate, CandidateEvaluator
from boardfront.search.loop import Budget, search
from boardfront.search.objective import Objective, ObjectiveKind
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from boardfront.search.evaluation import LatencySource
    from boardfront.search.spaces.spos.space import SposSpace

pytestmark = pytest.mark.timeout(240)

OBJECTIVES = (
    Objective(name="accuracy", kind=ObjectiveKind.ACCURACY),
    Objective(name="latency", kind=ObjectiveKind.LATENCY, target="board"),
)
TARGET = TargetSettings(
    name="board",
    device="local",
    backend="fake",
    options={"time_s": "0.001-0.003"},
    reference="none",
    min_duration_s=0.05,
)
CANDIDATES = 8


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentProcess, ...]]:
    with contextlib.ExitStack() as stack:
        yield tuple(
            stack.enter_context(AgentProcess(tmp_path_factory.mktemp(name))) for name in "ab"
        )


@pytest.fixture(scope="module")
def space() -> SposSpace:
    settings = {"resolution": 8, "classes": 10, "stem_channels": 8, "stages": [[16, 2], [32, 2]]}
    return spaces.load("spos", settings)  # type: ignore[return-value]


class _Estimator:
    state_id = "s"

    def validation_accuracy(self, encoding: str) -> float:
        return int(hashlib.sha256(encoding.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@dataclass
class _Seen:
    """Follows a search, and may stop it."""

    stop_at: int | None = None
    candidates: list[Candidate] = field(default_factory=list)

    def before(self, index: int, encoding: str) -> None:
        del encoding
        assert index == len(self.candidates)
        if index == self.stop_at:
            raise KeyboardInterrupt

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        assert generation == index // 4
        self.candidates.append(candidate)

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        pass

    @property
    def gist(self) -> list[tuple[object, ...]]:
        """What a run's outcome consists of; which measurement has which number does not."""
        return [
            (
                c.encoding,
                c.accuracy,
                {n: replace(t, measurement_id=0) for n, t in c.latencies.items()},
                c.failure,
            )
            for c in self.candidates
        ]


class _Alone:
    """A LatencySource that lets nothing overlap."""

    ahead = 0

    def __init__(self, source: LatencySource) -> None:
        self.corrections = source.corrections
        self.latency = source.latency
        self.begin = source.begin


class _Search:
    """Searches of one experiment on some boards with some store."""

    def __init__(self, space: SposSpace, store: Path, agents: Sequence[AgentProcess]) -> None:
        self.space = space
        self.store = store
        self.device = tuple(agent.address for agent in agents)
        self.said: list[str] = []

    def run(
        self,
        seen: _Seen,
        *,
        known: Mapping[str, Candidate] | None = None,
        alone: bool = False,
        **changes: object,
    ) -> tuple[Candidate, ...]:
        """Search to the end and return the front."""
        settings = replace(TARGET, device=self.device, **changes)  # type: ignore[arg-type]
        with MeasurementStore(self.store) as store:
            targets = Targets(
                [settings],
                self.space,
                TargetSurroundings(
                    store=store,
                    job_seed="run",
                    say=self.said.append,
                    ledger=self.store.with_suffix(".jsonl"),
                    patience=Patience(move_after_s=1.0, give_up_after_s=30.0),
                ),
            )
            try:
                source: LatencySource = targets.by_name["board"].source
                return search(
                    algorithms.load("nsga2")(
                        self.space,
                        objectives=2,
                        seed=3,
                        population=4,
                        crossover_probability=0.9,
                        mutation_probability=0.8,
                    ),
                    CandidateEvaluator(
                        _Estimator(), {"board": _Alone(source) if alone else source}, known or {}
                    ),
                    OBJECTIVES,
                    Budget(evaluations=CANDIDATES),
                    seen,
                )
            finally:
                targets.close()


@pytest.fixture(scope="module")
def undisturbed(
    space: SposSpace, agents: tuple[AgentProcess, ...], tmp_path_factory: pytest.TempPathFactory
) -> _Seen:
    """A search over one board, nothing overlapped."""
    seen = _Seen()
    store = tmp_path_factory.mktemp("alone") / "store.db"
    _Search(space, store, agents[:1]).run(seen, alone=True)
    return seen


@pytest.mark.parametrize("boards", [1, 2])
def test_the_number_of_boards_changes_nothing(
    space: SposSpace,
    agents: tuple[AgentProcess, ...],
    undisturbed: _Seen,
    tmp_path: Path,
    boards: int,
) -> None:
    seen = _Seen()
    searching = _Search(space, tmp_path / "store.db", agents[:boards])
    front = searching.run(seen)
    assert seen.gist == undisturbed.gist
    assert len({time for c in seen.candidates for time in c.latencies.values()}) == CANDIDATES
    assert front
    assert times_measured(searching.store, "candidate") == [1] * CANDIDATES
    if boards == 2:
        (told,) = (line for line in searching.said if "2 boards" in line)
        assert "on which the sentinel takes" in told


@pytest.mark.slow
def test_times_that_are_not_good_enough_are_retried_as_often_as_ever(
    space: SposSpace, agents: tuple[AgentProcess, ...], undisturbed: _Seen, tmp_path: Path
) -> None:
    # How long a restless look goes on depends on the real clock, so its times differ; a million
    # samples would be needed for the precision that is asked for.
    searching = _Search(space, tmp_path / "pool.db", agents)
    options = {"time_s": "0.001-0.003", "noise": "1"}
    seen = _Seen(stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        searching.run(seen, retries=2, cool_down_s=0.05, precision=0.001, options=options)
    assert [c.encoding for c in seen.candidates] == [
        c.encoding for c in undisturbed.candidates[:4]
    ]
    attempts = [time.attempts for c in seen.candidates for time in c.latencies.values()]
    assert attempts == [3] * 4
    assert times_measured(searching.store, "retry") == [2] * 4


@pytest.mark.parametrize("stop_at", [1, 5])
def test_an_interrupted_search_goes_on_to_the_same_end(
    space: SposSpace,
    agents: tuple[AgentProcess, ...],
    undisturbed: _Seen,
    tmp_path: Path,
    stop_at: int,
) -> None:
    searching = _Search(space, tmp_path / "store.db", agents)
    part = _Seen(stop_at)
    with pytest.raises(KeyboardInterrupt):
        searching.run(part)
    seen = _Seen()
    # The second life may have fewer boards.
    searching.device = searching.device[: 1 + stop_at % 2]
    searching.run(seen, known={c.encoding: c for c in part.candidates})
    assert seen.gist == undisturbed.gist
    assert times_measured(searching.store, "candidate") == [1] * CANDIDATES


def test_a_board_that_dies_in_mid_search_changes_nothing(
    space: SposSpace, agents: tuple[AgentProcess, ...], undisturbed: _Seen, tmp_path: Path
) -> None:
    class _Killing(_Seen):
        @override
        def before(self, index: int, encoding: str) -> None:
            super().before(index, encoding)
            if index == 2:
                mortal.kill()

    with AgentProcess(tmp_path / "mortal") as mortal:
        searching = _Search(space, tmp_path / "store.db", (agents[0], mortal))
        seen = _Killing()
        searching.run(seen)
    assert seen.gist == undisturbed.gist


def test_local_is_no_part_of_a_pool(
    space: SposSpace, agents: tuple[AgentProcess, ...], tmp_path: Path
) -> None:
    searching = _Search(space, tmp_path / "store.db", agents)
    searching.device = (*searching.device, "local")
    with pytest.raises(WrongInputError, match="'local' cannot be one of several"):
        searching.run(_Seen())


def test_a_pool_without_boards_says_why(space: SposSpace, tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "gone") as gone:
        pass
    searching = _Search(space, tmp_path / "store.db", (gone,))
    searching.device = (gone.address, gone.address.replace("127.0.0.1", "localhost"))
    with pytest.raises(BoardfrontError, match=r"no board can be used .*no agent answers"):
        searching.run(_Seen())


@pytest.mark.slow
def test_a_killed_run_on_a_pool_ends_like_one_on_this_machine(
    place: Place, finished: Place, agents: tuple[AgentProcess, ...]
) -> None:
    devices = ", ".join(f'"{agent.address}"' for agent in agents)
    place.experiment.write_text(EXPERIMENT.replace('device = "local"', f"device = [{devices}]"))
    with place.start("search", str(place.experiment)) as running:
        running.until_journalled(records.Evaluation, 3)
        assert running.signal(signal.SIGKILL) == -signal.SIGKILL
    assert len(evaluated(place.run_folder)) < EVALUATIONS
    done = place.call(*place.resume_arguments())
    assert done.returncode == 0, done.stderr
    assert gist(place.run_folder) == gist(finished.run_folder)
    assert evaluated(place.run_folder) == evaluated(finished.run_folder)
    assert set(times_measured(place.store, "candidate")) == {1}
    assert place.run_folder.ledger.exists()
