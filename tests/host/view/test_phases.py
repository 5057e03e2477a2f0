"""How long the rest of a run is expected to take."""

from __future__ import annotations

import pytest
from tests.host.searching import EXPERIMENT

from boardfront.host.config import parse_experiment
from boardfront.host.view.phases import expected_finalist_s


@pytest.mark.parametrize("scoring_s", [0.0, 0.01])
def test_finalists_of_a_search_by_a_table_take_their_looks_and_starts(scoring_s: float) -> None:
    text = EXPERIMENT.replace(
        "min_duration_s = 0.05\nprocesses = 2", "min_duration_s = 2.0\nprocesses = 3"
    )
    experiment = parse_experiment(text, file="e.toml")
    assert experiment.finalists.processes == 3
    assert expected_finalist_s(experiment, (scoring_s,)) == pytest.approx(3 * (2.0 + 1.0))


def test_where_candidates_were_measured_they_tell_what_a_start_takes() -> None:
    experiment = parse_experiment(EXPERIMENT, file="e.toml")
    assert expected_finalist_s(experiment, (7.0, 9.0)) == pytest.approx(2 * 8.0)
