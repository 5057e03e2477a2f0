"""A target of an experiment as what a table is built of: the table that its search then takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.host.config import load_experiment
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a table is built of.

    Args:
        space: Name of the space; empty where nothing said so.
        settings: Of the space.
        device: Name, tags or address.
        backend: What executes the networks.
        options: Of the backend.
        cpus: Cores to run on; empty takes the device's default.
        task: What is timed.
        batch: Images at once.
        start_below_c: Wait until the device is no hotter.
        output: Where the table is written; None where nothing said so.
    """

    space: str
    settings: Mapping[str, object]
    device: str
    backend: str
    options: Mapping[str, str]
    cpus: str
    task: str
    batch: int
    start_below_c: float | None
    output: Path | None


def asked_of_target(target: str, said: Asked, options_said: Collection[str]) -> Asked:
    """Return what is asked for: what an experiment's target has, and what was said otherwise.

    Args:
        target: "FILE.toml", or "FILE.toml:NAME" where the experiment has several.
        said: On the command line, defaults included.
        options_said: Fields of it that are no defaults.

    Raises:
        WrongInputError: The experiment is wrong, has no such target, is of another space, or the
            target has several boards and nothing says which.
    """
    file, name = _parts(target)
    experiment = load_experiment(file)
    names = [one.name for one in experiment.targets]
    found = [one for one in experiment.targets if not name or one.name == name]
    if len(found) != 1:
        raise WrongInputError(
            f"--target {target}: expected one target of {file}, got "
            f"{name or 'none of several'}: say {file}:NAME with one of {', '.join(names)}"
        )
    (one,) = found
    if said.space not in {"", experiment.space.name}:
        raise WrongInputError(
            f"--space {said.space}: expected {experiment.space.name}, of which {file} is: leave "
            "it out, or leave out --target"
        )
    if not isinstance(one.device, str) and "device" not in options_said:
        raise WrongInputError(
            f"--target {target}: expected one board, got {len(one.device)}: a table is of one and "
            f"stands for boards alike: add --device with one of {', '.join(one.device)}"
        )
    values: dict[str, Any] = {
        "device": one.device,
        "backend": one.backend,
        "cpus": one.cpus,
        "task": one.task.value,
        "batch": one.batch,
        "start_below_c": one.start_below_c,
        "output": one.table.file if one.table else None,
    }
    taken = {key: getattr(said, key) if key in options_said else values[key] for key in values}
    return Asked(
        space=experiment.space.name,
        settings={**experiment.space.settings, **said.settings},
        options={**({} if "backend" in options_said else one.options), **said.options},
        **taken,
    )


def output_of(asked: Asked) -> Path:
    """Return where the table goes.

    Raises:
        WrongInputError: Nothing says so, or of which space it is.
    """
    if not asked.space:
        raise WrongInputError(
            "expected --space SPACE, or --target EXPERIMENT.toml, got neither: "
            "`boardfront space list` has the spaces"
        )
    if asked.output is None:
        raise WrongInputError(
            "expected -o FILE, or a target with a table = FILE, got neither: say where the table "
            "is to be written"
        )
    return asked.output


def _parts(target: str) -> tuple[str, str]:
    """Return file and name; a file that is there may have a colon in its own name."""
    file, colon, name = target.rpartition(":")
    return (file, name) if colon and not Path(target).exists() else (target, "")
