"""Where blocks can stand in the members of an ET-NAS space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.search.spaces.etnas.encoding import MULTIPLES
from boardfront.search.spaces.etnas.plan import BlockPlace, plan_stem
from boardfront.search.spaces.etnas.settings import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.search.spaces.etnas.settings import EtnasSettings

    # Stages begun and channels reached, from the stem on.
    State = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """What the macros of a space lead through, each list without repetition.

    Args:
        stems: Channels after the stem, ascending.
        blocks: Places of blocks, ordered by stage, channels in and channels out.
        heads: Channels after the last block, ascending.
        last_resolution: Height and width after the last block, pixels.
    """

    stems: tuple[int, ...]
    blocks: tuple[BlockPlace, ...]
    heads: tuple[int, ...]
    last_resolution: int


def find_places(settings: EtnasSettings) -> Places:
    """Find the places that at least one member has a block at."""
    reached = _reached(settings)
    leading = _leading(reached, settings)
    steps = {
        (before, after)
        for blocks in range(settings.max_blocks)
        for before in leading[blocks]
        for after in _next(before, settings)
        if after in leading[blocks + 1]
    }
    resolutions = _resolutions(settings)
    return Places(
        stems=tuple(sorted(channels for _, channels in leading[0])),
        blocks=tuple(dict.fromkeys(_place(*step, resolutions) for step in sorted(steps))),
        heads=tuple(sorted(_ends(leading, settings))),
        last_resolution=resolutions[-1],
    )


def _reached(settings: EtnasSettings) -> list[set[State]]:
    """List for each number of blocks the states that so many blocks can lead to."""
    reached = [{(0, channels) for channels in settings.channels}]
    for _ in range(settings.max_blocks):
        reached.append({after for before in reached[-1] for after in _next(before, settings)})
    return reached


def _leading(reached: list[set[State]], settings: EtnasSettings) -> list[set[State]]:
    """Keep the states from which a member can be finished."""
    leading: list[set[State]] = [set() for _ in reached]
    for blocks in range(settings.max_blocks, -1, -1):
        behind = leading[blocks + 1] if blocks < settings.max_blocks else set()
        leading[blocks] = {
            state
            for state in reached[blocks]
            if _is_end(state, blocks, settings) or not behind.isdisjoint(_next(state, settings))
        }
    return leading


def _next(state: State, settings: EtnasSettings) -> Iterator[State]:
    """Yield where one more block leads to: the same stage or the next."""
    stage, channels = state
    for after in {max(stage, 1), min(stage + 1, STAGES)}:
        for digit in MULTIPLES:
            wider = channels * int(digit)
            if any(last % wider == 0 for last in settings.last_channels):
                yield after, wider


def _is_end(state: State, blocks: int, settings: EtnasSettings) -> bool:
    stage, channels = state
    enough = settings.min_blocks <= blocks <= settings.max_blocks
    return stage == STAGES and enough and channels in settings.last_channels


def _ends(leading: list[set[State]], settings: EtnasSettings) -> set[int]:
    return {
        state[1]
        for blocks, states in enumerate(leading)
        for state in states
        if _is_end(state, blocks, settings)
    }


def _resolutions(settings: EtnasSettings) -> list[int]:
    """List what comes out of the stem and of each stage, pixels; the first does not halve."""
    stem = plan_stem(settings.channels[0], settings).output_resolution(settings.resolution)
    resolutions = [stem, stem]
    for _ in range(1, STAGES):
        resolutions.append(-(-resolutions[-1] // 2))
    return resolutions


def _place(before: State, after: State, resolutions: list[int]) -> BlockPlace:
    begins = after[0] > before[0] > 0
    return BlockPlace(
        inputs=before[1],
        outputs=after[1],
        stride=2 if begins else 1,
        resolution=resolutions[before[0] if begins else after[0]],
    )
