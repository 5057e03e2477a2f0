"""Another process that writes a store: `python -m ... STORE WRITER COUNT [die]`."""

from __future__ import annotations

import os
import signal
import sys

from tests.latency_models import samples

from boardfront.latency_models.store import MeasurementStore


def write(place: str, writer: int, count: int) -> None:
    """Append own and shared jobs; put the first of each in quarantine."""
    with MeasurementStore(place) as store:
        for i in range(count):
            own = store.append(samples.measurement(job_id=f"job-{writer}-{i}"))
            shared = store.append(samples.measurement(job_id=f"shared-{i}"))
            if i == 0:
                store.quarantine([own.id or 0, shared.id or 0], f"of writer {writer}")


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    if sys.argv[4:] == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
