"""Several runs beside each other: what they found, and what they differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.export.pick import BEST, FASTEST
from boardfront.host.report import rows, words
from boardfront.host.report.anew import recalled
from boardfront.host.report.hypervolumes import growths
from boardfront.host.report.page import Document, drawn, head
from boardfront.host.report.plots import COMPARED, NothingToDrawError, comparison_plots
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import TaskKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from boardfront.host.report.findings import Findings, Member
    from boardfront.host.report.hypervolumes import Growth
    from boardfront.host.report.plots import Plot

_SECTIONS = (
    ("found", "What was found"),
    ("plots", "Fronts and hypervolumes"),
    ("differences", "What differs"),
    ("fronts", "Front of each run"),
)


def comparison(runs: Sequence[Findings], draw: Callable[[Plot], Mapping[str, str]]) -> Document:
    """Put several runs into words, beside each other.

    Args:
        runs: At least two.
        draw: What becomes of each plot: its `svg`, the `file` that it is in, or nothing.
    """
    targets = common_targets(runs)
    name = " against ".join(run.view.name for run in runs)
    plots = [plot for target in targets for plot in comparison_plots(runs, target).values()]
    return Document(
        template="compare",
        content={
            **head(name, _headline(runs), _SECTIONS),
            "state": "",
            "about": f"{len(runs)} runs; targets that all of them time: "
            f"{', '.join(targets) or 'none'}.",
            "rows": side_by_side(runs),
            "plots": drawn(plots, draw),
            "names": [run.view.name for run in runs],
            "differences": differences(runs),
            "fronts": [
                {
                    "name": run.view.name,
                    "rows": rows.front_rows(run),
                    "columns": rows.front_columns(run),
                    "order": words.front_order(run),
                }
                for run in runs
            ],
            "notes": [note for run in runs for note in run.notes],
        },
    )


def comparison_plot(runs: Sequence[Findings], kind: str, target: str = "") -> Plot:
    """Return one plot that lays runs over each other.

    Args:
        runs: At least two.
        kind: One of `plots.COMPARED`.
        target: Whose times; empty takes the first that all runs time.

    Raises:
        WrongInputError: There is no such kind, or the runs do not all have the target.
        NothingToDrawError: None of the runs has anything of it.
    """
    if kind not in COMPARED:
        raise WrongInputError(
            f"{len(runs)} runs for the plot {kind!r}: expected one run; several are laid over "
            f"each other for {' and '.join(COMPARED)}"
        )
    targets = common_targets(runs)
    if not targets or (target and target not in targets):
        wanted = f"target {target!r}" if target else "a target"
        raise WrongInputError(
            f"expected {wanted} that all {len(runs)} runs time, got in common: "
            f"{', '.join(targets) or 'none'}; draw each alone"
        )
    made = comparison_plots(runs, target or targets[0])
    if kind not in made:
        raise NothingToDrawError(
            f"none of the {len(runs)} runs has anything for the plot {kind!r}: look again later"
        )
    return made[kind]


def common_targets(runs: Sequence[Findings]) -> tuple[str, ...]:
    """Return the names of targets that all runs have, in the first one's order."""
    return tuple(
        target for target in runs[0].targets if all(target in run.targets for run in runs[1:])
    )


def side_by_side(runs: Sequence[Findings]) -> list[tuple[str, list[str]]]:
    """Return what the runs found: a name, then one cell a run."""
    table = [
        ("state", [run.view.state.value for run in runs]),
        ("evaluated", [f"{len(run.view.candidates)} of {run.view.evaluations}" for run in runs]),
        ("on the front", [str(len(run.members)) for run in runs]),
    ]
    for target in common_targets(runs):
        table += [
            (f"fastest on {target}", [_end(run, target, FASTEST) for run in runs]),
            (f"most accurate on {target}", [_end(run, target, BEST) for run in runs]),
        ]
        grown = {one.name: one for one in growths([run.view for run in runs], target)}
        if grown:
            each = [grown.get(run.view.name) for run in runs]
            table += [
                (
                    f"hypervolume on {target}",
                    [f"{one.last:.4g}" if one else rows.MISSING for one in each],
                ),
                (
                    "95 % of it after",
                    [_most_after(one) for one in each],
                ),
            ]
    return table


def differences(runs: Sequence[Findings]) -> list[tuple[str, list[str]]]:
    """Return the settings and versions that are not the same in all runs, a value a run."""
    settings = [_settings(run) for run in runs]
    names = sorted({name for one in settings for name in one})
    found = []
    for name in names:
        values = [one.get(name, "absent") for one in settings]
        if len(set(values)) > 1:
            found.append((name, values))
    return found


def to_json(runs: Sequence[Findings]) -> dict[str, Any]:
    """Return the comparison's values: seconds and fractions throughout."""
    grown = {t: growths([run.view for run in runs], t) for t in common_targets(runs)}
    return {
        "format": 1,
        "runs": [rows.to_json(run) for run in runs],
        "hypervolumes": {
            target: {
                "reference": {"accuracy": -each[0].reference[0], "time_s": each[0].reference[1]},
                "last": {one.name: one.last for one in each},
            }
            for target, each in grown.items()
            if each
        },
        "differences": {
            name: dict(zip([run.view.name for run in runs], values, strict=True))
            for name, values in differences(runs)
        },
    }


