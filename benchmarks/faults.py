"""What is lost when cables, agents, hosts, disks and clocks fail, and how soon does it go on?

A real agent in a process of its own, the host's own measurer and store, between them a TCP proxy
that does what bad networks do. Three networks are measured, the fault comes while the second is;
then both sides' books are compared: the host's store and the agent's journal. All deadlines are
the defaults. "Goes on after" is the time from the fault, or from its end where a fault lasts, to
the next event that the host hears.

Exits with 1 if a measurement is lost, or is twice in a book.

Usage: python benchmarks/faults.py [--repeats 3] [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.device_agent.harness import AgentProcess, is_sampling
from tests.faults.host_run import run_at
from tests.faults.hosts import HostProcess, HostThread
from tests.faults.site import Once, Site, request
from tests.faults.small_disk import SmallDisk

from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.latency_models.base import TimeRequest
    from boardfront.protos import records

_MIB = 1 << 20
_COUNT = 3
_LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one fault did.

    Args:
        asked: Measurements that were wanted.
        stored: Of these, in the host's store.
        twice: In a book more often than once.
        begun: How often the windows of the network that the fault hit were begun.
        recovery_s: Until it went on.
    """

    asked: int
    stored: int
    twice: int
    begun: int
    recovery_s: float


class Watch:
    """Stops the time from a fault to the next event."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self.recovery_s = 0.0

    def start(self) -> None:
        """Note that the fault is here, or over."""
        self._since_s = time.monotonic()

    def __call__(self, _: object = None) -> None:
        """Note that it went on."""
        if self._since_s is not None:
            self.recovery_s = time.monotonic() - self._since_s
            self._since_s = None


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=_FAULTS)
    options = parser.parse_args()
    print(f"{'fault':<44} {'lost':>5} {'twice':>6} {'begun':>6}  goes on after (median, range)")
    good = True
    for name in [options.only] if options.only else _FAULTS:
        outcomes = []
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                outcomes.append(_FAULTS[name](Path(folder)))
        lost = sum(one.asked - one.stored for one in outcomes)
        twice = sum(one.twice for one in outcomes)
        good = good and not lost and not twice
        times = sorted(one.recovery_s for one in outcomes)
        print(
            f"{name:<44} {lost:>5} {twice:>6} {max(one.begun for one in outcomes):>6}  "
            f"{statistics.median(times):.1f} s ({times[0]:.1f} to {times[-1]:.1f})",
            flush=True,
        )
    return 0 if good else 1


def audit(site: Site, watch: Watch, *stores: Path, asked: int = _COUNT) -> Outcome:
    """Compare the books of a site."""
    found: list[str] = []
    for path in stores or (site.store_path,):
        with MeasurementStore(path) as store:
            every = store.recent(device_id=site.client.describe(patient=True).device_id)
            found += [one.key.structure_hash for one in every if one.result is not None]
    in_store, in_journal = Counter(found), site.book.answered()
    twice = [count for count in (*in_store.values(), *in_journal.values()) if count > 1]
    return Outcome(
        asked=asked,
        stored=len(in_store),
        twice=len(twice),
        begun=max(site.book.begun().values()),
        recovery_s=watch.recovery_s,
    )


def _asked(*, size_bytes: int = 0) -> list[TimeRequest]:
    sizes = (0, size_bytes, 0)
    return [
        request(number, min_duration_s=_LOOK_S, size_bytes=size)
        for number, size in enumerate(sizes)
    ]


def _hit(site: Site, watch: Watch, fault: Callable[[], None], *, size_bytes: int = 0) -> Outcome:
    """Measure all, the fault in the middle of the second."""
    asked = _asked(size_bytes=size_bytes)
    site.measure(asked[:1])
    once = Once(is_sampling, fault)

    def on_event(event: records.JobEvent) -> None:
        watch()
        once(event)

    site.measure(asked[1:], on_event)
    return audit(site, watch)


def cut_in_upload(folder: Path) -> Outcome:
    """A connection reset in the middle of an artifact of 8 MiB."""
    watch = Watch()
    with Site(folder) as site:
        asked = _asked(size_bytes=8 * _MIB)
        site.measure(asked[:1])
        site.link.cut_after(4 * _MIB)
        site.link.on_cut = watch.start
        site.measure(asked[1:], watch)
        return audit(site, watch)


def cut_in_measurement(folder: Path) -> Outcome:
    """A connection reset while windows are taken."""
    watch = Watch()
    with Site(folder) as site:

        def cut() -> None:
            site.link.cut()
            watch.start()

        return _hit(site, watch, cut)


def half_open(folder: Path) -> Outcome:
    """Bytes vanish, and neither side is told."""
    watch = Watch()
    with Site(folder) as site:

        def freeze() -> None:
            site.link.freeze()
            watch.start()

        return _hit(site, watch, freeze)


def away(folder: Path) -> Outcome:
    """No connection for 10 s."""
    watch = Watch()
    with Site(folder) as site:

        def refuse() -> None:
            site.link.refuse(yes=True)
            _later(10.0, site.link.heal, watch.start)

        return _hit(site, watch, refuse)


def slow(folder: Path) -> Outcome:
    """2 s each way from the beginning; the time is that of the second measurement."""
    with Site(folder) as site:
        site.link.delay_s = 2.0
        return _timed(site)


def lossy(folder: Path) -> Outcome:
    """A fifth of all packets is sent again; the time is that of the second measurement."""
    with Site(folder) as site:
        site.link.loss = 0.2
        return _timed(site, size_bytes=_MIB)


def undisturbed(folder: Path) -> Outcome:
    """Nothing happens; the time is that of the second measurement."""
    with Site(folder) as site:
        return _timed(site)


def _timed(site: Site, *, size_bytes: int = 0) -> Outcome:
    watch = Watch()
    first, second, third = _asked(size_bytes=size_bytes)
    site.measure([first])
    watch.start()
    site.measure([second])
    watch()
    site.measure([third])
    site.link.heal()
    return audit(site, watch)


def agent_killed(folder: Path) -> Outcome:
    """SIGKILL while windows are taken, started again at once."""
    watch = Watch()
    with Site(folder) as site:

        def kill() -> None:
            site.agent.kill()
            site.agent.start()
            watch.start()

        return _hit(site, watch, kill)


def power_lost(folder: Path) -> Outcome:
    """The same, and the last events had not reached the disk."""
    watch = Watch()
    with Site(folder) as site:

        def lose() -> None:
            site.agent.kill()
            (journal,) = (site.agent_folder / "jobs").glob("*/events.jsonl")
            lines = journal.read_bytes().splitlines(keepends=True)
            journal.write_bytes(lines[0] + lines[1][:20])
            site.agent.start()
            watch.start()

        return _hit(site, watch, lose)


def agent_stands_still(folder: Path) -> Outcome:
    """SIGSTOP for 10 s."""
    watch = Watch()
    with Site(folder) as site:

        def stop() -> None:
            pid = site.agent.pid
            os.kill(pid, signal.SIGSTOP)
            _later(10.0, lambda: os.kill(pid, signal.SIGCONT), watch.start)

        return _hit(site, watch, stop)


def host_killed(folder: Path) -> Outcome:
    """SIGKILL to the host in mid-measurement; the time is from its start to its next word."""
    watch = Watch()
    with Site(folder) as site:
        run = run_at(site, site.store_path, count=_COUNT, look_s=_LOOK_S)
        with HostProcess(run) as host:
            host.read_line()
            time.sleep(0.6)
            host.kill()
        watch.start()
        with HostProcess(run) as host:
            while host.read_line():
                watch()
        return audit(site, watch)


def holder_killed(folder: Path) -> Outcome:
    """SIGKILL to a host that holds the board, another waits; the time is until that has it."""
    watch = Watch()
    stores = (folder / "one.db", folder / "other.db")
    with Site(folder) as site:
        one = run_at(site, stores[0], count=_COUNT, look_s=_LOOK_S, lease_s=30.0)
        other = run_at(site, stores[1], first=100, count=_COUNT, look_s=_LOOK_S, lease_s=30.0)
        with HostProcess(one) as dying:
            dying.read_line()
            with HostThread(other) as waiting:
                waiting.read_line()
                dying.kill()
                watch.start()
                waiting.read_line(within_s=60.0)
                watch()
                waiting.wait()
        with HostThread(one) as again:
            again.wait()
        return audit(site, watch, *stores, asked=2 * _COUNT)


def device_disk_full(folder: Path) -> Outcome:
    """No room on the device at the second network; the time is from room to the next event."""
    watch = Watch()
    (folder / "disk").mkdir()
    with SmallDisk(folder / "disk") as disk:
        agent = AgentProcess(folder / "disk", prefix=disk.prefix)
        with Site(folder, agent=agent, seen_as=disk.outside) as site:
            asked = _asked()
            site.measure(asked[:1])
            disk.fill()
            with contextlib.suppress(BoardfrontError):
                site.measure(asked[1:])
            disk.free()
            watch.start()
            site.measure(asked[1:], watch)
            return audit(site, watch)


def host_disk_full(folder: Path) -> Outcome:
    """No room for the store; the time is from the next start, with room, to the first word."""
    watch = Watch()
    (folder / "disk").mkdir()
    with SmallDisk(folder / "disk") as disk, Site(folder) as site:
        run = run_at(site, folder / "disk" / "store.db", count=_COUNT, look_s=_LOOK_S)
        with HostProcess(run, prefix=disk.prefix) as host:
            host.read_line()
            disk.fill()
            host.wait()
        disk.free()
        watch.start()
        with HostProcess(run, prefix=disk.prefix) as host:
            while host.read_line():
                watch()
        # SQLite would look for it on this side of the mount.
        shutil.copyfile(disk.outside / "store.db", folder / "copy.db")
        return audit(site, watch, folder / "copy.db")


def _later(after_s: float, *calls: Callable[[], None]) -> None:
    def act() -> None:
        for call in calls:
            call()

    threading.Timer(after_s, act).start()


_FAULTS: dict[str, Callable[[Path], Outcome]] = {
    "none": undisturbed,
    "connection cut in mid-upload": cut_in_upload,
    "connection cut in mid-measurement": cut_in_measurement,
    "half-open connection": half_open,
    "no connection for 10 s": away,
    "2 s latency each way": slow,
    "20 % loss": lossy,
    "agent killed and started": agent_killed,
    "device without power, last events lost": power_lost,
    "agent stands still for 10 s": agent_stands_still,
    "host killed and started": host_killed,
    "host killed that holds the board": holder_killed,
    "device's disk full, then not": device_disk_full,
    "host's disk full, then not": host_disk_full,
}


if __name__ == "__main__":
    sys.exit(main())
