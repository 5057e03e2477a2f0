"""Another process that writes a store: `python -m ... PATH WRITER COUNT [die]`."""

from __future__ import annotations

import os
import signal
import sys

from tests.latency_models import samples

from boardfront.latency_models.store import MeasurementStore

if __name__ == "__main__":
    path, writer, count, *rest = sys.argv[1:]
    with MeasurementStore(path) as store:
        for i in range(int(count)):
            store.append(samples.measurement(job_id=f"job-{writer}-{i}"))
            store.append(samples.measurement(job_id=f"shared-{i}"))
        if rest == ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
