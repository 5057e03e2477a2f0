"""Outcomes survive JSON whole, and nothing else passes for one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from tests.latency_models import samples

from boardfront.latency_models.outcome_json import outcome_from_json, outcome_to_json
from boardfront.protos.errors import WrongInputError


@pytest.mark.parametrize("outcome", [samples.result(), samples.failure()], ids=["result", "fail"])
def test_round_trip(outcome: Any) -> None:
    text = json.dumps(outcome_to_json(outcome), allow_nan=False)
    assert outcome_from_json(json.loads(text)) == outcome


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    result = samples.result()
    bad = dataclasses.replace(
        result,
        windows=(dataclasses.replace(result.windows[0], samples_s=(0.1, number)),),
    )
    with pytest.raises(WrongInputError, match=r"finite number at windows\.0\.samples_s\.1"):
        outcome_to_json(bad)


def test_a_time_of_zero_is_refused() -> None:
    with pytest.raises(WrongInputError, match=r"0 < low_s <= median_s .* record a failure"):
        outcome_to_json(samples.result(median_s=0.0))


def _changed(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = outcome_to_json(samples.result())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for name in parents:
            place = place[name]
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_changed(v=2), "version 1, got 2"),
        (_changed(kind="guess"), "a result or a failure, got 'guess'"),
        (_changed(body__extra=1), "got the key 'extra'"),
        (_changed(body__verdict="fine"), "one of ok, unstable.* at result.verdict, got 'fine'"),
        (_changed(body__run_s="1"), "expected float at result.run_s, got '1'"),
        (_changed(body__artifact_bytes=1.5), "expected int at result.artifact_bytes, got 1.5"),
        (_changed(body__artifact_bytes=True), "expected int at result.artifact_bytes, got True"),
        (_changed(body__windows=[{"start_s": 0.0}]), r"the key 'loops' at result\.windows\.0"),
        (["not", "a", "mapping"], "v, kind and body"),
    ],
)
def test_anything_else_is_refused(data: object, message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        outcome_from_json(data)
