"""The known search algorithms by name.

Others add theirs with an entry point of the group `boardfront.algorithms`, name ->
"module:Class"; the class is called as `base.AlgorithmFactory` says.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.search.algorithms.base import AlgorithmFactory

ENTRY_POINT_GROUP = "boardfront.algorithms"

ALGORITHMS: dict[str, str] = {
    "nsga2": "boardfront.search.algorithms.nsga2:Nsga2",
}


def names() -> tuple[str, ...]:
    """List the known names in alphabetical order."""
    return tuple(sorted(_paths()))


def load(name: str) -> AlgorithmFactory:
    """Return what makes the algorithm `name`; its module is imported only now.

    Raises:
        WrongInputError: `name` is unknown.
    """
    paths = _paths()
    if name not in paths:
        known = ", ".join(sorted(paths))
        raise WrongInputError(f"expected an algorithm of {known}, got {name!r}: choose one")
    module, _, attribute = paths[name].partition(":")
    return cast("AlgorithmFactory", getattr(import_module(module), attribute))


def _paths() -> dict[str, str]:
    paths = dict(ALGORITHMS)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in paths:
            raise WrongInputError(
                f"expected each algorithm once, got {entry.name!r} from {paths[entry.name]} and "
                f"{entry.value}: uninstall or rename one",
            )
        paths[entry.name] = entry.value
    return paths
