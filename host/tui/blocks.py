"""An encoding drawn as the blocks that the network runs, one below the other."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.config import recall_experiment
from boardfront.search.space import DecomposableSpace
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from boardfront.host.view.run_view import RunView

_WIDEST = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRow:
    """A block as a line.

    Args:
        kind: Its own encoding, "stem" or "head".
        shape: Channels and resolution as a person reads them; empty where nobody knows.
        bar: As wide as the channels that come out, by their logarithm.
        is_smaller: Whether the images get smaller here.
    """

    kind: str
    shape: str = ""
    bar: str = "███"
    is_smaller: bool = False


def block_rows(view: RunView, encoding: str) -> list[BlockRow]:
    """Return the blocks of a member of the run's space.

    Where the space does not tell (it is another's, not installed here, or fails), the encoding's
    own parts stand for them.
    """
    try:
        return _drawn(view, encoding)
    except Exception:  # noqa: BLE001 - a space may be anybody's: what it raises ends no screen
        return _parts(encoding)


def _drawn(view: RunView, encoding: str) -> list[BlockRow]:
    chosen = recall_experiment(view.experiment_text, file="experiment.toml").space
    space = spaces.load(chosen.name, chosen.settings)
    if not isinstance(space, DecomposableSpace):
        return _parts(encoding)
    blocks = space.decompose(encoding).blocks
    widest = max(math.log2(1 + block.out_channels) for block in blocks)
    rows = []
    for block in blocks:
        cells = round(math.log2(1 + block.out_channels) / widest * _WIDEST)
        pixels = f"{block.resolution}x{block.resolution}"
        channels = f"{block.in_channels:>4} -> {block.out_channels:<4}"
        stride = f"stride {block.stride}" if block.stride > 1 else ""
        rows.append(
            BlockRow(
                kind=block.kind,
                shape=f"{channels} {pixels:>9}  {stride:<8}",
                bar="█" * max(1, cells),
                is_smaller=block.stride > 1,
            )
        )
    return rows


def _parts(encoding: str) -> list[BlockRow]:
    return [BlockRow(kind=part) for part in re.split(r"[-_/,; ]+", encoding) if part]
