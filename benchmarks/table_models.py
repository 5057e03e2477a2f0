"""What each model of a table is worth on networks that it has not seen.

Of each table all models are fitted on its calibration networks alone and judged on its held-out
ones, whose times built nothing. The intervals' cover is the share of measured times inside the
models' own 95 % intervals; the truth's is the half width of its own. A table needs no device.

Usage: python benchmarks/table_models.py TABLE.json ...
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.table_features import features_of
from boardfront.latency_models.accuracy import Share, assess
from boardfront.latency_models.table import NetworkRole, NetworkTime, Table
from boardfront.latency_models.table_models import candidates
from boardfront.latency_models.table_residual import networks_of
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.latency_models.blocks import Decomposition


def main() -> int:
    """Judge the models of each table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="+", type=Path)
    # A few networks give the Gaussian process bounds that it says it has reached.
    warnings.simplefilter("ignore")
    for path in parser.parse_args().table:
        judge(path)
    return 0


def judge(path: Path) -> None:
    """Print a row for each model of a table."""
    table = Table.load(path)
    known, unseen = (
        networks_of(table, role) for role in (NetworkRole.CALIBRATION, NetworkRole.HELD_OUT)
    )
    half = [(one.high_s - one.low_s) / 2 / one.time_s for one in unseen]
    print(
        f"{path.name}: fitted on {len(known)} networks, judged on {len(unseen)}; the truth is "
        f"+-{np.median(half):.1%} in the median, over +-{np.percentile(half, 90):.1%} for a tenth"
    )
    print("| model | MAPE | bias | within 5 % | within 10 % | worst | Spearman | covered |")
    print("|---|---|---|---|---|---|---|---|")
    for candidate in candidates(table, features_of(table)):
        model = candidate.make()
        try:
            model.fit(*_pairs(known))
        except WrongInputError as problem:
            print(f"| {candidate.name} | {problem} |")
            continue
        decompositions, times_s = _pairs(unseen)
        found = model.predict(decompositions)
        measured_s = np.array(times_s)
        covered = np.mean((found.low_s <= measured_s) & (measured_s <= found.high_s))
        worth = assess(found.median_s, measured_s)
        ranks = "-" if worth.spearman is None else f"{worth.spearman:.3f}"
        print(
            f"| {candidate.name} | {worth.mape:.2%} | {worth.bias:+.2%} "
            f"| {_share(worth.within_5)} | {_share(worth.within_10)} | {worth.worst:+.1%} "
            f"| {ranks} | {covered:.0%} |"
        )


def _share(share: Share) -> str:
    return f"{share.value:.0%} ({100 * share.low:.0f}-{100 * share.high:.0f})"


def _pairs(networks: list[NetworkTime]) -> tuple[list[Decomposition], list[float]]:
    return [one.decomposition for one in networks], [one.time_s for one in networks]


if __name__ == "__main__":
    sys.exit(main())
