from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from boardfront.host.data import Augmentation
from boardfront.host.supernet import (
    CheckpointError,
    SupernetEstimator,
    SupernetTraining,
    TrainingDivergedError,
    TrainingReport,
    train_supernet,
)
from boardfront.host.supernet.checkpoint import hash_state
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.data import Dataset
    from boardfront.host.supernet import TrainedSupernet
    from boardfront.search.spaces.spos import SposSpace

    MakeTraining = Callable[..., SupernetTraining]


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_after(epoch: int, step: int) -> Callable[[TrainingReport], None]:
    def progress(report: TrainingReport) -> None:
        if (report.epoch, report.step) == (epoch, step):
            raise KilledError

    return progress


def weights_of(trained: TrainedSupernet) -> str:
    return hash_state(trained.supernet.state_dict())


def test_training_learns(trained: TrainedSupernet, space: SposSpace, dataset: Dataset) -> None:
    assert trained.losses[-1] < trained.losses[0]
    estimator = SupernetEstimator(space, trained.supernet, dataset)
    # Chance is 0.1; single paths reach about 0.9 after these ten epochs.
    for encoding in ("33-3", "57-x", "xx-7"):
        assert estimator.validation_accuracy(encoding) > 0.6


def test_resumed_training_ends_in_the_same_bits(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    whole = train_supernet(space, few, short(epochs=4), device="cpu")
    path = tmp_path / "run" / "supernet.pt"
    with pytest.raises(KilledError):
        train_supernet(
            space,
            few,
            short(epochs=4),
            checkpoint=path,
            device="cpu",
            progress=kill_after(2, 3),
        )
    torch.rand(7)  # the state of the global generator must not matter
    resumed = train_supernet(space, few, short(epochs=4), checkpoint=path, device="cpu")
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.losses == whole.losses
    assert [p.name for p in path.parent.iterdir()] == ["supernet.pt"]


@pytest.mark.slow
def test_killed_within_an_epoch_repeats_that_epoch(
    space: SposSpace, dataset: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    training = short(epochs=2)
    whole = train_supernet(space, dataset, training, device="cpu")
    path = tmp_path / "supernet.pt"
    with pytest.raises(KilledError):
        train_supernet(
            space,
            dataset,
            training,
            checkpoint=path,
            device="cpu",
            progress=kill_after(2, 10),
        )
    resumed = train_supernet(space, dataset, training, checkpoint=path, device="cpu")
    assert weights_of(resumed) == weights_of(whole)


def test_finished_training_is_loaded_not_repeated(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.pt"
    first = train_supernet(space, few, short(), checkpoint=path, device="cpu")
    heard: list[TrainingReport] = []
    second = train_supernet(
        space, few, short(), checkpoint=path, device="cpu", progress=heard.append
    )
    assert weights_of(second) == weights_of(first)
    assert heard == []


def test_seed_determines_the_weights_and_leaves_the_global_generator_alone(
    space: SposSpace, few: Dataset, short: MakeTraining
) -> None:
    before = torch.get_rng_state()
    first = train_supernet(space, few, short(), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    same = train_supernet(space, few, short(), device="cpu")
    other = train_supernet(space, few, short(seed=1), device="cpu")
    assert weights_of(first) == weights_of(same)
    assert weights_of(first) != weights_of(other)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_reports_count_epochs_and_steps(
    space: SposSpace, dataset: Dataset, short: MakeTraining, schedule: str
) -> None:
    heard: list[TrainingReport] = []
    training = short(epochs=2, batch=64, schedule=schedule, warmup_steps=4)
    train_supernet(space, dataset, training, device="cpu", progress=heard.append)
    steps = len(dataset.train) // 64
    assert [(r.epoch, r.step) for r in heard] == [(1, 10), (1, steps), (2, 10), (2, steps)]
    assert all((r.epochs, r.steps) == (2, steps) for r in heard)
    assert [r.validation_accuracy is None for r in heard] == [True, False, True, False]
    assert [r.elapsed_s for r in heard] == sorted(r.elapsed_s for r in heard)


def test_checkpoint_of_other_settings_is_refused(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.pt"
    train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")
    with pytest.raises(
        CheckpointError,
        match=r"of another training; expected epochs 2 \(there 1\), seed 4 \(there 0\): use its",
    ):
        train_supernet(space, few, short(epochs=2, seed=4), checkpoint=path, device="cpu")


def test_damaged_checkpoint_is_refused(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.pt"
    train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"supernet.pt: .*delete it to train anew"):
            train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")


@pytest.mark.slow
def test_flipped_bits_are_noticed_or_do_no_harm(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.pt"
    right = weights_of(train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu"))
    whole = path.read_bytes()
    noticed = 0
    for position in range(100, len(whole), len(whole) // 30):
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        path.write_bytes(bytes(flipped))
        try:
            again = train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")
        except CheckpointError:
            noticed += 1
        else:
            assert weights_of(again) == right  # a byte of padding between two records
    assert noticed > 5


def test_changed_momentum_is_noticed(
    space: SposSpace, few: Dataset, short: MakeTraining, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.pt"
    train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")
    plain = torch.load(path, weights_only=True)
    plain["optimizer"]["state"][0]["momentum_buffer"].add_(1)
    torch.save(plain, path)
    with pytest.raises(CheckpointError, match="its digest is another"):
        train_supernet(space, few, short(epochs=1), checkpoint=path, device="cpu")


def test_loss_that_is_no_number_ends_the_training(
    space: SposSpace, few: Dataset, short: MakeTraining
) -> None:
    training = short(learning_rate=1e30, gradient_clip=1e30)
    with pytest.raises(TrainingDivergedError, match="expected a finite one; lower learning_rate"):
        train_supernet(space, few, training, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0"),
        ({"momentum": 1.0}, "momentum: expected from 0 to below 1"),
        ({"schedule": "step"}, "schedule: expected cosine or linear, got 'step'"),
    ],
)
def test_wrong_settings_are_refused(
    short: MakeTraining, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(WrongInputError, match=message):
        short(**changes)


def test_batch_larger_than_the_training_part_is_refused(
    space: SposSpace, few: Dataset, short: MakeTraining
) -> None:
    with pytest.raises(WrongInputError, match="batch: expected at most the 96 training images"):
        train_supernet(space, few, short(batch=97), device="cpu")


def test_unknown_device_is_refused(space: SposSpace, few: Dataset, short: MakeTraining) -> None:
    with pytest.raises(WrongInputError, match="expected auto, cpu or cuda, got 'tpu'"):
        train_supernet(space, few, short(), device="tpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_learns_and_resumes(
    space: SposSpace, dataset: Dataset, tmp_path: Path
) -> None:
    still = Augmentation(shift=0)
    training = SupernetTraining(epochs=8, batch=64, learning_rate=0.2, augmentation=still)
    path = tmp_path / "supernet.pt"
    with pytest.raises(KilledError):
        train_supernet(
            space,
            dataset,
            training,
            checkpoint=path,
            device="cuda",
            progress=kill_after(4, len(dataset.train) // 64),
        )
    done = train_supernet(space, dataset, training, checkpoint=path, device="cuda")
    estimator = SupernetEstimator(space, done.supernet, dataset)
    assert len(done.losses) == 8
    assert estimator.validation_accuracy("33-3") > 0.6
    assert estimator.validation_accuracy("33-3") == estimator.validation_accuracy("33-3")
