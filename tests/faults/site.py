"""A host and a device with a network between them, and the books of both.

The device is a real agent in a process of its own with the fake backend, the host is the host's
own measurer and store. What was measured is counted twice: in the host's store, and in the
agent's journal, which is read before the agent may forget it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.device_agent.harness import AgentProcess, name_of, programme
from tests.faults.link import Link
from typing_extensions import override

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.latency_models.base import Measurement

SEED = "run 1"
# An agent that stands still for a while does not use them up.
_DEADLINES = records.Deadlines(queue_s=120.0, compile_s=20.0, run_s=60.0)


_BARE = """\
import sys
for name in ("onnx", "onnxruntime", "torch", "tvm"):
    sys.modules[name] = None
"""


def bare(folder: Path, *, more: str = "") -> dict[str, str]:
    """Return an environment in which Python finds no runtimes, whose imports take seconds.

    Args:
        folder: Empty; it is on the path of what runs in that environment.
        more: What Python runs at its start beside this.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_BARE + more)
    return {"PYTHONPATH": str(folder)}


def request(
    number: int, *, size_bytes: int = 0, min_duration_s: float = 0.2, job_seed: str = SEED
) -> TimeRequest:
    """Return a request for one network, whose time really passes.

    Args:
        number: Other numbers are other networks, with other times.
        size_bytes: At least of its artifact.
        min_duration_s: How long it is looked at.
        job_seed: Of the run that asks.
    """
    model = programme(sleep="on", time_s=0.001 + 1e-5 * number)
    return TimeRequest(
        model=model.ljust(size_bytes),
        structure_hash=f"{number:064}",
        task=records.Task(),
        backend="fake",
        precision=records.Precision(relative_half_width=0.5, min_duration_s=min_duration_s),
        deadlines=_DEADLINES,
        label=str(number),
        job_seed=job_seed,
    )


class Once:
    """Does something at the first event of a kind.

    Args:
        wanted: Which event.
        act: What is done.
    """

    def __init__(
        self, wanted: Callable[[records.JobEvent], bool], act: Callable[[], object]
    ) -> None:
        self._wanted = wanted
        self._act: Callable[[], object] | None = act

    def __call__(self, event: records.JobEvent) -> None:
        if self._act is not None and self._wanted(event):
            act, self._act = self._act, None
            act()


class Book:
    """What an agent's journal said of the jobs when it was about to forget them.

    Args:
        folder: Keeps the copies; several processes may share it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def copy(self, job: Path) -> None:
        """Keep a job's events, unless the agent has forgotten it already."""
        try:
            (subject,) = json.loads((job / "job.json").read_text())["subjects"]
            events = (job / "events.jsonl").read_text()
        except FileNotFoundError:
            return
        name = f"{subject['artifactSha256']}-{job.name}"
        part = self.folder / f"{name}.part"
        part.write_text(events)
        part.replace(self.folder / f"{name}.jsonl")

    def begun(self) -> Counter[str]:
        """Return how often the windows of each artifact were begun."""
        return self._count(lambda event: event.get("working") == {"phase": "PHASE_WARMING_UP"})

    def answered(self) -> Counter[str]:
        """Return how often each artifact got its answer."""
        return self._count(lambda event: "result" in event or "failure" in event)

    def _count(self, counts: Callable[[dict[str, object]], bool]) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in self.folder.glob("*.jsonl"):
            artifact = path.name.partition("-")[0]
            found[artifact] += sum(
                counts(json.loads(line)) for line in path.read_text().splitlines()
            )
        return found


class Witness(AgentClient):
    """A client who copies from the agent's journal before the agent may forget a job.

    Args:
        address: HOST:PORT.
        jobs: The agent's folder of jobs.
        book: Where to.
        arguments: Those of `AgentClient`.
    """

    def __init__(self, address: str, jobs: Path, book: Book, **arguments: Any) -> None:
        super().__init__(RemoteAddress(address), **arguments)
        self._jobs = jobs
        self._book = book

    @override
    def acknowledge(self, job_id: str) -> None:
        self._book.copy(self._jobs / job_id)
        super().acknowledge(job_id)


class Site:
    """One agent behind a link, and one store.

    Args:
        folder: Empty.
        lost_after_s: The host's patience.
        keepalive_s: Of the host's connection.
        agent: Another agent than the plain one.
        seen_as: The agent's folder as this process sees it, where that is another.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lost_after_s: float = 20.0,
        keepalive_s: float = 10.0,
        agent: AgentProcess | None = None,
        seen_as: Path | None = None,
    ) -> None:
        if agent is None:
            agent = AgentProcess(folder / "agent", environment=bare(folder / "bare"))
        self.agent = agent
        self.agent_folder = seen_as or self.agent.state
        self.store_path = folder / "store.db"
        self.book = Book(folder / "book")
        self.said: list[str] = []
        self._patience = (lost_after_s, keepalive_s)
        self._on_event: Callable[[records.JobEvent], None] = lambda _: None

    def __enter__(self) -> Self:
        self.agent.start()
        self.link = Link(self.agent.address)
        self.store = MeasurementStore(self.store_path)
        self.client = self.connect()
        self.measurer = DeviceMeasurer(self.client, self.store, listener=self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.store.close()
        self.link.__exit__()
        self.agent.kill()

    def connect(self) -> Witness:
        """Return another client behind the link."""
        lost_after_s, keepalive_s = self._patience
        return Witness(
            self.link.address,
            self.agent_folder / "jobs",
            self.book,
            lost_after_s=lost_after_s,
            keepalive_s=keepalive_s,
            on_lost=self.said.append,
        )

    def measure(
        self,
        asked: Sequence[TimeRequest],
        on_event: Callable[[records.JobEvent], None] = lambda _: None,
    ) -> list[Measurement]:
        """Measure as a search does, one after the other."""
        self._on_event = on_event
        return [next(iter(self.measurer.measure([one]))) for one in asked]

    def assert_nothing_lost_or_twice(
        self, asked: Sequence[TimeRequest], *, begun: int = 1
    ) -> None:
        """Check both books: every request has its one time, from one measurement.

        Args:
            asked: All that was ever asked of this site.
            begun: How often the measurement of one of them may have been begun; more than once
                where the agent died in the middle of one.
        """
        found = self.stored()
        assert all(one.result is not None for one in found), found
        assert Counter(one.key.structure_hash for one in found) == Counter(
            one.structure_hash for one in asked
        )
        assert Counter(one.job_id for one in found) == Counter({one.job_id for one in found})
        artifacts = {name_of(one.model) for one in asked}
        assert self.book.answered() == dict.fromkeys(artifacts, 1)
        assert set(self.book.begun()) == artifacts
        assert max(self.book.begun().values()) <= begun
        assert list((self.agent_folder / "jobs").glob("*/job.json")) == []
        assert list((self.agent_folder / "artifacts").glob("*.part")) == []

    def stored(self) -> tuple[Measurement, ...]:
        """Return all that the store has of the device."""
        return self.store.recent(device_id=self.client.describe(patient=True).device_id)

    def _listen(self, label: str, event: records.JobEvent) -> None:
        del label
        self._on_event(event)
