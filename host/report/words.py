"""What a run found, in sentences: the first lines of a report, and what each plot says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.report.findings import order_objective
from boardfront.host.view.run_view import RunState
from boardfront.protos.records import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.report.findings import Findings, Member, MemberTime
    from boardfront.host.report.hypervolumes import Growth
    from boardfront.latency_models.accuracy import Accuracy

DO_NOT_TRUST = "do not trust"

_STATES = {
    RunState.RUNNING: ("The run goes on", "All of this is so far."),
    RunState.PAUSED: ("The run is paused", "All of this is so far."),
    RunState.INTERRUPTED: ("The run was interrupted", "It can be gone on with; all is so far."),
    RunState.CANCELLED: ("The run was cancelled", "What follows is what it had found."),
    RunState.FAILED: ("The run failed", "What follows is what it had found."),
}


def headline(found: Findings) -> list[str]:
    """Return what was found, in a few sentences, the most important first."""
    view = found.view
    lines = []
    if view.state in _STATES:
        said, then = _STATES[view.state]
        reason = f": {view.reason}" if view.reason else ""
        lines.append(f"{said}{reason}. {then}")
    lines.append(_progress(found))
    if found.members and found.targets:
        lines += [line for line in [_range(found, found.targets[0])] if line]
    lines += [line for target in found.targets if (line := _trust(found, target))]
    lines += [
        f"Member {member.index} breaks the limit of {text.format_time(time.limit_s)} on {target}."
        for member in found.members
        for target, time in member.times.items()
        if time.over_limit and time.limit_s is not None
    ]
    lines += [
        f"Member {member.index} could not be re-measured on {target}: {time.failure}"
        for member in found.members
        for target, time in member.times.items()
        if time.failure
    ]
    return lines


def origin_warning(found: Findings) -> str:
    """Return that times are not measured, where that is so; empty where they are."""
    others = sorted({one.origin for one in found.surroundings} - {Origin.MEASURED.value})
    if not others:
        return ""
    return f"Some times here are {' or '.join(others)}, not measured: do not act on them."


def trust(time: MemberTime) -> str:
    """Return whether a time can be acted upon, and why not."""
    if time.failure:
        return f"{DO_NOT_TRUST}: failed"
    if time.latency is None:
        return "no time"
    said = "ok" if time.is_trusted else f"{DO_NOT_TRUST}: {time.latency.word}"
    return said if time.measured else f"{said}, not yet re-measured"


def limit(time: MemberTime) -> str:
    """Return whether the hard limit is kept, with its interval; empty where there is none."""
    latency = time.latency
    if time.limit_s is None or latency is None:
        return ""
    if time.over_limit or latency.median_s > time.limit_s:
        return "broken"
    return "kept" if latency.high_s <= time.limit_s else "kept by the median only"


def front_order(found: Findings) -> str:
    """Return what a front is in order of, to be put behind its name; empty where that is open."""
    objective = order_objective(found.view.objectives)
    if objective is None or objective.target is None:
        return ""
    where = f" on {objective.target}" if len(found.targets) > 1 else ""
    return f", fastest first in the search{where}"


def device(name: str | tuple[str, ...]) -> str:
    """Return where a target's networks are timed."""
    return name if isinstance(name, str) else " + ".join(name)


def front_words(found: Findings, target: str) -> str:
    """Return what the plot of a front says."""
    timed = [one for one in found.view.candidates if target in one.latencies]
    if not timed:
        return f"Nothing was timed on {target} yet."
    members = _timed(found, target)
    if not members:
        return f"{len(timed)} candidates timed on {target}; none is on a front yet."
    doubtful = sum(not member.times[target].is_trusted for member in members)
    said = (
        f"{len(timed)} candidates and a front of {len(members)} on {target}, from "
        f"{_at(_fastest(members, target), target)} to {_at(_best(members), target)}."
    )
    if doubtful:
        said += f" {doubtful} of the front's times cannot be trusted."
    return said


def hypervolume_words(growths: Sequence[Growth]) -> str:
    """Return what the plot of hypervolumes says."""
    if not growths:
        return "No hypervolume: it needs accuracies and times of a first generation."
    said = []
    for growth in growths:
        most = growth.evaluations_to(0.95)
        done = growth.steps[-1][0]
        lead = f"{growth.name}: " if len(growths) > 1 else ""
        if most is None:
            said.append(f"{lead}nothing better than the reference point in {done} evaluations.")
            continue
        after = next(at for at, volume in growth.steps if volume >= growth.last)
        said.append(
            f"{lead}{growth.last:.4g} accuracy-seconds after {done} evaluations; 95 % of it was "
            f"there after {most}, the last gain came at {after}."
        )
    if len(growths) > 1:
        best = max(growths, key=lambda growth: growth.last)
        said.append(f"{best.name} has the largest.")
    return " ".join(said)


def residual_words(found: Accuracy, target: str) -> str:
    """Return what predicted against measured times say."""
    floor = "nothing was repeated, so the noise floor is unknown"
    if found.noise_floor is not None:
        floor = f"repeats of the truth differ by {found.noise_floor.mape:.1%}"
    within = found.within_5
    said = (
        f"On {target} the times that the search went by are off by {found.mape:.1%} in the mean "
        f"(bias {found.bias:+.1%}, worst {found.worst:+.1%}); {within.count} of {within.of} are "
        f"within 5 %; {floor}."
    )
    if found.spearman is not None:
        said += (
            f" Ranks agree by {found.spearman:.2f} (Spearman), where times have a spread of "
            f"{found.spread:.1%}."
        )
    return said


