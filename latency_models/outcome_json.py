"""A measurement's outcome as versioned JSON: everything that was seen, raw samples included."""

from __future__ import annotations

from boardfront.latency_models import strict_json
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Failure, Result

VERSION = 1
"""Version of this form. A reader of an older version refuses a newer one."""


def outcome_to_json(outcome: Result | Failure) -> dict[str, object]:
    """Write an outcome.

    Returns:
        `{"v": 1, "kind": "result" | "failure", "body": {...}}`, without NaN or infinity.

    Raises:
        WrongInputError: A number is not finite, or the times are no interval around a median.
    """
    if isinstance(outcome, Result):
        _check_statistics(outcome)
        return {"v": VERSION, "kind": "result", "body": strict_json.encode(outcome)}
    return {"v": VERSION, "kind": "failure", "body": strict_json.encode(outcome)}


def outcome_from_json(data: object) -> Result | Failure:
    """Read what `outcome_to_json` wrote.

    Raises:
        WrongInputError: The version or kind is unknown, or a value is not what its record holds.
    """
    if not isinstance(data, dict) or set(data) != {"v", "kind", "body"}:
        raise WrongInputError(
            f"expected an outcome with v, kind and body, got {data!r:.60}: the data is damaged",
        )
    if data["v"] != VERSION:
        raise WrongInputError(
            f"expected an outcome of version {VERSION}, got {data['v']!r}: "
            "it was written by another boardfront; use a newer one",
        )
    if data["kind"] == "result":
        return strict_json.decode(Result, data["body"], "result")
    if data["kind"] == "failure":
        return strict_json.decode(Failure, data["body"], "failure")
    raise WrongInputError(
        f"expected a result or a failure, got {data['kind']!r}: the data is damaged",
    )


def _check_statistics(result: Result) -> None:
    s = result.statistics
    if not 0 < s.low_s <= s.median_s <= s.high_s:
        raise WrongInputError(
            f"expected 0 < low_s <= median_s <= high_s, got {s.low_s}, {s.median_s}, {s.high_s}: "
            "record a failure where there is no time",
        )
    ratio = result.normalised
    if ratio is not None and not 0 < ratio.low <= ratio.ratio <= ratio.high:
        raise WrongInputError(
            f"expected 0 < low <= ratio <= high, got {ratio.low}, {ratio.ratio}, {ratio.high}: "
            "leave out what could not be divided",
        )
