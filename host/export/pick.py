"""Which network of a front is taken: by accuracy and the time measured whole at the run's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.export.finished import Member

KNEE = "knee"
FASTEST = "fastest"
BEST = "best"

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """What was taken, by which rule, and why it is that one."""

    member: Member
    rule: str
    reason: str


def pick(members: Sequence[Member], target: str, rule: str) -> Pick:
    """Take a network by a rule.

    Args:
        members: Of the front.
        target: Whose times count.
        rule: "knee", "fastest", "best", or an index of the front.

    Raises:
        WrongInputError: If there is no such rule or index, or the network has no time there.
    """
    if rule.isdecimal():
        return _pick_index(members, target, rule)
    timed = _timed(members, target)
    if rule == FASTEST:
        return Pick(member=_fastest(timed, target), rule=rule, reason="the shortest time")
    if rule == BEST:
        return Pick(member=_most_accurate(timed, target), rule=rule, reason="the highest accuracy")
    if rule == KNEE:
        return _pick_knee(timed, target)
    raise WrongInputError(
        f"--pick {rule!r}: expected knee, fastest, best, or an index of the front: "
        f"{_indices(members)}"
    )


def pick_within(members: Sequence[Member], target: str, limit_s: float) -> Pick:
    """Take the most accurate network whose time keeps a limit with its whole interval.

    Args:
        members: Of the front.
        target: Whose times count.
        limit_s: The upper end of the 95 % interval is at most this, seconds.

    Raises:
        WrongInputError: If none keeps it.
    """
    timed = _timed(members, target)
    keeping = [member for member in timed if member.times[target].high_s <= limit_s]
    shown = text.format_time(limit_s)
    if not keeping:
        fastest = min(timed, key=lambda member: member.times[target].high_s)
        time = fastest.times[target]
        raise WrongInputError(
            f"--max-latency {shown}: no network of the front keeps it on {target}: the fastest, "
            f"{fastest.encoding}, takes {text.format_latency(time)} (95 % interval "
            f"{text.format_interval(time.low_s, time.high_s)}): expected at least "
            f"{text.format_time(time.high_s)}"
        )
    return Pick(
        member=_most_accurate(keeping, target),
        rule=f"max-latency {shown}",
        reason=f"the highest accuracy of the {len(keeping)} whose whole interval is within "
        f"{shown}",
    )


def parse_time(given: str) -> float:
    """Return the seconds of `12ms`, `800 us` or `0.5s`.

    Raises:
        WrongInputError: If the text has another form.
    """
    number = given.strip().rstrip("nmus").rstrip()
    unit = given.strip()[len(number) :].strip()
    try:
        amount = float(number)
    except ValueError:
        amount = 0.0
    if unit not in _UNITS_S or not 0 < amount < float("inf"):
        raise WrongInputError(
            f"--max-latency {given!r}: expected a time with its unit, such as 12ms or 800us"
        )
    return amount * _UNITS_S[unit]


def _pick_index(members: Sequence[Member], target: str, rule: str) -> Pick:
    found = {member.index: member for member in members}
    if int(rule) not in found:
        raise WrongInputError(
            f"--pick {rule}: expected an index of the front: {_indices(members)}"
        )
    member = found[int(rule)]
    if target not in member.times:
        why = member.failures.get(target, "nobody knows why")
        raise WrongInputError(
            f"--pick {rule}: {member.encoding} has no time on {target} ({why}): expected one that "
            "was measured; choose another, or another --target"
        )
    return Pick(member=member, rule=f"index {rule}", reason="it was asked for")


def _pick_knee(timed: Sequence[Member], target: str) -> Pick:
    """Take the member farthest above the chord between the fastest and the most accurate.

    Both axes run from 0 to 1 between these two. Members that another one beats in time and
    accuracy after measuring again are no candidates. Where nothing lies above the chord, or there
    are fewer than three, it is the fastest.

    Source: Das 1999, "On characterizing the 'knee' of the Pareto curve based on
        Normal-Boundary Intersection", Structural Optimization 18, section 3: the point of the
        front with the largest distance from the hull of the individual minima. Deviation: among
        the members there are, nothing between them.
    """
    front = _undominated(timed, target)
    first, last = front[0], front[-1]
    span_s = last.times[target].median_s - first.times[target].median_s
    gain = last.validation_accuracy - first.validation_accuracy

    def above(member: Member) -> float:
        """Distance to the chord times the root of two."""
        if member in (first, last):
            return 0.0
        time = (member.times[target].median_s - first.times[target].median_s) / span_s
        return (member.validation_accuracy - first.validation_accuracy) / gain - time

    best = max(front, key=above)
    if above(best) <= 0.0:
        return Pick(
            member=first,
            rule=KNEE,
            reason="the fastest: no network lies above the line between the ends of the front",
        )
    return Pick(
        member=best,
        rule=KNEE,
        reason="farthest above the line from the fastest to the most accurate",
    )


def _undominated(timed: Sequence[Member], target: str) -> list[Member]:
    """Return the members by time, each more accurate than all before it."""
    kept: list[Member] = []
    in_order = sorted(timed, key=lambda m: (m.times[target].median_s, -m.validation_accuracy))
    for member in in_order:
        if not kept or member.validation_accuracy > kept[-1].validation_accuracy:
            kept.append(member)
    return kept


def _timed(members: Sequence[Member], target: str) -> list[Member]:
    timed = [member for member in members if target in member.times]
    if not timed:
        reasons = sorted({one for member in members for one in member.failures.values()})
        raise WrongInputError(
            f"no network of the front has a time on {target} ({'; '.join(reasons)}): expected "
            "one; choose another --target"
        )
    return timed


def _fastest(members: Sequence[Member], target: str) -> Member:
    return min(members, key=lambda m: (m.times[target].median_s, -m.validation_accuracy))


def _most_accurate(members: Sequence[Member], target: str) -> Member:
    return max(members, key=lambda m: (m.validation_accuracy, -m.times[target].median_s))


def _indices(members: Sequence[Member]) -> str:
    return f"0 to {max(member.index for member in members)}"