def order_words(agreement: Mapping[str, int], target: str) -> str:
    """Return whether the searched order of times held."""
    pairs = sum(agreement.values())
    return (
        f"Order on {target}: {agreement.get('same', 0)} of {pairs} pairs as searched, "
        f"{agreement.get('within', 0)} changed within their intervals, "
        f"{agreement.get('broken', 0)} beyond them."
    )


def devices_words(found: Findings) -> str:
    """Return what the comparison of targets says."""
    if len(found.targets) < 2:
        return "One target: there is nothing to compare."
    first = found.targets[0]
    said = []
    for target, agreement in found.rank_agreement.items():
        if agreement is None:
            said.append(f"Too few networks were timed on both {first} and {target}.")
            continue
        same = "" if agreement > 0.9 else ": the fast networks of one are not those of the other"
        said.append(
            f"Times on {first} and {target} rank the candidates alike by {agreement:.2f} "
            f"(Spearman){same}."
        )
    fastest = {
        target: _fastest(members, target).index
        for target in found.targets
        if (members := _timed(found, target))
    }
    if len(set(fastest.values())) > 1:
        each = ", ".join(f"member {index} on {target}" for target, index in fastest.items())
        said.append(f"The fastest of the front differs: {each}.")
    return " ".join(said)


def training_words(found: Findings) -> str:
    """Return what the training curves say."""
    epochs = found.view.training
    if not epochs:
        return "No training of a shared estimator stands in the journal."
    last = epochs[-1]
    said = (
        f"{last.epoch} of {last.epochs} epochs in {text.format_duration(last.elapsed_s)}; loss "
        f"{epochs[0].loss:.3f} in the first, {last.loss:.3f} in the last."
    )
    if last.validation_accuracy is not None:
        said += f" A random path was right on {last.validation_accuracy:.1%} of validation images."
    return said


def architectures_words(members: Sequence[Member]) -> str:
    """Return what the drawings of networks say."""
    if not members:
        return "No network is on the front yet."
    lengths = sorted({len(member.blocks) for member in members if member.blocks})
    if not lengths:
        return f"{len(members)} networks of the front by the signs of their encodings."
    blocks = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return (
        f"{len(members)} networks of the front, {blocks} blocks each, input at the left; higher "
        "boxes work on more pixels, the number below is the channels from there on."
    )


def verdict_words(counts: Mapping[str, int]) -> str:
    """Return how many times got which verdict, e.g. `55 ok, 14 drifted`."""
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none"


def _progress(found: Findings) -> str:
    view = found.view
    done = len(view.candidates)
    failed = done - found.scored
    asked = f" of {view.evaluations}" if view.evaluations else ""
    if done:
        return (
            f"{done}{asked} candidates evaluated, {failed} failed, {len(found.members)} on the "
            "front."
        )
    at = f" The run was at: {view.phase.name}." if view.phase.name else ""
    return f"No candidate is evaluated yet.{at}"


def _range(found: Findings, target: str) -> str:
    members = _timed(found, target)
    if not members:
        return f"No member of the front has a time on {target}."
    if len(members) == 1:
        return f"On {target} the only member of the front takes {_at(members[0], target)}."
    named = {"fastest": "the fastest", "knee": "the knee", "best": "the most accurate"}
    ends = [
        f"{called} is member {member.index}, {_at(member, target)}"
        for mark, called in named.items()
        for member in members
        if mark in member.marks
    ]
    return f"On {target} {'; '.join(ends)}." if ends else ""


def _trust(found: Findings, target: str) -> str:
    members = _timed(found, target)
    if not members:
        return ""
    doubtful = [member for member in members if not member.times[target].is_trusted]
    waiting = sum(
        member.times[target].measured is None and not member.times[target].failure
        for member in members
    )
    said = ""
    if doubtful:
        all_ = "None" if len(doubtful) == len(members) else f"{len(doubtful)} of {len(members)}"
        which = "can be" if len(doubtful) == len(members) else "cannot be"
        said = f"{all_} of the front's times on {target} {which} trusted: see their verdicts."
    if waiting:
        said += (" " if said else "") + (
            f"{waiting} of {len(members)} were not yet re-measured on {target}."
        )
    return said


def _timed(found: Findings, target: str) -> list[Member]:
    return [member for member in found.members if member.times[target].latency]


def _median_s(member: Member, target: str) -> float:
    latency = member.times[target].latency
    return latency.median_s if latency else float("inf")


def _fastest(members: Sequence[Member], target: str) -> Member:
    return min(members, key=lambda member: _median_s(member, target))


def _best(members: Sequence[Member]) -> Member:
    return max(members, key=lambda member: member.candidate.accuracy or 0.0)


def _at(member: Member, target: str) -> str:
    """Return a member's time and accuracy, e.g. `783.6 us at 91.64 % of test images`."""
    return f"{text.format_time(_median_s(member, target))} at {_accuracy(member)}"


def _accuracy(member: Member) -> str:
    if member.test_accuracy is not None:
        return f"{member.test_accuracy:.2%} of test images"
    accuracy = member.candidate.accuracy
    return "no accuracy" if accuracy is None else f"{accuracy:.2%} of validation images"
