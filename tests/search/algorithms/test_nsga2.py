"""NSGA-II finds known fronts, keeps limits and lets no failure survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.search.toy_space import ToySpace, toy_values

from boardfront.protos.errors import WrongInputError
from boardfront.search.algorithms import catalog
from boardfront.search.algorithms.base import Evaluated, Failed, Scored
from boardfront.search.algorithms.nsga2 import Nsga2
from boardfront.search.pareto import non_dominated

if TYPE_CHECKING:
    from collections.abc import Callable

_GOLDEN = Path(__file__).parents[2] / "golden" / "nsga2_toy_seed7.json"


def _evaluate(encoding: str) -> Scored:
    return Evaluated(encoding=encoding, values=toy_values(encoding))


def _search(score: Callable[[str], Scored], generations: int, **settings: int) -> list[Scored]:
    algorithm = Nsga2(ToySpace(), objectives=2, **{"seed": 7, "population": 16, **settings})
    told: list[Scored] = []
    for _ in range(generations):
        scored = [score(child) for child in algorithm.ask()]
        algorithm.tell(scored)
        told += scored
    return told


def _front(scored: list[Scored]) -> set[str]:
    good = [s for s in scored if isinstance(s, Evaluated) and sum(s.violations) == 0]
    mask = non_dominated([s.values for s in good])
    return {s.encoding for s, kept in zip(good, mask, strict=True) if kept}


def _linear(encoding: str) -> tuple[float, float]:
    digits = [int(digit) for digit in encoding]
    return float(sum(digits)), float(sum((3 - d) * (1 + i) for i, d in enumerate(digits)))


def test_the_true_front_of_an_enumerable_space_is_found() -> None:
    # The front by enumeration has 16 points; 384 of 1024 members are evaluated. Seeds 0 to
    # 19 were tried and all find it whole; as many random draws hold 3 to 8 points of it.
    def score(encoding: str) -> Scored:
        return Evaluated(encoding=encoding, values=_linear(encoding))

    truth = {_linear(e) for e in _front([score(member) for member in ToySpace().members()])}
    assert len(truth) == 16
    assert {_linear(e) for e in _front(_search(score, 24))} == truth


def test_better_than_random_sampling() -> None:
    members = ToySpace().members()
    truth = _front([_evaluate(member) for member in members])
    draw = np.random.default_rng(7).choice(members, size=320, replace=False)
    assert len(_front(_search(_evaluate, 20)) & truth) > 2 * len(truth & set(draw.tolist()))


def test_the_golden_front() -> None:
    # Origin: this implementation with pymoo 0.6.2 at its first version, exact. It changes with
    # pymoo's order of random draws: look why, then write it again.
    expected = json.loads(_GOLDEN.read_text())
    assert sorted(_front(_search(_evaluate, expected["generations"]))) == expected["front"]


def test_a_hard_limit_draws_the_search_under_it() -> None:
    limit = 6.0

    def score(encoding: str) -> Scored:
        cost, loss = toy_values(encoding)
        over = max(0.0, (cost - limit) / limit)
        return Evaluated(encoding=encoding, values=(cost, loss), violations=(over,))

    last = _search(score, 12)[-64:]
    kept = [s for s in last if isinstance(s, Evaluated) and sum(s.violations) == 0]
    share_in_space = np.mean([toy_values(m)[0] <= limit for m in ToySpace().members()])
    assert len(kept) / len(last) > 2 * share_in_space


def test_a_failure_never_survives_against_a_measured_one() -> None:
    algorithm = Nsga2(ToySpace(), objectives=2, seed=1, population=4)
    first = algorithm.ask()
    algorithm.tell([Failed(encoding=child, reason="crashed") for child in first])
    second = algorithm.ask()
    terrible = [
        Evaluated(encoding=child, values=(1e30, 1e30), violations=(1e300,)) for child in second
    ]
    algorithm.tell(terrible)
    survivors = {str(individual.X[0]) for individual in algorithm._algorithm.pop}
    assert survivors == set(second)


def test_failures_do_not_stop_the_search() -> None:
    def score(encoding: str) -> Scored:
        return _evaluate(encoding) if encoding[0] != "3" else Failed(encoding=encoding, reason="x")

    told = _search(score, 20)
    last = told[-64:]
    assert sum(isinstance(s, Failed) for s in last) < 0.25 * len(last)


def test_another_number_of_values_is_an_error() -> None:
    algorithm = Nsga2(ToySpace(), objectives=2, seed=1, population=2)
    scored = [Evaluated(encoding=child, values=(1.0,)) for child in algorithm.ask()]
    with pytest.raises(WrongInputError, match="expected 2 values for"):
        algorithm.tell(scored)


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (float("inf"), 1.0)])
def test_no_number_stands_for_a_failure(values: tuple[float, float]) -> None:
    with pytest.raises(WrongInputError, match="tell Failed where there is no value"):
        Evaluated(encoding="00000", values=values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, "population >= 2, got 1"),
        ({"mutation_count": 0}, "mutation_count >= 1, got 0"),
        ({"mutation_probability": 2}, "mutation_probability from 0 to 1, got 2"),
        ({"crossover_probability": -1}, "crossover_probability from 0 to 1, got -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, int], message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        _search(_evaluate, 1, **settings)


@pytest.mark.parametrize("probability", [0, 1])
def test_variation_may_be_switched_off(probability: int) -> None:
    told = _search(
        _evaluate,
        4,
        crossover_probability=probability,
        mutation_probability=probability,
    )
    assert len({s.encoding for s in told}) == 64


def test_an_unknown_algorithm_lists_the_known() -> None:
    with pytest.raises(WrongInputError, match="an algorithm of nsga2, got 'nsga9'"):
        catalog.load("nsga9")
