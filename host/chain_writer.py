"""Writes the chains that a latency table is built from as the files that a device measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import onnx
from onnx import TensorProto, helper

from boardfront.latency_models.artifact import artifact_of
from boardfront.latency_models.structure import structure_hash
from boardfront.latency_models.table_chains import ChainFile, thin_channels
from boardfront.latency_models.table_plan import WholeNetwork
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import TaskKind
from boardfront.search.space import DecomposableSpace, NetworkSpace
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table_chains import Chain
    from boardfront.protos.records import Task
    from boardfront.search.space import Space

_OPSET, _IR_VERSION = 18, 10
_TRIES_A_NETWORK = 50
_MOST_PARAMS = 500_000_000
"""Of a network: four bytes each, an ONNX file holds no more. Members with more cannot be searched
either."""
_MOST_BASE_PARAMS = _MOST_PARAMS // 2
"""Of a base: it is measured with copies of blocks in it that have as many at most."""


class TableSpace:
    """A space as a table's build needs it; implements `table_plan.ChainWriter`.

    Args:
        name: In the catalogue.
        settings: As a configuration file gives them.

    Raises:
        WrongInputError: Unknown, wrong, or a space whose networks do not fall into blocks.
    """

    def __init__(self, name: str, settings: Mapping[str, object]) -> None:
        self.name = name
        self.settings = settings
        self.space: Space = catalog.load(name, settings)
        if not isinstance(self.space, DecomposableSpace) or not isinstance(
            self.space, NetworkSpace
        ):
            raise WrongInputError(
                f"space {name}: expected one whose networks are blocks one after the other "
                "(search.space.DecomposableSpace), got one that does not say so: take another"
            )
        self.networks = cast("NetworkSpace", self.space)
        self.blocks: DecomposableSpace = self.space
        self._thin: DecomposableSpace | None = None
        self._task: Task | None = None

    def set_task(self, task: Task) -> None:
        """Say what is timed of the chains."""
        self._task = task

    @property
    def has_call(self) -> bool:
        """Whether a call without any block can be timed: a step of training needs a weight."""
        return self._task is not None and self._task.kind is TaskKind.INFERENCE

    def member(self, encoding: str) -> WholeNetwork:
        """Return a member with its blocks.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        return WholeNetwork(encoding=encoding, chain=self.blocks.decompose(encoding).blocks)

    def sample(self, count: int, rng: np.random.Generator, *, without: str = "") -> list[str]:
        """Return different members drawn at random; fewer where the space has fewer.

        Those with more weights than a file holds are passed over.

        Args:
            count: How many.
            rng: Draws them.
            without: Leave this one out.
        """
        found: dict[str, None] = {}
        for _ in range(_TRIES_A_NETWORK * count):
            if len(found) == count:
                break
            encoding = self.space.sample(rng)
            if encoding != without and self._params(encoding) <= _MOST_PARAMS:
                found[encoding] = None
        return list(found)

    def middle(self, rng: np.random.Generator, *, of: int = 25) -> str:
        """Return the member in the middle of some, by multiply-accumulates: a base."""
        found = self.sample(of, rng)
        found.sort(key=lambda encoding: (self.networks.count(encoding).macs, encoding))
        middle = found[len(found) // 2]
        if self._params(middle) <= _MOST_BASE_PARAMS:
            return middle
        small = [encoding for encoding in found if self._params(encoding) <= _MOST_BASE_PARAMS]
        return small[-1] if small else min(found, key=self._params)

    def _params(self, encoding: str) -> int:
        return self.networks.count(encoding).params

    def sizes(self, block: BlockKey) -> tuple[float, ...]:
        """Return a block's multiply-accumulates, activations and parameters.

        Nothing where the space cannot count them: then its shape has to do.
        """
        count = getattr(self.space, "count_block", None)
        if count is None:
            return ()
        counts = count(block)
        return float(counts.macs), float(counts.activations), float(counts.params)

    def params(self, block: BlockKey) -> float:
        """Return a block's parameters; 0 where the space cannot count them."""
        return (self.sizes(block) or (0.0,))[-1]

    def write(self, chain: Chain) -> ChainFile | None:
        """Write a chain; None for the empty one where a call cannot be timed alone.

        Raises:
            WrongInputError: The shapes of neighbours do not fit.
        """
        task = self._task
        if task is None:
            raise AssertionError("the task is set before anything is written")
        if not chain:
            return self._call(task.batch) if self.has_call else None
        space = self.blocks
        if chain[-1].out_channels != self.networks.classes:
            space = self._thin_space()
        return _file(artifact_of(space.write_chain(chain, batch=task.batch), task))

    def _thin_space(self) -> DecomposableSpace:
        """Return the same space with heads that cost next to nothing."""
        if self._thin is None:
            classes = thin_channels(self.networks.classes)
            settings: dict[str, object] = {**self.settings, "classes": classes}
            for name, default, _meaning in catalog.info(self.name).parameters:
                if name == "last_channels" and default.isdigit():
                    settings[name] = classes
            self._thin = cast("DecomposableSpace", catalog.load(self.name, settings))
        return self._thin

    def _call(self, batch: int) -> ChainFile:
        """Write what every member has to do at least: take its images and give an output."""
        middle = self.space.sample(_first_generator())
        stem = self.blocks.decompose(middle).blocks[0]
        side = self.networks.resolution
        images = [batch, stem.in_channels, side, side]
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["images"], ["means"], name="pool"),
                helper.make_node("Flatten", ["means"], ["logits"], name="flatten", axis=1),
            ],
            "call",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, images[:2])],
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        return _file(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION))


def _file(model: onnx.ModelProto) -> ChainFile:
    return ChainFile(
        content=model.SerializeToString(deterministic=True), structure_hash=structure_hash(model)
    )


def _first_generator() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(0)
