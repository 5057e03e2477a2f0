"""What do 100,000 wrong inputs do to an agent and to a host?

Every message of the contract, the artifacts' way from the wire to a runtime, the journal on the
disk, a board's credentials, all methods of a real agent over a socket, and the host's client
under an agent gone mad.
Inputs are right ones that were spoilt: bits, bytes, pieces, or single fields. Each has 10 s; none
may crash anything, leave a file outside the agent's folder, or come to anything but an answer or
a refusal that is foreseen. Exits with 1 at the first that does, and names the target, the seed
and the input.

Usage: python benchmarks/fuzz.py [--inputs 100000] [--seed 1] [--target NAME]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fuzz import credentials, replies, targets, wire
from tests.fuzz.mutation import Mutator

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    Run = Callable[[Mutator, int, Path], Counter[str]]

_SHARES: dict[str, tuple[float, Run]] = {
    "messages": (0.39, lambda mutator, count, _: targets.fuzz_messages(mutator, count)),
    "artifacts": (0.25, lambda mutator, count, _: targets.fuzz_artifacts(mutator, count)),
    "requests": (0.2, wire.fuzz_wire),
    "replies": (0.10, lambda mutator, count, _: replies.fuzz_replies(mutator, count)),
    "uploads": (0.03, targets.fuzz_uploads),
    "credentials": (0.01, credentials.fuzz_credentials),
    "journal": (0.019, targets.fuzz_journal),
    # Each is a process with a runtime in it.
    "runs": (0.001, wire.fuzz_runs),
}
"""Of each target: its share of the inputs, and what takes them."""


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=_SHARES, help="only this one, with its share")
    options = parser.parse_args()
    # Each folder that is moved aside would be told.
    logging.disable(logging.CRITICAL)
    for name in [options.target] if options.target else _SHARES:
        share, run = _SHARES[name]
        count = max(1, round(share * options.inputs))
        begin_s = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes = run(Mutator(options.seed), count, Path(folder))
            except AssertionError as error:
                print(f"{name}, seed {options.seed}: {error}")
                return 1
        took_s = time.monotonic() - begin_s
        print(f"{name}: {count} inputs, {took_s:.0f} s")
        for outcome, times in outcomes.most_common():
            print(f"  {times:>7} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
