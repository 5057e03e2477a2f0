"""What a shell offers behind Tab: runs, boards, spaces, backends.

Each function is called at a key press: it reads small files and asks no device. What cannot be
read is not offered; the command itself says what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer  # noqa: TC002 - typer reads annotations

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Iterable

Offers = list[tuple[str, str]]
"""(word, what it is), as typer takes it."""

OWN_BACKENDS = {
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
    "tvm": "TVM",
    "fake": "programmed times, for trying things out",
}
"""The agent's own; host and agent share no code, so a test compares this with its catalogue."""

_TASKS = {
    "inference": "a forward call",
    "training-step": "forward, backward and update, by torch",
    "training-step-graph": "the same as an ONNX graph",
}

PLOTS = {
    "front": "accuracy against time",
    "hypervolume": "over the evaluations",
    "predicted": "against measured, with residuals",
    "devices": "the front on each",
    "architectures": "drawn as blocks",
    "training": "curves",
    "residual": "of a latency table",
}
PICKS = {
    "knee": "the best trade",
    "fastest": "the shortest time",
    "best": "the highest accuracy",
}


def runs(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer `latest` and the runs of this folder, newest first."""
    from boardfront.host.run_folder import list_runs

    folder = Path(ctx.params.get("runs") or "runs")
    try:
        found = [run.path.name for run in list_runs(folder)]
    except OSError:
        found = []
    latest = [("latest", found[0])] if found else []
    return _starting(incomplete, [*latest, *((name, "a run") for name in found)])


def boards(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the fleet file's boards."""
    return _starting(incomplete, _boards(ctx))


def devices(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer this machine and the fleet file's boards."""
    return _starting(incomplete, [("local", "this machine's own agent"), *_boards(ctx)])


def spaces(incomplete: str) -> Offers:
    """Offer the search spaces, others' too."""
    from boardfront.search.spaces import catalog

    return _starting(incomplete, [(name, "a search space") for name in catalog.names()])


def backends(incomplete: str) -> Offers:
    """Offer the backends that an agent may have."""
    from importlib.metadata import entry_points

    others = [(entry.name, entry.value) for entry in entry_points(group="boardfront.backends")]
    return _starting(incomplete, [*OWN_BACKENDS.items(), *others])


def tasks(incomplete: str) -> Offers:
    """Offer what can be timed."""
    return _starting(incomplete, _TASKS.items())


def plots(incomplete: str) -> Offers:
    """Offer what can be drawn."""
    return _starting(incomplete, PLOTS.items())


def picks(incomplete: str) -> Offers:
    """Offer how a network of a front is chosen."""
    return _starting(incomplete, PICKS.items())


def _boards(ctx: typer.Context) -> Offers:
    from boardfront.host.fleet.fleet_file import load_fleet
    from boardfront.host.paths import default_fleet

    given = ctx.params.get("fleet")
    try:
        fleet = load_fleet(Path(given) if given else default_fleet())
    except BoardfrontError:
        return []
    return [(entry.name, entry.address.replace(":", " ")) for entry in fleet.entries]


def _starting(incomplete: str, offers: Iterable[tuple[str, str]]) -> Offers:
    return [(word, meaning) for word, meaning in offers if word.startswith(incomplete)]
