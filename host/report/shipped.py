"""What a run's files and its space know beyond its journal. Anything of it may be missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from boardfront.host.run_folder import RunFolder
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.search.space import Counts


_Counts: TypeAlias = Callable[[str], "Counts | None"]
_Blocks: TypeAlias = Callable[[str], "tuple[BlockKey, ...]"]


def _no_counts(encoding: str) -> Counts | None:
    del encoding
    return None


def _no_blocks(encoding: str) -> tuple[BlockKey, ...]:
    del encoding
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """What is known of architectures by encoding.

    Args:
        test_accuracies: Fractions; of a finished run's front.
        models: ONNX files relative to the run's folder.
        agreement: By target: pairs of the front whose order of times is the "same", changed
            "within" the intervals, or is "broken".
        accuracy_of: Which weights the accuracies are those of; empty where nobody wrote it.
        counts: Size of an architecture, or None.
        blocks: Of an architecture, or none.
    """

    test_accuracies: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    agreement: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    accuracy_of: str = ""
    counts: Callable[[str], Counts | None] = _no_counts
    blocks: Callable[[str], tuple[BlockKey, ...]] = _no_blocks


def read_shipped(folder: RunFolder) -> tuple[Shipped, tuple[str, ...]]:
    """Read what is there; return it with a sentence for each thing that cannot be read."""
    notes = []
    front: dict[str, Any] = {}
    try:
        front = json.loads(folder.front_json.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as problem:
        notes.append(f"front.json cannot be read ({problem}): test accuracies are missing")
    counts: _Counts = _no_counts
    blocks: _Blocks = _no_blocks
    try:
        counts, blocks = _of_space(folder)
    except (BoardfrontError, OSError) as error:
        notes.append(f"the space is not at hand ({error}): sizes and blocks are missing")
    members = front.get("members", [])
    return (
        Shipped(
            test_accuracies={one["encoding"]: one["test_accuracy"] for one in members},
            models={one["encoding"]: one["model"] for one in members if one.get("model")},
            agreement=front.get("agreement", {}),
            accuracy_of=front.get("accuracy_of", ""),
            counts=counts,
            blocks=blocks,
        ),
        tuple(notes),
    )


def _of_space(folder: RunFolder) -> tuple[_Counts, _Blocks]:
    from boardfront.host.config import recall_experiment
    from boardfront.search.space import DecomposableSpace, NetworkSpace
    from boardfront.search.spaces import catalog

    written = folder.experiment.read_text(encoding="utf-8")
    choice = recall_experiment(written, file=str(folder.experiment)).space
    space = catalog.load(choice.name, choice.settings)
    counts: _Counts = space.count if isinstance(space, NetworkSpace) else _no_counts
    if not isinstance(space, DecomposableSpace):
        return counts, _no_blocks
    decompose = space.decompose
    return counts, lambda encoding: decompose(encoding).blocks
