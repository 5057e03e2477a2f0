"""Every catalogued search algorithm keeps what base.SearchAlgorithm promises."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.toy_space import ToySpace, toy_values

from boardfront.search.algorithms import catalog
from boardfront.search.algorithms.base import (
    AskTellOrderError,
    Evaluated,
    Failed,
    Scored,
    SearchAlgorithm,
)

pytestmark = pytest.mark.parametrize("name", catalog.names())


def _make(name: str, space: ToySpace | None = None, seed: int = 3) -> SearchAlgorithm:
    return catalog.load(name)(
        space or ToySpace(),
        objectives=2,
        seed=seed,
        population=8,
        crossover_probability=0.9,
        mutation_probability=0.5,
    )


def _score(encoding: str) -> Scored:
    if encoding.endswith("0"):
        return Failed(encoding=encoding, reason="crashed")
    return Evaluated(encoding=encoding, values=toy_values(encoding))


def _run(algorithm: SearchAlgorithm, generations: int, *, reverse: bool = False) -> list[str]:
    asked: list[str] = []
    for _ in range(generations):
        children = algorithm.ask()
        asked += children
        scored = [_score(child) for child in children]
        algorithm.tell(scored[::-1] if reverse else scored)
    return asked


def test_keeps_the_protocol(name: str) -> None:
    assert isinstance(_make(name), SearchAlgorithm)


def test_children_are_members_new_and_exactly_as_many_as_asked(name: str) -> None:
    algorithm = _make(name)
    members = set(ToySpace().members())
    asked = _run(algorithm, 12)
    assert len(asked) == len(set(asked)) == 12 * 8
    assert set(asked) <= members


def test_a_space_is_searched_to_its_end(name: str) -> None:
    space = ToySpace(length=3, choices=3)
    algorithm = _make(name, space)
    asked: list[str] = []
    while children := algorithm.ask():
        asked += children
        algorithm.tell([_score(child) for child in children])
    assert sorted(asked) == space.members()
    assert algorithm.ask() == ()


def test_equal_seeds_and_tells_give_equal_asks(name: str) -> None:
    assert _run(_make(name), 6) == _run(_make(name), 6)
    assert _run(_make(name, seed=4), 6) != _run(_make(name), 6)


def test_the_order_of_telling_changes_nothing(name: str) -> None:
    assert _run(_make(name), 6, reverse=True) == _run(_make(name), 6)


def test_global_random_state_is_neither_read_nor_changed(name: str) -> None:
    np.random.seed(0)  # noqa: NPY002 - the legacy state is what is tested
    before = np.random.get_state()  # noqa: NPY002
    first = _run(_make(name), 4)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))
    np.random.seed(1)  # noqa: NPY002
    assert _run(_make(name), 4) == first


def test_all_failing_is_survived(name: str) -> None:
    algorithm = _make(name)
    for _ in range(4):
        children = algorithm.ask()
        assert len(children) == 8
        algorithm.tell([Failed(encoding=child, reason="timeout") for child in children])


def test_ask_twice_is_an_error_and_changes_nothing(name: str) -> None:
    algorithm = _make(name)
    children = algorithm.ask()
    with pytest.raises(AskTellOrderError, match="got another ask"):
        algorithm.ask()
    algorithm.tell([_score(child) for child in children])
    assert len(algorithm.ask()) == 8


def test_tell_before_ask_is_an_error(name: str) -> None:
    with pytest.raises(AskTellOrderError, match="ask first"):
        _make(name).tell([])


@pytest.mark.parametrize("change", ["missing", "repeated", "other"])
def test_telling_others_than_asked_is_an_error(name: str, change: str) -> None:
    algorithm = _make(name)
    children = list(algorithm.ask())
    wrong = {
        "missing": children[1:],
        "repeated": [*children, children[0]],
        "other": [*children[1:], "99999"],
    }[change]
    with pytest.raises(AskTellOrderError, match="tell exactly what ask"):
        algorithm.tell([Evaluated(encoding=child, values=(1.0, 1.0)) for child in wrong])
    algorithm.tell([_score(child) for child in children])
