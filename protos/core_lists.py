"""Lists of cores as the kernel writes them, in its files and in what travels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


def parse_cpus(text: str) -> tuple[int, ...] | None:
    """Return the cores of a kernel list ("0-3,6" or "0 1 2"), sorted; None if it is not one."""
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        matched = _PART.fullmatch(part)
        if matched is None:
            return None
        first = int(matched[1])
        last = first if matched[2] is None else int(matched[2])
        if last < first:
            return None
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpus(cpus: Iterable[int]) -> str:
    """Return the list as the kernel writes it, sorted, e.g. "0-3,6"."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
