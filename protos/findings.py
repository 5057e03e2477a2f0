"""What a doctor finds, on a board or from afar: one record a check, printed alike everywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Severity(str, Enum):
    """How bad a finding is: a warning may bend a number, a problem will, or stops something."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


_WORST_LAST = (Severity.GOOD, Severity.WARNING, Severity.PROBLEM)
_MARKS = {Severity.GOOD: "ok  ", Severity.WARNING: "warn", Severity.PROBLEM: "FAIL"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found, what it was seen by, and what helps; no remedy where all is well."""

    name: str
    severity: Severity
    finding: str
    evidence: str = ""
    remedy: str = ""


def good(name: str, finding: str, evidence: str = "") -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(name=name, severity=Severity.GOOD, finding=finding, evidence=evidence)


def warning(name: str, finding: str, evidence: str, remedy: str) -> Finding:
    """Return a finding of something that may bend a number."""
    return Finding(
        name=name, severity=Severity.WARNING, finding=finding, evidence=evidence, remedy=remedy
    )


def problem(name: str, finding: str, evidence: str, remedy: str) -> Finding:
    """Return a finding of something that makes numbers wrong or stops something."""
    return Finding(
        name=name, severity=Severity.PROBLEM, finding=finding, evidence=evidence, remedy=remedy
    )


def unknown(name: str, what: str, remedy: str) -> Finding:
    """Return the finding that something could not be read."""
    return warning(name, "could not be read", what, remedy)


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the severity of the worst finding."""
    return max((f.severity for f in findings), key=_WORST_LAST.index, default=Severity.GOOD)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is a problem; warnings are no failure: 0."""
    return int(worst(findings) is Severity.PROBLEM)


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """Return one line a finding and one, indented, a remedy; the last one sums up."""
    width = max((len(f.name) for f in findings), default=0)
    lines = []
    for found in findings:
        evidence = f" ({found.evidence})" if found.evidence else ""
        lines.append(f"{_MARKS[found.severity]} {found.name:<{width}}  {found.finding}{evidence}")
        if found.remedy:
            lines.append(f"     {'':<{width}}  -> {found.remedy}")
    counts = {s: sum(f.severity is s for f in findings) for s in _WORST_LAST}
    lines.append(
        f"problems: {counts[Severity.PROBLEM]}, warnings: {counts[Severity.WARNING]}, "
        f"ok: {counts[Severity.GOOD]}"
    )
    return lines


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    return {
        "findings": [{**asdict(f), "severity": f.severity.value} for f in findings],
        "worst": worst(findings).value,
    }
