"""The known data sets by name.

Others add theirs with an entry point of the group `boardfront.datasets`, name ->
"module:function".
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.host.data.dataset import Dataset
    from boardfront.host.data.download import Download

ENTRY_POINT_GROUP = "boardfront.datasets"

DATASETS: dict[str, str] = {
    "digits": "boardfront.host.data.digits:load_digits",
    "fashion-mnist": "boardfront.host.data.fashion_mnist:load_fashion_mnist",
}


class DatasetLoader(Protocol):
    """Loads one data set.

    Guarantees: the same arguments give the same tensors in the same order on every machine; the
    three parts share no image; the statistics come from the training part alone.
    """

    def __call__(
        self, *, resolution: int, seed: int = 0, download: Download | None = None
    ) -> Dataset:
        """Load at `resolution` pixels, split by `seed`, fetched as `download` says."""


def names() -> tuple[str, ...]:
    """List the known names in alphabetical order."""
    return tuple(sorted(_paths()))


def load(
    name: str, *, resolution: int, seed: int = 0, download: Download | None = None
) -> Dataset:
    """Load the data set `name`.

    Args:
        name: One of `names()`.
        resolution: Height and width asked for, pixels.
        seed: Of the split into parts.
        download: How to fetch what is not on this machine.

    Raises:
        WrongInputError: `name` is unknown, or an argument is wrong.
        BoardfrontError: The files are not here and cannot be fetched.
    """
    paths = _paths()
    if name not in paths:
        raise WrongInputError(f"unknown data set {name!r}: known are {', '.join(sorted(paths))}")
    module, _, attribute = paths[name].partition(":")
    loader = cast("DatasetLoader", getattr(import_module(module), attribute))
    return loader(resolution=resolution, seed=seed, download=download)


def _paths() -> dict[str, str]:
    paths = dict(DATASETS)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in paths:
            raise WrongInputError(
                f"data set {entry.name!r} is offered twice, by {paths[entry.name]} and "
                f"{entry.value}: uninstall or rename one"
            )
        paths[entry.name] = entry.value
    return paths
