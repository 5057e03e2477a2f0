"""A finalist's torch module, made again from the checkpoint and held to the run's ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from boardfront.host.estimator_part import reload_estimator
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from boardfront.host.estimator_part import SearchableSpace
    from boardfront.host.export.finished import FinishedRun, Member
    from boardfront.host.progress import RunProgress

STATISTICS_LIMIT = 1e-2
"""Largest difference between batch-norm statistics found again and those of the run, by norm.

They are equal where the run's processor finds them; another one adds in another order. The run's
own are taken in any case.
"""

_STATISTICS = (".running_mean", ".running_var")


class RebuildError(BoardfrontError):
    """The run's checkpoint does not give the network that the run measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """A finalist as torch has it.

    Args:
        space: Of the architecture.
        module: In evaluation mode, on the CPU, with the very numbers of the run's ONNX file.
        mean: Subtracted from each channel of pixels from 0 to 1.
        std: Divided by afterwards.
        statistics_error: Between the batch-norm statistics found again from the checkpoint and
            those of the run's file: largest norm of the difference over the norm.
    """

    space: SearchableSpace
    module: torch.nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics_error: float


def rebuild(run: FinishedRun, member: Member, progress: RunProgress) -> Rebuilt:
    """Make a finalist again from the weights that the run trained.

    Raises:
        WrongInputError: If a file of the run is gone.
        RebuildError: If what comes out is not what the run measured.
        CheckpointError: If the checkpoint is damaged.
    """
    shipped = _shipped_weights(run, member)
    _require(_checkpoint(run, member))
    choice = run.experiment.space
    space = cast("SearchableSpace", spaces.load(choice.name, choice.settings))
    prepared = reload_estimator(space, run.experiment, run.folder, progress)
    if run.state_id and prepared.estimator.state_id != run.state_id:
        raise RebuildError(
            f"{run.folder.path.name}: weights, settings or data are not those that scored its "
            f"front (state {run.state_id}, found {prepared.estimator.state_id}): put the run's "
            "files back as they were"
        )
    module = prepared.estimator.deployable(member.encoding).cpu().eval()
    error = _take_over(module, shipped, member)
    return Rebuilt(
        space=space,
        module=module,
        mean=prepared.mean,
        std=prepared.std,
        statistics_error=error,
    )


def _checkpoint(run: FinishedRun, member: Member) -> Path:
    if run.experiment.supernet is not None:
        return run.folder.supernet
    return run.folder.supernet.with_name("candidates") / f"{member.encoding}.pt"


def _shipped_weights(run: FinishedRun, member: Member) -> dict[str, npt.NDArray[np.float32]]:
    path = run.folder.path / member.model
    _require(path)
    try:
        model = onnx.load(path)
    except Exception as problem:
        raise RebuildError(
            f"{path} is no ONNX model: expected the one that the run measured; put it back"
        ) from problem
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def _require(path: Path) -> None:
    if not path.is_file():
        raise WrongInputError(
            f"{path} is gone: expected the run's own file, which the network is made from; put "
            "it back"
        )


def _take_over(
    module: torch.nn.Module, shipped: dict[str, npt.NDArray[np.float32]], member: Member
) -> float:
    """Hold a module to what was shipped, take its statistics, and return how far they were."""
    worst = 0.0
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            found = tensor.numpy()
            wanted = shipped.get(name)
            if wanted is None or wanted.shape != found.shape:
                raise RebuildError(f"{member.model} has no {name}: expected the run's own file")
            error = _relative(found, wanted)
            is_statistic = name.endswith(_STATISTICS)
            if not error <= (STATISTICS_LIMIT if is_statistic else 0.0):
                raise RebuildError(
                    f"{member.model}: {name} differs from the checkpoint's by {error:.2g} of its "
                    f"norm: expected the weights that the run measured; put its files back"
                )
            worst = max(worst, error)
            tensor.copy_(torch.from_numpy(wanted.copy()))
    return worst


def _relative(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    if np.array_equal(found, wanted):
        return 0.0
    difference = np.linalg.norm(found.astype(np.float64) - wanted.astype(np.float64))
    return float(difference / max(float(np.linalg.norm(wanted.astype(np.float64))), 1e-12))
