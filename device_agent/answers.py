"""A worker's answer, checked: it comes from a process in which anything may have happened."""

from __future__ import annotations

import json
import math
from typing import Any

from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind

MAX_BYTES = 8 << 20
"""Longest answer that is read: a hundred times what any command is answered."""

_TIMES = ("samples_s", "runs_s", "steady_s")


class WrongAnswerError(BoardfrontError):
    """An answer that no sound worker gives."""


def parse(line: bytes, what: str) -> dict[str, Any]:
    """Return an answer whose times are finite and positive.

    Args:
        line: As it came.
        what: What was asked, for the message.

    Raises:
        WrongAnswerError: If it is not an object of JSON, or a time in it cannot be one.
    """
    try:
        answer = json.loads(line, parse_constant=_not_a_time)
    except WrongAnswerError as error:
        raise WrongAnswerError(f"{error} during {what}") from None
    except (ValueError, RecursionError):
        raise WrongAnswerError(f"the worker's answer to {what} is not JSON") from None
    if not isinstance(answer, dict) or not _is_failure_sound(answer):
        raise WrongAnswerError(f"the worker's answer to {what} is none of its own")
    for name, value in answer.items():
        if name.endswith(_TIMES):
            _check_times(value, what)
    return answer


def _not_a_time(text: str) -> float:
    raise WrongAnswerError(f"the backend's clock gave {float(text):g} s")


def _check_times(value: object, what: str) -> None:
    for time_s in value if isinstance(value, list) else [value]:
        given = repr(time_s)[:40]
        if isinstance(time_s, int | float) and not isinstance(time_s, bool):
            if math.isfinite(time_s) and time_s > 0:
                continue
            given = f"{time_s:g} s"
        raise WrongAnswerError(f"the backend's clock gave {given} for a run during {what}")


def _is_failure_sound(answer: dict[str, Any]) -> bool:
    if "failure" not in answer:
        return True
    kinds = {kind.value for kind in FailureKind}
    return answer["failure"] in kinds and isinstance(answer.get("message"), str)
