"""What a run's files and its space know beyond its journal. Anything of it may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - the record's fields
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.host.run_folder import RunFolder
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.search.space import Counts, Space

_Told = TypeVar("_Told")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """What is known of architectures by encoding.

    Args:
        indices: Numbers of a finished run's front, as `boardfront export --pick` takes them.
        test_accuracies: Fractions; of that front.
        models: ONNX files relative to the run's folder.
        agreement: By target: pairs of the front whose order of times is the "same", changed
            "within" the intervals, or is "broken".
        accuracy_of: Which weights the accuracies are those of; empty where nobody wrote it.
        counts: Sizes, where the space can tell.
        blocks: One after the other, where the space can tell.
    """

    indices: Mapping[str, int] = field(default_factory=dict)
    test_accuracies: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    agreement: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    accuracy_of: str = ""
    counts: Mapping[str, Counts] = field(default_factory=dict)
    blocks: Mapping[str, tuple[BlockKey, ...]] = field(default_factory=dict)


def read_shipped(folder: RunFolder, encodings: Sequence[str]) -> tuple[Shipped, tuple[str, ...]]:
    """Read what is there; return it with a sentence for each thing that cannot be read.

    Args:
        folder: The run's.
        encodings: Architectures whose size and blocks are wanted.
    """
    notes: list[str] = []
    front: dict[str, Any] = {}
    try:
        front = _read_front(folder)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        notes.append(f"front.json cannot be read ({problem}): test accuracies are missing")
    counts, blocks = _of_space(folder, encodings, notes)
    return Shipped(**front, counts=counts, blocks=blocks), tuple(notes)


def _read_front(folder: RunFolder) -> dict[str, Any]:
    """Return what a front file has, by the fields of `Shipped`."""
    front = json.loads(folder.front_json.read_text(encoding="utf-8"))
    members = front.get("members", [])
    return {
        "indices": {one["encoding"]: int(one["index"]) for one in members},
        "test_accuracies": {one["encoding"]: one["test_accuracy"] for one in members},
        "models": {one["encoding"]: one["model"] for one in members if one.get("model")},
        "agreement": front.get("agreement", {}),
        "accuracy_of": front.get("accuracy_of", ""),
    }


def _of_space(
    folder: RunFolder, encodings: Sequence[str], notes: list[str]
) -> tuple[dict[str, Counts], dict[str, tuple[BlockKey, ...]]]:
    from boardfront.search.space import DecomposableSpace, NetworkSpace

    lost = "the space is not at hand ({}): sizes and blocks are missing"
    space: object = _asked(lambda: _load_space(folder), lost, notes)
    counts: dict[str, Counts] | None = None
    blocks: dict[str, tuple[BlockKey, ...]] | None = None
    if isinstance(space, NetworkSpace):
        count = space.count
        lost = "the space cannot tell sizes ({}): they are missing"
        counts = _asked(lambda: {one: count(one) for one in encodings}, lost, notes)
    if isinstance(space, DecomposableSpace):
        decompose = space.decompose
        lost = "the space cannot tell blocks ({}): they are missing"
        blocks = _asked(lambda: {one: decompose(one).blocks for one in encodings}, lost, notes)
    return counts or {}, blocks or {}


def _load_space(folder: RunFolder) -> Space:
    from boardfront.host.config import recall_experiment
    from boardfront.search.spaces import catalog

    written = folder.experiment.read_text(encoding="utf-8")
    choice = recall_experiment(written, file=str(folder.experiment)).space
    return catalog.load(choice.name, choice.settings)


def _asked(ask: Callable[[], _Told], lost: str, notes: list[str]) -> _Told | None:
    """Return what a space answers; None, with a note that says why, where it fails."""
    try:
        return ask()
    except (BoardfrontError, OSError) as problem:
        reason = str(problem)
    # A space may be anybody's code: importing it or asking it may raise anything, and the rest
    # of the report is worth having.
    except Exception as problem:  # noqa: BLE001
        reason = f"{type(problem).__name__}: {problem}"
    notes.append(lost.format(" ".join(reason.split())))
    return None
