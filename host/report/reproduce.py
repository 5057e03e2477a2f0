"""What to type to have a run again, and with what it ran."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.report.anew import line, recalled, search_anew
from boardfront.host.view.run_view import RunState
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from boardfront.host.experiment import SpaceChoice, TargetSettings
    from boardfront.host.journal_records import ReferenceTimed
    from boardfront.host.report.findings import Findings, Member

_STOPPED = frozenset({RunState.INTERRUPTED, RunState.FAILED, RunState.CANCELLED})
"""Runs that nobody writes, and that have something left to do."""


def commands(found: Findings) -> list[tuple[str, str]]:
    """Return what to type to have it all again: what for, and the line."""
    view = found.view
    folder = str(view.folder)
    rows = [("search anew", search_anew(view))]
    if view.state is RunState.PAUSED:
        rows.append(("go on with this run", line("touch", f"{folder}/control/resume")))
    elif view.state in _STOPPED:
        rows.append(("go on with this run", line("boardfront", "search", "--resume", folder)))
    rows.append(("this page", line("boardfront", "report", folder, "-o", "report.html")))
    if any(member.model for member in found.members):
        pick = "knee" if any("knee" in m.marks for m in found.members) else "fastest"
        export = ("boardfront", "export", folder, "--pick", pick, "-o", "shipped")
        rows.append(("take a network", line(*export)))
    return rows


def measuring(found: Findings) -> list[str]:
    """Return the lines that measure the front's networks again, target by target.

    The models hold the first target's batch for good: on a target of another one the space
    writes the same network anew.
    """
    experiment = recalled(found.view)
    targets = found.view.targets
    lines = []
    for member in (one for one in found.members if one.model):
        for target in targets:
            if target.batch == targets[0].batch:
                lines.append(_measure(target, [f"{found.view.folder}/{member.model}"]))
            elif experiment is not None:
                lines.append(_measure(target, _network(experiment.space, member)))
    return lines


def facts(found: Findings) -> list[tuple[str, str]]:
    """Return when and with what the run ran."""
    view = found.view
    rows = [("run", view.name), ("state", view.state.value), ("seed", str(view.seed))]
    if view.started_unix_s is not None:
        rows.append(("started (UTC)", _moment(view.started_unix_s)))
    if view.ended_unix_s is not None:
        rows.append(("ended (UTC)", _moment(view.ended_unix_s)))
        if view.started_unix_s is not None:
            took_s = view.ended_unix_s - view.started_unix_s
            rows.append(("took, pauses included", text.format_duration(took_s)))
    targets = {target.name: target for target in view.targets}
    rows += [
        (f"reference on {name}", _reference(timed, targets[name]))
        for name, timed in view.references.items()
        if name in targets
    ]
    if view.remeasured:
        rows.append(("times replaced later", str(len(view.remeasured))))
    rows += [("interrupted", reason) for reason in view.interruptions]
    rows += [(f"version of {name}", version) for name, version in sorted(view.versions.items())]
    return rows


def _reference(timed: ReferenceTimed, target: TargetSettings) -> str:
    """Say what a network that was timed alone, before anything else, was good for."""
    latency = timed.latency
    said = (
        f"{timed.encoding}, alone {text.format_latency(latency)} "
        f"({text.format_interval(latency.low_s, latency.high_s)}); "
    )
    searched = ""
    if target.table is not None:
        searched = f"; the search's are predicted from {target.table.name}"
    if target.reference == "none":
        return f"{said}no time on {target.name} is divided by it{searched}"
    which = "times" if target.table is None else "re-measured times"
    return f"{said}{which} on {target.name} are ratios to it times this{searched}"


def _network(space: SpaceChoice, member: Member) -> list[str]:
    parts = ["--space", space.name, "--encoding", member.candidate.encoding]
    for name, value in space.settings.items():
        parts += ["--set", f"{name}={_toml(value)}"]
    return parts


def _toml(value: object) -> str:
    """Write a setting as it stands in an experiment file."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(name))} = {_toml(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    # JSON writes these as TOML does; of what else there is TOML takes Python's words.
    is_json = isinstance(value, bool | str)
    return json.dumps(value, ensure_ascii=False) if is_json else str(value)


def _measure(target: TargetSettings, network: list[str]) -> str:
    device = target.device if isinstance(target.device, str) else target.device[0]
    parts = ["boardfront", "measure", *network]
    if device != "local":
        parts += ["--device", device]
    parts += ["--backend", target.backend]
    for name, value in target.options.items():
        parts += ["--option", f"{name}={value}"]
    if target.cpus:
        parts += ["--cpus", target.cpus]
    if target.task is not TaskKind.INFERENCE:
        parts += ["--task", target.task.value]
    if target.batch != 1:
        parts += ["--batch", str(target.batch)]
    return line(*parts, "--fresh")


def _moment(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
