"""A host that measures networks of `site.request`: as a function, and as a process of its own.

The process says each network that is stored, and ends like the command line: an error of ours is
one line, and its exit code.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.site import Book, Witness, request

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.lease import LeaseKeeper, lease_request
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRun:
    """What a host does.

    Args:
        address: HOST:PORT of the agent.
        store: Its store's file.
        jobs: The agent's folder of jobs.
        book: Folder of the book that it fills.
        first: Number of the first network that it measures.
        count: How many it measures.
        look_s: How long it looks at each.
        lease_s: For so long it holds the device after its last sign of life; 0: it does not.
    """

    address: str
    store: Path
    jobs: Path
    book: Path
    first: int = 0
    count: int
    look_s: float = 0.2
    lease_s: float = 0.0

    def measure(
        self, say: Callable[[str], None], may_go_on: Callable[[], object] = lambda: None
    ) -> None:
        """Measure all, one after the other.

        Args:
            say: Told what is stored and who is waited for.
            may_go_on: Called before all networks but the first.
        """
        if not self.lease_s:
            self._measure(None, say, may_go_on)
            return
        asked = lease_request(
            f"run {self.first}", seed=f"run {self.first}", duration_s=self.lease_s
        )
        address = RemoteAddress(self.address)
        with LeaseKeeper(address, asked, device="board", say=say) as keeper:
            self._measure(keeper, say, may_go_on)

    def _measure(
        self,
        keeper: LeaseKeeper | None,
        say: Callable[[str], None],
        may_go_on: Callable[[], object],
    ) -> None:
        client = Witness(self.address, self.jobs, Book(self.book), lost_after_s=30.0, lease=keeper)
        try:
            with MeasurementStore(self.store) as store:
                measurer = DeviceMeasurer(client, store)
                for number in range(self.first, self.first + self.count):
                    if number > self.first:
                        may_go_on()
                    (found,) = measurer.measure([request(number, min_duration_s=self.look_s)])
                    say(f"stored {number} as {found.id}")
        finally:
            client.close()


def run_at(site: Site, store: Path, **arguments: Any) -> HostRun:
    """Return what another host does with a site's agent; the arguments are those of `HostRun`."""
    common = {"address": site.link.address, "jobs": site.agent_folder / "jobs"}
    return HostRun(**{**common, "book": site.book.folder, "store": store, **arguments})


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    for name in ("store", "jobs", "book"):
        parser.add_argument(name, type=Path)
    for name in ("first", "count"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("look-s", "lease-s"):
        parser.add_argument(f"--{name}", type=float)
    run = HostRun(**vars(parser.parse_args()))
    try:
        run.measure(_say)
    except BoardfrontError as error:
        sys.stderr.write(f"boardfront: {error}\n")
        return error.exit_code
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
