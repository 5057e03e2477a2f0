"""The estimator of a run: its data, and what predicts accuracy, as the experiment says.

That is a supernet, trained or gone on with before the search begins, or short training, which
happens candidate by candidate during the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch

from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.data import Augmentation, Download, catalog
from boardfront.host.supernet.checkpoint import CheckpointError, load_checkpoint
from boardfront.host.supernet.device import choose_device
from boardfront.host.supernet.evaluation import Recalibration, SupernetEstimator
from boardfront.host.supernet.settings import SupernetTraining
from boardfront.host.supernet.training import TrainedSupernet, train_supernet
from boardfront.host.training import ShortTraining, TrainingEstimator
from boardfront.protos.errors import WrongInputError
from boardfront.search.estimator import Estimator
from boardfront.search.space import NetworkSpace, Space, SupernetSpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.data import Dataset
    from boardfront.host.experiment import Experiment, SupernetSettings, TrainingSettings
    from boardfront.host.journal import Journal
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.supernet.progress import TrainingReport
    from boardfront.host.training import CandidateProgress


class SearchableSpace(Space, NetworkSpace, Protocol):
    """What every search needs of a space."""


class _SupernetSearchSpace(Space, NetworkSpace, SupernetSpace, Protocol):
    """What a search by a supernet needs of a space."""


class RunEstimator(Estimator, Protocol):
    """An estimator whose networks can be shipped.

    Guarantees: what `deployable` returns holds the weights that `validation_accuracy` scored.
    """

    def test_accuracy(self, encoding: str) -> float:
        """Return the share of test images classified rightly. For finalists only."""

    def deployable(self, encoding: str) -> torch.nn.Module:
        """Return the network as it would be deployed, in evaluation mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEstimator:
    """An estimator, and how the images that it was trained on were normalised.

    Args:
        estimator: Ready to be asked.
        mean: Subtracted from each channel of pixels from 0 to 1.
        std: Divided by afterwards.
    """

    estimator: RunEstimator
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Where an estimator keeps what it trains, and who hears of it.

    Args:
        folder: Holds the checkpoints.
        journal: Takes a record an epoch of a supernet.
        progress: Shows a supernet's epochs.
        on_candidate: Hears of the training of each candidate, where there is no supernet.
        epochs_done: Epochs of a supernet that the journal knows of already.
        obey: Called between the epochs of a supernet: the place to pause or to stop.
    """

    folder: RunFolder
    journal: Journal
    progress: RunProgress
    on_candidate: CandidateProgress
    epochs_done: int
    obey: Callable[[], None] = lambda: None


def prepare_estimator(
    space: SearchableSpace, experiment: Experiment, around: Surroundings
) -> PreparedEstimator:
    """Load the data and make the estimator that the experiment names.

    A supernet is trained here, or gone on with from its checkpoint.

    Raises:
        WrongInputError: If the data do not fit the space.
    """
    dataset = _load_data(space, experiment, around.progress)
    estimator: RunEstimator
    if experiment.supernet is not None:
        estimator = _prepare_supernet(
            # config.py refuses a space that has none.
            cast("_SupernetSearchSpace", space),
            dataset,
            experiment.supernet,
            experiment.seed,
            around,
        )
    else:
        estimator = _short_training(space, dataset, experiment, around.folder, around.on_candidate)
    return PreparedEstimator(estimator=estimator, mean=dataset.mean, std=dataset.std)


def reload_estimator(
    space: SearchableSpace, experiment: Experiment, folder: RunFolder, progress: RunProgress
) -> PreparedEstimator:
    """Make the estimator of a run that ended, from what the run trained.

    Nothing is trained, save a candidate of short training whose file is gone.

    Raises:
        CheckpointError: If the supernet's checkpoint is damaged or of another training.
        WrongInputError: If the data do not fit the space.
    """
    dataset = _load_data(space, experiment, progress)
    estimator: RunEstimator
    if experiment.supernet is None:
        estimator = _short_training(space, dataset, experiment, folder, None)
    else:
        wide, settings = cast("_SupernetSearchSpace", space), experiment.supernet
        supernet = _reload_supernet(wide, folder.supernet, settings)
        estimator = _with_supernet(wide, supernet, dataset, settings, experiment.seed)
    return PreparedEstimator(estimator=estimator, mean=dataset.mean, std=dataset.std)


def _short_training(
    space: SearchableSpace,
    dataset: Dataset,
    experiment: Experiment,
    folder: RunFolder,
    hear: CandidateProgress | None,
) -> TrainingEstimator:
    if experiment.training is None:
        raise WrongInputError("expected an experiment with [supernet] or [training], got neither")
    return TrainingEstimator(
        space,
        dataset,
        ShortTraining(
            recipe=_recipe(experiment.training, experiment.seed),
            folder=folder.supernet.with_name("candidates"),
            device=experiment.training.device,
        ),
        hear,
    )


def _reload_supernet(
    space: _SupernetSearchSpace, checkpoint: Path, settings: SupernetSettings
) -> torch.nn.Module:
    held = load_checkpoint(checkpoint, {"epochs": settings.epochs})
    with torch.random.fork_rng(devices=[]):  # the initial weights that are thrown away
        supernet = space.build_supernet()
    try:
        supernet.load_state_dict(held.model)
    except RuntimeError as problem:
        raise CheckpointError(
            checkpoint, "of another supernet: put the run's own file back"
        ) from problem
    # Where it was trained need not be here.
    return supernet.to(choose_device("cpu" if settings.device == "cpu" else "auto"))


def _prepare_supernet(
    space: _SupernetSearchSpace,
    dataset: Dataset,
    settings: SupernetSettings,
    seed: int,
    around: Surroundings,
) -> SupernetEstimator:
    training = _recipe(settings, seed)
    around.progress.phase("supernet", training.epochs, done=around.epochs_done)

    def report(news: TrainingReport) -> None:
        finished = news.epoch if news.epoch_done else news.epoch - 1
        around.progress.step(finished, _gist(news))
        if news.epoch_done and news.epoch > around.epochs_done:
            around.journal.append(
                records.TrainingProgress(
                    epoch=news.epoch,
                    epochs=news.epochs,
                    loss=news.loss,
                    learning_rate=news.learning_rate,
                    elapsed_s=news.elapsed_s,
                    validation_accuracy=news.validation_accuracy,
                )
            )
        if news.epoch_done:
            around.obey()

    trained: TrainedSupernet = train_supernet(
        space,
        dataset,
        training,
        checkpoint=around.folder.supernet,
        device=settings.device,
        progress=report,
    )
    around.progress.say(f"supernet trained in {text.format_duration(trained.elapsed_s)}")
    return _with_supernet(space, trained.supernet, dataset, settings, seed)


def _with_supernet(
    space: _SupernetSearchSpace,
    supernet: torch.nn.Module,
    dataset: Dataset,
    settings: SupernetSettings,
    seed: int,
) -> SupernetEstimator:
    return SupernetEstimator(
        space,
        supernet,
        dataset,
        Recalibration(
            images=settings.recalibration_images,
            batch=min(256, settings.recalibration_images),
            seed=seed,
        ),
    )


def _load_data(space: SearchableSpace, experiment: Experiment, progress: RunProgress) -> Dataset:
    def downloading(name: str, _done_bytes: int, total_bytes: int | None) -> None:
        if name not in announced:
            announced.add(name)
            size = f" ({total_bytes / 2**20:.0f} MiB)" if total_bytes else ""
            progress.say(f"downloading {name}{size}")

    announced: set[str] = set()
    dataset = catalog.load(
        experiment.data.name,
        resolution=space.resolution,
        seed=experiment.seed,
        download=Download(url=experiment.data.url, progress=downloading),
    )
    channels = _input_channels(space)
    if dataset.channels != channels:
        raise WrongInputError(
            f"[space] takes images of {channels} channels: data set {dataset.name} has "
            f"{dataset.channels}: set in_channels = {dataset.channels}"
        )
    if dataset.classes != space.classes:
        raise WrongInputError(
            f"[space] classes = {space.classes}: data set {dataset.name} has {dataset.classes}: "
            f"set classes = {dataset.classes}"
        )
    return dataset


def _input_channels(space: SearchableSpace) -> int:
    model = space.write_onnx(space.sample(np.random.default_rng(0)), batch=1)
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)


def _recipe(given: TrainingSettings, seed: int) -> SupernetTraining:
    return SupernetTraining(
        epochs=given.epochs,
        batch=given.batch,
        learning_rate=given.learning_rate,
        momentum=given.momentum,
        weight_decay=given.weight_decay,
        label_smoothing=given.label_smoothing,
        gradient_clip=given.gradient_clip,
        augmentation=Augmentation() if given.augment else Augmentation(shift=0),
        seed=seed,
    )


def _gist(news: TrainingReport) -> str:
    accuracy = news.validation_accuracy
    seen = "" if accuracy is None else f", a random path is right on {accuracy:.1%}"
    return f"loss {news.loss:.3f}{seen}"
