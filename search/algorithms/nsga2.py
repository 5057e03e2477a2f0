"""NSGA-II over encodings. Selection and survival are pymoo's, variation is the space's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.core.termination import NoTermination
from pymoo.operators.survival.rank_and_crowding import (
    RankAndCrowding,
)

from boardfront.protos.errors import WrongInputError
from boardfront.search.algorithms.base import AskTellOrderError, Evaluated, Scored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boardfront.search.space import Space

_MATING_ROUNDS = 10
_MUTATION_TRIES_PER_CHILD = 20
_SAMPLING_TRIES = 1_000
_MOST_SAMPLING_TRIES = 100_000


class Nsga2:
    """The elitist genetic algorithm for several objectives with hard limits.

    Every generation has `population` children, all new. Where mating brings too few, mutants of
    the population fill up, then samples; a space smaller than that is searched to its end. (In a
    space of more than some thousand members the very last ones may be missed: sampling gives up
    after 100 000 tries.)

    Args:
        space: Where the encodings come from.
        objectives: How many values each evaluation has.
        seed: Of all randomness.
        population: Children a generation, and survivors; at least 2.
        crossover_probability: Of a child having two parents; otherwise it begins as a copy.
        mutation_probability: Of a child being mutated, at least 0 and at most 1.
        mutation_count: How many steps of `space.mutate` a mutation takes.

    Source: Deb, Pratap, Agarwal, Meyarivan 2002, "A fast and elitist multiobjective genetic
    algorithm: NSGA-II", sections III (ranking, crowding, main loop) and VI-A (constraint
    domination), in pymoo's implementation (Blank, Deb 2020). Deviations: crossover and mutation
    are the space's instead of SBX and polynomial mutation; a mating gives one child, not two;
    a tournament compares dominance itself before crowding; children equal to anything asked
    before are replaced; violations are relative to their limits; a failed evaluation counts as
    infinitely infeasible.
    """

    def __init__(  # noqa: PLR0913 - each is a setting that a person may choose
        self,
        space: Space,
        *,
        objectives: int,
        seed: int,
        population: int = 32,
        crossover_probability: float = 0.9,
        mutation_probability: float = 0.8,
        mutation_count: int = 1,
    ) -> None:
        _check_settings(objectives, population, mutation_count)
        _check_probabilities(crossover_probability, mutation_probability)
        self._space = space
        self._objectives = objectives
        self._population = population
        self._asked: set[str] = set()
        self._pending: Any = None
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=_Sampling(space),
            crossover=_Crossover(space, crossover_probability),
            mutation=_Mutation(space, mutation_probability, mutation_count),
            survival=RankAndCrowding(),
            eliminate_duplicates=_AskedBefore(self._asked),
            output=None,
            seed=seed,
        )
        self._algorithm.mating.n_max_iterations = _MATING_ROUNDS
        self._algorithm.termination = NoTermination()
        self._algorithm.setup(Problem(n_var=1, n_obj=objectives, n_ieq_constr=1, vtype=object))

    def ask(self) -> tuple[str, ...]:
        """Return `population` new encodings, or what is left of the space.

        Raises:
            AskTellOrderError: The last generation was not told.
        """
        if self._pending is not None:
            raise AskTellOrderError(
                f"expected tell() of the {len(self._pending)} encodings asked, got another ask(): "
                "tell each as Evaluated or Failed first",
            )
        if len(self._asked) >= self._space.size:
            return ()
        children = _encodings(self._algorithm.infill())
        children += self._top_up(children)
        if not children:
            return ()
        self._asked.update(children)
        self._pending = Population.new("X", _column(children))
        return tuple(children)

    def tell(self, scored: Sequence[Scored]) -> None:
        """Learn the values of the encodings asked.

        Args:
            scored: One a child, in any order.

        Raises:
            AskTellOrderError: Other encodings were told than asked.
            WrongInputError: An evaluation has another number of values than objectives.
        """
        if self._pending is None:
            raise AskTellOrderError("expected ask() before tell(), got tell(): ask first")
        asked = _encodings(self._pending)
        told = {answer.encoding: answer for answer in scored}
        if sorted(answer.encoding for answer in scored) != sorted(asked):
            wrong = sorted(set(told) ^ set(asked))[:3]
            raise AskTellOrderError(
                f"expected one answer for each of the {len(asked)} encodings asked, got "
                f"{len(scored)} (differing: {', '.join(wrong) or 'repeated ones'}): "
                "tell exactly what ask() returned",
            )
        answers = [told[encoding] for encoding in asked]
        self._pending.set("F", np.array([self._values(answer) for answer in answers]))
        self._pending.set("G", np.array([[_violation(answer)] for answer in answers]))
        generation, self._pending = self._pending, None
        self._algorithm.advance(infills=generation)

    def _values(self, answer: Scored) -> tuple[float, ...]:
        # A failure's values are never compared: its violation already is the largest there is.
        if not isinstance(answer, Evaluated):
            return (np.inf,) * self._objectives
        if len(answer.values) != self._objectives:
            raise WrongInputError(
                f"expected {self._objectives} values for {answer.encoding!r}, got "
                f"{answer.values}: tell one value an objective",
            )
        return answer.values

    def _top_up(self, children: Iterable[str]) -> list[str]:
        """Find what mating left missing: mutants of the population, then samples."""
        rng: np.random.Generator = self._algorithm.random_state
        known = self._asked.union(children)
        parents = _encodings(self._algorithm.pop) or list(children)
        missing = min(self._population, self._space.size - len(self._asked)) - len(set(children))
        found: list[str] = []
        for _ in range(_MUTATION_TRIES_PER_CHILD * missing if parents else 0):
            if len(found) == missing:
                return found
            child = self._space.mutate(parents[int(rng.integers(len(parents)))], rng)
            if child not in known:
                known.add(child)
                found.append(child)
        # 64 tries a member find each of a small space's members but for one chance in e^64.
        tries = min(max(_SAMPLING_TRIES, 64 * self._space.size), _MOST_SAMPLING_TRIES)
        for _ in range(tries):
            if len(found) == missing:
                break
            child = self._space.sample(rng)
            if child not in known:
                known.add(child)
                found.append(child)
        return found


class _Sampling(Sampling):  # type: ignore[misc]
    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space

    def _do(
        self,
        _problem: object,
        n_samples: int,
        *_arguments: object,
        random_state: np.random.Generator,
        **_keywords: object,
    ) -> Any:  # pymoo's arrays have no types
        return _column([self._space.sample(random_state) for _ in range(n_samples)])


class _Crossover(Crossover):  # type: ignore[misc]
    def __init__(self, space: Space, probability: float) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=probability)
        self._space = space

    def _do(
        self,
        _problem: object,
        parents: Any,
        *_arguments: object,
        random_state: np.random.Generator,
        **_keywords: object,
    ) -> Any:
        """Map (2, matings, 1) parents to (1, matings, 1) children."""
        pairs = zip(parents[0, :, 0], parents[1, :, 0], strict=True)
        children = [self._space.crossover(a, b, random_state) for a, b in pairs]
        return _column(children)[None]


class _Mutation(Mutation):  # type: ignore[misc]
    def __init__(self, space: Space, probability: float, count: int) -> None:
        super().__init__(prob=probability)
        self._space = space
        self._count = count

    def _do(
        self,
        _problem: object,
        encodings: Any,
        *_arguments: object,
        random_state: np.random.Generator,
        **_keywords: object,
    ) -> Any:
        """Map (children, 1) to mutants of the same shape; pymoo picks which of them to take."""
        mutants = list(encodings[:, 0])
        for _ in range(self._count):
            mutants = [self._space.mutate(mutant, random_state) for mutant in mutants]
        return _column(mutants)


class _AskedBefore(DuplicateElimination):  # type: ignore[misc]
    """Drops children that were asked before or stand earlier in the same generation."""

    def __init__(self, asked: set[str]) -> None:
        super().__init__()
        self._asked = asked

    def _do(self, population: Any, other: Any, is_duplicate: Any) -> Any:
        known = self._asked.union(_encodings(other))
        for i, encoding in enumerate(_encodings(population)):
            is_duplicate[i] = encoding in known
            known.add(encoding)
        return is_duplicate


def _violation(answer: Scored) -> float:
    return sum(answer.violations) if isinstance(answer, Evaluated) else np.inf


def _encodings(population: Any) -> list[str]:
    return [] if population is None else [str(individual.X[0]) for individual in population]


def _column(encodings: Sequence[str]) -> Any:
    """Return an object array (encodings, 1)."""
    column = np.empty((len(encodings), 1), dtype=object)
    column[:, 0] = encodings
    return column


def _check_settings(objectives: int, population: int, mutation_count: int) -> None:
    given = {"objectives": (objectives, 1), "population": (population, 2)}
    given["mutation_count"] = (mutation_count, 1)
    for name, (value, least) in given.items():
        if value < least:
            raise WrongInputError(f"expected {name} >= {least}, got {value}: choose a larger one")


def _check_probabilities(crossover_probability: float, mutation_probability: float) -> None:
    given = {"crossover": crossover_probability, "mutation": mutation_probability}
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise WrongInputError(
                f"expected a {name}_probability from 0 to 1, got {value}: correct it",
            )
