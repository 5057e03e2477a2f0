"""How long writing the step of each published ET-NAS model takes, and how large its file is.

`python benchmarks/training_graph.py [--batch 64]`. Nothing is run; a step's own time is measured
by `boardfront measure --task training-step-graph`.
"""

from __future__ import annotations

import argparse
import statistics
import time

from boardfront.latency_models.training_graph import training_step
from boardfront.search.spaces import catalog

# Table 10 of the paper, paired with its figures as the counts prove.
PUBLISHED = {
    "A": "2-_32_2-11-112-1121112",
    "B": "031-_32_1-1-221-11121",
    "C": "011-_32_2-211-2-111122",
    "D": "031-_64_1-1-221-11121",
    "E": "011-_64_21-211-121-11111121",
    "F": "10001-_64_4-111-11122-1111111111111112",
    "G": "211-_64_41-211-121-11111121",
    "H": "10001-_64_4-111111111-211112112111-11111",
    "I": "02031-a02_64_111-2111-21111111111111111111111-211",
    "J": "211-_64_411-2111-21111111111111111111111-211",
    "K": "02031-a02_64_1121-111111111111111111111111111-21111111211111-1",
    "L": "23311-a02c12_64_211-2111-21111111111111111111111-211",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    space = catalog.load("etnas", {})
    print("model  nodes  step nodes  written, s (median, range)  file, KB")
    for name, encoding in PUBLISHED.items():
        model = space.write_onnx(encoding, batch=asked.batch)  # type: ignore[attr-defined]
        times_s = []
        for _ in range(asked.repeats):
            start_s = time.perf_counter()
            step = training_step(model)
            content = step.SerializeToString()
            times_s.append(time.perf_counter() - start_s)
        print(
            f"{name:5}  {len(model.graph.node):5}  {len(step.graph.node):10}  "
            f"{statistics.median(times_s):8.2f} ({min(times_s):.2f}-{max(times_s):.2f})"
            f"{len(content) / 1000:17.0f}"
        )


if __name__ == "__main__":
    main()