def _headline(runs: Sequence[Findings]) -> list[str]:
    lines = []
    for target in common_targets(runs):
        lines += _unlike(runs, target)
        grown = growths([run.view for run in runs], target)
        if len(grown) > 1:
            lines.append(f"On {target}: {words.hypervolume_words(grown)}")
        lines += _fastest(runs, target)
    lines += _elsewhere(runs) if common_targets(runs) else []
    changed = differences(runs)
    what = ", ".join(name for name, _ in changed[:6]) + (", ..." if len(changed) > 6 else "")
    one = len(changed) == 1
    lines.append(
        f"{len(changed)} setting{'' if one else 's'} or version{'' if one else 's'} "
        f"differ{'s' if one else ''}: {what}."
        if changed
        else "All settings and versions are the same."
    )
    for run in runs:
        lines += [f"{run.view.name}: {words.origin_warning(run)}"] * bool(
            words.origin_warning(run)
        )
    return lines


def _unlike(runs: Sequence[Findings], target: str) -> list[str]:
    """Say that a name stands for different things, where it does."""
    told = {run.view.name: _what(run, target) for run in runs}
    if len(set(told.values())) == 1:
        return []
    each = "; ".join(f"{what} in {name}" for name, what in told.items())
    return [
        f"{target} is not the same in all runs: {each}. What differs in time may be that, not the "
        "networks."
    ]


def _what(run: Findings, target: str) -> str:
    """Return what a target is: everything but the rules by which times are taken."""
    one = next(one for one in run.view.targets if one.name == target)
    parts = [words.device(one.device), one.backend]
    parts += [f"{name}={value}" for name, value in sorted(one.options.items())]
    parts += [] if one.task is TaskKind.INFERENCE else [one.task.value]
    parts += [] if one.batch == 1 else [f"batch {one.batch}"]
    parts += [f"cores {one.cpus}"] if one.cpus else []
    return ", ".join(parts)


def _elsewhere(runs: Sequence[Findings]) -> list[str]:
    """Say that runs were measured on different devices, whatever their experiments call them."""
    seen = {run.view.name: sorted({one.device for one in run.surroundings}) for run in runs}
    if not all(seen.values()) or len({tuple(devices) for devices in seen.values()}) == 1:
        return []
    each = "; ".join(f"{name} on {', '.join(devices)}" for name, devices in seen.items())
    return [f"Not all runs were measured on the same devices: {each}."]


def _most_after(grown: Growth | None) -> str:
    most = grown.evaluations_to(0.95) if grown else None
    return rows.MISSING if most is None else f"{most} evaluations"


def _fastest(runs: Sequence[Findings], target: str) -> list[str]:
    """Say whose fastest network is faster, as far as the intervals tell."""
    ends = [
        (run, latency)
        for run in runs
        if (member := _member_at(run, target, FASTEST))
        and (latency := member.times[target].latency)
    ]
    if len(ends) < 2:
        return []
    (first, a), (second, b) = sorted(ends, key=lambda pair: pair[1].median_s)[:2]
    if a.high_s < b.low_s:
        said = f"{first.view.name} has the fastest network on {target}: "
    else:
        said = f"Which run has the fastest network on {target} cannot be told: "
    doubtful = [
        run.view.name for run, one in ((first, a), (second, b)) if one.verdict is not Verdict.OK
    ]
    trust = f"; do not trust the time of {' and '.join(doubtful)}" if doubtful else ""
    return [
        said + f"{text.format_latency(a)} ({text.format_interval(a.low_s, a.high_s)}) against "
        f"{text.format_latency(b)} ({text.format_interval(b.low_s, b.high_s)}){trust}."
    ]


def _end(run: Findings, target: str, end: str) -> str:
    member = _member_at(run, target, end)
    latency = member.times[target].latency if member else None
    if member is None or latency is None:
        return rows.MISSING
    accuracy = member.candidate.accuracy
    return (
        f"{member.candidate.encoding}: {text.format_time(latency.median_s)} "
        f"({text.format_interval(latency.low_s, latency.high_s)}) at "
        f"{'no accuracy' if accuracy is None else f'{accuracy:.2%}'} of validation images, "
        f"{words.trust(member.times[target])}"
    )


def _member_at(run: Findings, target: str, end: str) -> Member | None:
    """Return the fastest or the most accurate member on a target; None where none is timed."""
    timed = {
        member.index: latency.median_s
        for member in run.members
        if (latency := member.times[target].latency)
    }
    members = [member for member in run.members if member.index in timed]
    if not members:
        return None
    if end == FASTEST:
        return min(members, key=lambda member: timed[member.index])
    return max(members, key=lambda member: member.candidate.accuracy or 0.0)


def _settings(run: Findings) -> dict[str, str]:
    from boardfront.host.experiment import settings_of

    found = {f"version of {name}": value for name, value in run.view.versions.items()}
    experiment = recalled(run.view)
    return found if experiment is None else {**found, **settings_of(experiment)}
