"""Is our training step with torch as fast as the loop that a person would write?

The person's: the space's own torch module, `cross_entropy`, `backward`, `SGD.step`, in one plain
loop. Ours: the network that the agent rebuilds from the artifact, run through the backend as a job
would. Both in one process with one thread, one step of each in turn. Printed: the medians, their
ratio, and its 95 % interval by bootstrap over pairs of steps.

Usage: python benchmarks/step_against_loop.py [--networks A B C R18 spos] [--batch 8]
       [--resolution 64] [--steps 60] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional
from training_steps import RESNETS, published

from boardfront.device_agent.backends.torch import TorchBackend
from boardfront.host.networks import NetworkChoice, TaskChoice, read_network
from boardfront.protos.records import Task, TaskKind
from boardfront.search.spaces import catalog

_SPOS = "3357-x7x3-33573x57-5xx3"
_RESAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["A", "B", "C", "R18", "R50", "spos"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.networks:
        rounds = [compare(name, options) for _ in range(options.rounds)]
        rows.append(summary(name, rounds))
        sys.stderr.write(f"{name} done\n")
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'network':<8} {'loop':>10} {'ours':>10}  ours/loop  95 % interval   rounds")
    for row in rows:
        rounds = " ".join(f"{one:.3f}" for one in row["rounds"])
        print(
            f"{row['network']:<8} {row['loop_s'] * 1e3:7.2f} ms {row['ours_s'] * 1e3:7.2f} ms  "
            f"{row['ratio']:9.3f}  {row['low']:.3f}..{row['high']:.3f}   {rounds}"
        )
    return 0


def compare(name: str, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of each step of the loop and of ours, taken in turn."""
    space_name, encoding, settings = chosen(name, options.resolution)
    backend = ours(space_name, encoding, settings, options)
    step = Loop(space_name, encoding, settings, options)
    for _ in range(5):
        step()
        backend.run_timed(1)
    loops_s, ours_s = [], []
    for _ in range(options.steps):
        begin_s = time.perf_counter()
        step()
        loops_s.append(time.perf_counter() - begin_s)
        ours_s.append(backend.run_timed(1))
    return np.array(loops_s), np.array(ours_s)


def chosen(name: str, resolution: int) -> tuple[str, str, dict[str, object]]:
    settings: dict[str, object] = {"resolution": resolution}
    if name == "spos":
        return "spos", _SPOS, settings
    if name in RESNETS:
        return "etnas", RESNETS[name], settings | {"stem": "resnet"}
    return "etnas", published()[name], settings


class Loop:
    """The step that a person would write."""

    def __init__(
        self, space: str, encoding: str, settings: dict[str, object], options: argparse.Namespace
    ) -> None:
        torch.manual_seed(0)
        loaded = catalog.load(space, settings)
        self._network = loaded.build(encoding).train()  # type: ignore[attr-defined]
        channels = int(next(self._network.parameters()).shape[1])
        size = options.resolution
        self._images = torch.randn(options.batch, channels, size, size)
        classes = self._network(self._images).shape[1]
        self._labels = torch.randint(0, classes, (options.batch,))
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=1e-6, momentum=0.9, weight_decay=4e-5
        )

    def __call__(self) -> None:
        loss = functional.cross_entropy(self._network(self._images), self._labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def ours(
    space: str, encoding: str, settings: dict[str, object], options: argparse.Namespace
) -> TorchBackend:
    choice = NetworkChoice(text=encoding, space=space, settings=settings)
    network = read_network(choice, TaskChoice(kind=TaskKind.TRAINING_STEP, batch=options.batch))
    info = TorchBackend.probe()
    backend = TorchBackend(TorchBackend.resolve({}, info))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(network.content)
        task = Task(kind=TaskKind.TRAINING_STEP, batch=options.batch)
        backend.load(file, task, network.input_shapes)
    backend.compile()
    return backend


def summary(name: str, rounds: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    loops_s = np.concatenate([one for one, _ in rounds])
    ours_s = np.concatenate([one for _, one in rounds])
    rng = np.random.default_rng(0)
    picked = rng.integers(0, len(loops_s), (_RESAMPLES, len(loops_s)))
    ratios = np.median(ours_s[picked], axis=1) / np.median(loops_s[picked], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "network": name,
        "loop_s": float(np.median(loops_s)),
        "ours_s": float(np.median(ours_s)),
        "ratio": float(np.median(ours_s) / np.median(loops_s)),
        "low": float(low),
        "high": float(high),
        "rounds": [median(b) / median(a) for a, b in rounds],
    }


if __name__ == "__main__":
    sys.exit(main())
