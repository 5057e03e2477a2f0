"""What to type to have a run again, and with what it ran."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from boardfront.host.experiment import TargetSettings
    from boardfront.host.report.findings import Findings, Member


def commands(found: Findings) -> list[tuple[str, str]]:
    """Return what to type to have it all again: what for, and the line."""
    view = found.view
    folder = str(view.folder)
    rows = [("search anew", _line("boardfront", "search", f"{folder}/experiment.toml"))]
    if view.ended_unix_s is None or view.state.value in {"interrupted", "paused"}:
        rows.append(("go on with this run", _line("boardfront", "search", "--resume", folder)))
    rows.append(("this page", _line("boardfront", "report", folder, "-o", "report.html")))
    if any(member.model for member in found.members):
        pick = "knee" if any("knee" in m.marks for m in found.members) else "fastest"
        export = ("boardfront", "export", folder, "--pick", pick, "-o", "shipped")
        rows.append(("take a network", _line(*export)))
    return rows


def measuring(found: Findings) -> list[str]:
    """Return the lines that measure the front's models again, target by target."""
    return [
        _measure(found, member, target)
        for member in found.members
        if member.model
        for target in found.view.targets
    ]


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
    rows += [
        (
            f"reference on {target}",
            f"{timed.encoding}, alone {text.format_latency(timed.latency)} "
            f"({text.format_interval(timed.latency.low_s, timed.latency.high_s)}); times on "
            f"{target} are ratios to it times this",
        )
        for target, timed in view.references.items()
    ]
    if view.remeasured:
        rows.append(("times replaced later", str(len(view.remeasured))))
    rows += [("interrupted", reason) for reason in view.interruptions]
    rows += [(f"version of {name}", version) for name, version in sorted(view.versions.items())]
    return rows


def _measure(found: Findings, member: Member, target: TargetSettings) -> str:
    device = target.device if isinstance(target.device, str) else target.device[0]
    parts = ["boardfront", "measure", f"{found.view.folder}/{member.model}"]
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
    return _line(*parts, "--fresh")


def _line(*parts: str) -> str:
    return " ".join(shlex.quote(part) for part in parts)


def _moment(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
