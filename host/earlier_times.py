"""Times of a run's earlier part that were found wrong since: measured again before they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boardfront.host.targets import ConnectedTarget
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import Candidate, Latency


class EarlierTimes:
    """The times that a resumed run stands on, where no reference guards them.

    A device whose level moved while the run lay still tells so at its sentinel's first look, and
    all it measured before is in quarantine. This process did not measure it, so nobody else
    repeats it. Ratios to a reference stay good and are left alone.

    Args:
        targets: By name.
        store: Says what is in quarantine.
        known: Candidates of the earlier part.
        say: Told how many are measured again.
        on_remeasured: Told (target, encoding, time) of each.
    """

    def __init__(
        self,
        targets: Mapping[str, ConnectedTarget],
        store: MeasurementStore,
        known: Iterable[Candidate],
        *,
        say: Callable[[str], None],
        on_remeasured: Callable[[str, str, Latency], None],
    ) -> None:
        self._store = store
        self._say = say
        self._on_remeasured = on_remeasured
        self._targets = {name: target for name, target in targets.items() if target.is_by_sentinel}
        self._known: dict[str, dict[str, Latency]] = {name: {} for name in self._targets}
        for candidate in known:
            for name in self._known.keys() & candidate.latencies.keys():
                self._known[name][candidate.encoding] = candidate.latencies[name]
        self._seen: dict[str, int] = {}

    def put_right(self) -> None:
        """Measure again what is in quarantine; without news of a device nothing is looked up."""
        for name, target in self._targets.items():
            # What is measured may itself show that the level has moved.
            while self._seen.get(name) != target.watch.found_wrong:
                self._seen[name] = target.watch.found_wrong
                self._measure_again(name, target)

    def _measure_again(self, name: str, target: ConnectedTarget) -> None:
        source = target.source
        ids = source.recognise(self._known[name])
        wrong = [one.id for one in self._store.get(ids) if one.quarantined and one.id is not None]
        if not wrong:
            return
        self._say(
            f"{name}: the device is not as it was: {len(wrong)} of the times of before "
            "are measured again"
        )
        for old, new in source.measure_again(wrong, self._store):
            encoding = source.remeasured(old, new)
            if encoding is not None:
                self._on_remeasured(name, encoding, source.corrections[encoding])
