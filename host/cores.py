"""Lists of cores as the kernel and targets write them."""

from __future__ import annotations

_MOST = 4096


def cores_of(text: str) -> frozenset[int]:
    """Return the cores of a list such as "0,4-7"; what is no list has none."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), min(int(last or first), int(first) + _MOST) + 1))
    return frozenset(found)
