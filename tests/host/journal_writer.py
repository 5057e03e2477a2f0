"""Another process that writes a journal until it is killed: `python -m ... PATH`."""

from __future__ import annotations

import itertools
import sys

from boardfront.host.journal import Journal
from boardfront.host.journal_records import EstimatorReady

if __name__ == "__main__":
    journal = Journal(sys.argv[1])
    for number in itertools.count():
        journal.append(EstimatorReady(state_id=f"state-{number}" * 50))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
