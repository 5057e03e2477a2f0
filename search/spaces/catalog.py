"""The known search spaces by name.

Others add theirs with an entry point of the group `boardfront.spaces`, name -> "module:Class".
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.search.space import Space

ENTRY_POINT_GROUP = "boardfront.spaces"

SPACES: dict[str, str] = {
    "etnas": "boardfront.search.spaces.etnas:EtnasSpace",
    "spos": "boardfront.search.spaces.spos:SposSpace",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceInfo:
    """What a person or a program may want to know of a space before making one.

    Args:
        name: Name in the catalogue.
        summary: One sentence.
        parameters: (name, default as text, meaning) of each setting.
        networks: Whether it is a `NetworkSpace`: members can be built and measured.
        supernet: Whether it is a `SupernetSpace`: members can share trained weights.
    """

    name: str
    summary: str
    parameters: tuple[tuple[str, str, str], ...]
    networks: bool
    supernet: bool


class SpaceClass(Protocol):
    """What the catalogue asks of a space's class.

    Guarantees: both methods are pure, and `from_settings({})` gives the space of the defaults.
    """

    def info(self) -> SpaceInfo:
        """Describe the space; a class method."""

    def from_settings(self, settings: Mapping[str, object]) -> Space:
        """Make the space from settings as a configuration file gives them; a class method.

        Raises:
            WrongInputError: A setting is unknown (the message names the allowed ones) or wrong.
        """


def names() -> tuple[str, ...]:
    """List the known names in alphabetical order."""
    return tuple(sorted(_paths()))


def info(name: str) -> SpaceInfo:
    """Describe the space `name`.

    Raises:
        WrongInputError: `name` is unknown.
    """
    return _resolve(name).info()


def load(name: str, settings: Mapping[str, object]) -> Space:
    """Make the space `name`.

    Args:
        name: One of `names()`.
        settings: Values of its parameters; what is absent keeps its default.

    Raises:
        WrongInputError: `name` or a setting is unknown, or a value is wrong.
    """
    return _resolve(name).from_settings(settings)


def _paths() -> dict[str, str]:
    paths = dict(SPACES)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in paths:
            raise WrongInputError(
                f"space {entry.name!r} is offered twice, by {paths[entry.name]} and "
                f"{entry.value}: uninstall or rename one"
            )
        paths[entry.name] = entry.value
    return paths


def _resolve(name: str) -> SpaceClass:
    paths = _paths()
    if name not in paths:
        raise WrongInputError(f"unknown space {name!r}: known are {', '.join(sorted(paths))}")
    module, _, attribute = paths[name].partition(":")
    return cast("SpaceClass", getattr(import_module(module), attribute))
