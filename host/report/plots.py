"""Every plot by its kind: what it is called, what it says in words, how it is drawn."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - the record's field
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.report import words
from boardfront.host.report.hypervolumes import growths
from boardfront.host.report.limits import drawn_limits
from boardfront.host.report.pairs import member_pairs, table_pairs
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from boardfront.host.report.findings import Findings
    from boardfront.host.report.theme import Colours
    from boardfront.host.view.run_view import CandidateView
    from boardfront.latency_models.table import Table

KINDS = ("front", "hypervolume", "predicted", "devices", "architectures", "training")
"""Plots of a run."""

COMPARED = ("front", "hypervolume")
"""Those of them that lay several runs over each other."""

MOST_CANDIDATES = 4000
"""So many are drawn and listed at most; the front always is."""


_HOLLOW = " A hollow point is one whose time had a verdict that is not ok."


class NothingToDrawError(WrongInputError):
    """A run has nothing of what a plot shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot that can be drawn.

    Args:
        name: Of its ids in a page and of its file, e.g. "front-here"; each plot has its own.
        title: For people.
        message: What it says, in words.
        svg: Draws it in a theme's colours, as an SVG document.
    """

    name: str
    title: str
    message: str
    svg: Callable[[Colours], str]


def plot(found: Findings, kind: str, target: str = "") -> Plot:
    """Return one plot of a run.

    Args:
        found: The run.
        kind: One of `KINDS`.
        target: Whose times; empty takes the first.

    Raises:
        WrongInputError: There is no such kind or target.
        NothingToDrawError: The run has nothing of it.
    """
    if kind not in KINDS:
        raise WrongInputError(f"no plot {kind!r}: expected one of {', '.join(KINDS)}")
    if target and target not in found.targets:
        known = ", ".join(found.targets) or "none"
        raise WrongInputError(f"no target {target!r} in {found.view.name}: known are {known}")
    name = target or (found.targets[0] if found.targets else "")
    made = _MAKERS[kind](found, name)
    if made is None:
        raise NothingToDrawError(
            f"{found.view.name} has nothing for the plot {kind!r}: {_WHY[kind]}; look again later"
        )
    return made


def plots(found: Findings) -> dict[str, list[Plot]]:
    """Return all plots that a run has something for, by kind: one a target where times count."""
    made: dict[str, list[Plot]] = {}
    for kind in KINDS:
        targets = found.targets if kind in {"front", "hypervolume", "predicted"} else ("",)
        each = [_MAKERS[kind](found, target or "".join(found.targets[:1])) for target in targets]
        made[kind] = [one for one in each if one is not None]
    return made


def table_plot(table: Table) -> Plot:
    """Return the plot of a latency table: what it says of whole networks beside their times.

    Raises:
        NothingToDrawError: The table has no whole networks.
    """
    pairs = table_pairs(table)
    if not pairs:
        raise NothingToDrawError(
            "the table has no whole networks: expected some; go on with boardfront table build"
        )
    said = f"{len(pairs)} whole networks on {table.device_name}."
    if table.residual is not None:
        residual = table.residual
        said += (
            f" On the {residual.networks} that built nothing in the table it is off by "
            f"{residual.mape:.1%} in the mean (bias {residual.bias:+.1%}, worst "
            f"{residual.worst:+.1%})."
        )
    return _plot(
        "table-residual",
        "Predicted against measured",
        said,
        lambda c: _time_charts().predicted_chart(pairs, c),
    )


def comparison_plots(runs: Sequence[Findings], target: str) -> dict[str, Plot]:
    """Return the plots that lay runs over each other, by kind, on a target that all have."""
    made = {}
    targets = runs[0].targets
    if any(t.latency for run in runs for m in run.members if (t := m.times.get(target))):
        said = " ".join(f"{run.view.name}: {words.front_words(run, target)}" for run in runs)
        made["front"] = _plot(
            _name("fronts", target, targets),
            f"Fronts on {target}",
            said,
            lambda c: _comparison_charts().comparison_chart(runs, target, c),
        )
    grown = growths([run.view for run in runs], target)
    if grown:
        said = words.hypervolume_words(grown)
        alone = f"Only {grown[0].name} has it: " if len(grown) == 1 else ""
        made["hypervolume"] = _plot(
            _name("hypervolumes", target, targets),
            f"Hypervolume over evaluations, {target}",
            alone + said,
            lambda c: _charts().hypervolume_chart(grown, c),
        )
    return made


def shown_candidates(found: Findings) -> tuple[CandidateView, ...]:
    """Return the candidates to draw: all, or of very many the front and others evenly spaced."""
    every = found.view.candidates
    if len(every) <= MOST_CANDIDATES:
        return every
    step = len(every) / MOST_CANDIDATES
    chosen = {int(place * step) for place in range(MOST_CANDIDATES)}
    return tuple(one for place, one in enumerate(every) if one.is_on_front or place in chosen)


def _front(found: Findings, target: str) -> Plot | None:
    shown = shown_candidates(found)
    if not any(target in one.latencies and one.accuracy is not None for one in shown):
        return None
    said = words.front_words(found, target) + _HOLLOW
    left_out = drawn_limits(found, shown, target).left_out
    return _plot(
        _name("front", target, found.targets),
        f"Accuracy against time on {target}",
        f"{said} {left_out}" if left_out else said,
        lambda c: _charts().front_chart(found, shown, target, c),
    )


def _hypervolume(found: Findings, target: str) -> Plot | None:
    grown = growths([found.view], target)
    if not grown:
        return None
    return _plot(
        _name("hypervolume", target, found.targets),
        f"Hypervolume over evaluations, {target}",
        words.hypervolume_words(grown),
        lambda c: _charts().hypervolume_chart(grown, c),
    )


def _predicted(found: Findings, target: str) -> Plot | None:
    if target not in found.residuals:
        return None
    said = words.residual_words(found.residuals[target], target)
    models = sorted({m.times[target].predicted_by for m in found.members} - {""})
    if models:
        said += f" They were predicted by {' and '.join(models)}."
    if target in found.agreement:
        said += " " + words.order_words(found.agreement[target], target)
    return _plot(
        _name("predicted", target, found.targets),
        f"Searched against re-measured, {target}",
        said,
        lambda c: _time_charts().predicted_chart(member_pairs(found, target), c),
    )


def _devices(found: Findings, target: str) -> Plot | None:
    del target
    if len(found.targets) < 2 or not found.members:
        return None
    return _plot(
        "devices",
        "The same networks on each target",
        words.devices_words(found),
        lambda c: _time_charts().devices_chart(found, c),
    )


def _architectures(found: Findings, target: str) -> Plot | None:
    if not found.members:
        return None
    title, said = "Networks of the front", words.architectures_words(found.members)

    def svg(colours: Colours) -> str:
        from boardfront.host.report.architectures import draw

        return draw(found.members, target, colours, title=title, message=said)

    return Plot(name="architectures", title=title, message=said, svg=svg)


def _training(found: Findings, target: str) -> Plot | None:
    del target
    if not found.view.training:
        return None
    return _plot(
        "training",
        "Training of the estimator",
        words.training_words(found),
        lambda c: _charts().training_chart(found, c),
    )


def _charts() -> ModuleType:
    """Import what needs the libraries that draw; words need none of them."""
    from boardfront.host.report import charts

    return charts


def _comparison_charts() -> ModuleType:
    from boardfront.host.report import comparison_charts

    return comparison_charts


def _time_charts() -> ModuleType:
    from boardfront.host.report import time_charts

    return time_charts


def _name(kind: str, target: str, targets: Sequence[str]) -> str:
    """Return a plot's name: no two targets have the same, whatever signs theirs are made of."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for one in targets:
        plain = "".join(sign if sign.isalnum() else "-" for sign in one)
        tries = (plain, *(f"{plain}-{number}" for number in range(2, len(targets) + 2)))
        # Some file systems do not tell large letters from small ones.
        names[one] = next(name for name in tries if name.casefold() not in taken)
        taken.add(names[one].casefold())
    return f"{kind}-{names[target]}"


def _plot(name: str, title: str, message: str, chart: Callable[[Colours], dict[str, Any]]) -> Plot:
    def svg(colours: Colours) -> str:
        from boardfront.host.report.drawing import svg_of

        return svg_of(
            chart(colours),
            name=name,
            title=title,
            message=message,
        )

    return Plot(name=name, title=title, message=message, svg=svg)


_MAKERS: dict[str, Callable[[Findings, str], Plot | None]] = {
    "front": _front,
    "hypervolume": _hypervolume,
    "predicted": _predicted,
    "devices": _devices,
    "architectures": _architectures,
    "training": _training,
}

_WHY = {
    "front": "no candidate has an accuracy and a time",
    "hypervolume": "it needs accuracies and times of a first generation",
    "predicted": "no member of the front was re-measured",
    "devices": "it needs two targets and a front",
    "architectures": "no network is on the front",
    "training": "no epoch of a shared estimator stands in its journal",
}
