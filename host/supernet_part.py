"""The estimator of a run: its data, its supernet, trained or gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.data import Augmentation, Download, catalog
from boardfront.host.supernet.evaluation import Recalibration, SupernetEstimator
from boardfront.host.supernet.settings import SupernetTraining
from boardfront.host.supernet.training import TrainedSupernet, train_supernet
from boardfront.protos.errors import WrongInputError
from boardfront.search.space import NetworkSpace, Space, SupernetSpace

if TYPE_CHECKING:
    from boardfront.host.data import Dataset
    from boardfront.host.experiment import Experiment
    from boardfront.host.journal import Journal
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.supernet.progress import TrainingReport


class SearchableSpace(Space, NetworkSpace, SupernetSpace, Protocol):
    """What a search by a supernet needs of a space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEstimator:
    """An estimator, and how the images that it was trained on were normalised.

    Args:
        estimator: Ready to be asked.
        mean: Subtracted from each channel of pixels from 0 to 1.
        std: Divided by afterwards.
    """

    estimator: SupernetEstimator
    mean: tuple[float, ...]
    std: tuple[float, ...]


def prepare_estimator(
    space: SearchableSpace,
    experiment: Experiment,
    folder: RunFolder,
    progress: RunProgress,
    journal: Journal,
    *,
    done: int,
) -> PreparedEstimator:
    """Load the data, train the supernet (or go on from its checkpoint), and wrap it.

    Args:
        space: The searched one.
        experiment: Says how.
        folder: Holds the checkpoint.
        progress: Shows the epochs.
        journal: Takes a record an epoch.
        done: Epochs that the journal knows of already.

    Raises:
        WrongInputError: If the data do not fit the space.
    """
    dataset = _load_data(space, experiment, progress)
    training = _settings(experiment)
    progress.phase("supernet", training.epochs, done=done)

    def report(news: TrainingReport) -> None:
        finished = news.epoch if news.epoch_done else news.epoch - 1
        progress.step(finished, _gist(news))
        if news.epoch_done and news.epoch > done:
            journal.append(
                records.TrainingProgress(
                    epoch=news.epoch,
                    epochs=news.epochs,
                    loss=news.loss,
                    learning_rate=training.learning_rate,
                    elapsed_s=news.elapsed_s,
                    validation_accuracy=news.validation_accuracy,
                )
            )

    trained: TrainedSupernet = train_supernet(
        space,
        dataset,
        training,
        checkpoint=folder.supernet,
        device=experiment.supernet.device,
        progress=report,
    )
    progress.say(f"supernet trained in {text.format_duration(trained.elapsed_s)}")
    estimator = SupernetEstimator(
        space,
        trained.supernet,
        dataset,
        Recalibration(
            images=experiment.supernet.recalibration_images,
            batch=min(256, experiment.supernet.recalibration_images),
            seed=experiment.seed,
        ),
    )
    return PreparedEstimator(estimator=estimator, mean=dataset.mean, std=dataset.std)


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


def _settings(experiment: Experiment) -> SupernetTraining:
    given = experiment.supernet
    return SupernetTraining(
        epochs=given.epochs,
        batch=given.batch,
        learning_rate=given.learning_rate,
        momentum=given.momentum,
        weight_decay=given.weight_decay,
        label_smoothing=given.label_smoothing,
        gradient_clip=given.gradient_clip,
        augmentation=Augmentation() if given.augment else Augmentation(shift=0),
        seed=experiment.seed,
    )


def _gist(news: TrainingReport) -> str:
    accuracy = news.validation_accuracy
    seen = "" if accuracy is None else f", a random path is right on {accuracy:.1%}"
    return f"loss {news.loss:.3f}{seen}"
