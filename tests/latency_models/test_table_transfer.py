"""A new board's table from another board's: what is drawn, what is written, how it predicts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models.table_samples import (
    CALL_S,
    KINDS,
    MEMBERS,
    block_s,
    network_time,
    table,
)

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey, Decomposition
from boardfront.latency_models.predictors import BlockFeatures, LatencyModel
from boardfront.latency_models.table import Table, from_json, to_json
from boardfront.latency_models.table_diff import diff
from boardfront.latency_models.table_exchange import export_table, import_any
from boardfront.latency_models.table_models import choose_model, predictor_of
from boardfront.latency_models.table_parts import EntryOrigin, NetworkRole, NetworkTime
from boardfront.latency_models.table_transfer import SIZES, Source, draw, transferred
from boardfront.latency_models.table_verify import verify
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.latency_models.table_chains import Chain
    from boardfront.latency_models.table_plan import WholeNetwork

# The new board: half as fast a call, and blocks of other ratios than the source's.
_KIND_RATIO = {"a": 2.0, "b": 2.4, STEM: 1.5, HEAD: 3.0}
_SAMPLES = (MEMBERS[0], MEMBERS[3], MEMBERS[5], MEMBERS[6], MEMBERS[9], MEMBERS[10], MEMBERS[15])
_HELD_OUT = (MEMBERS[1], MEMBERS[7], MEMBERS[12], MEMBERS[14])


def sizes(block: BlockKey) -> tuple[float, float, float]:
    """Return what a block of this shape would count."""
    params = float(block.in_channels * block.out_channels * (2 if block.kind == "b" else 1))
    return params * block.out_resolution**2, float(block.out_channels * block.resolution), params


def on_new_board_s(chain: Chain) -> float:
    """Return a chain's time on the new board, seconds."""
    return 2 * CALL_S + sum(_KIND_RATIO[block.kind] * block_s(block) for block in chain)


def measured(
    samples: Sequence[WholeNetwork] = _SAMPLES, held_out: Sequence[WholeNetwork] = _HELD_OUT
) -> Table:
    """Return what a build without blocks leaves on the new board."""

    def times(networks: Sequence[WholeNetwork], role: NetworkRole) -> list[NetworkTime]:
        return [
            replace(
                network_time(one, role=role),
                time_s=on_new_board_s(one.chain),
                low_s=0.99 * on_new_board_s(one.chain),
                high_s=1.01 * on_new_board_s(one.chain),
                repeats_s=(),
            )
            for one in networks
        ]

    base_s = on_new_board_s(MEMBERS[0].chain)
    return replace(
        table(),
        device_name="new board",
        base_s=base_s,
        base_low_s=0.99 * base_s,
        base_high_s=1.01 * base_s,
        fixed_s=0.0,
        fixed_low_s=0.0,
        fixed_high_s=0.0,
        entries=(),
        networks=(
            *times(samples, NetworkRole.CALIBRATION),
            *times(held_out, NetworkRole.HELD_OUT),
        ),
        calibration=None,
        residual=None,
    )


def source(made: Table | None = None) -> Source:
    """Return the other board's table."""
    return Source(made or table(), "other.json", sizes)


def networks() -> list[Decomposition]:
    """Return the whole space."""
    return [Decomposition(blocks=one.chain) for one in MEMBERS]


@pytest.mark.parametrize("known", [0, 6, 15])
def test_the_table_predicts_what_the_model_does(known: int) -> None:
    # Of 6 networks the source's sums are calibrated; of 15 a model of its networks is chosen.
    other = table(skew=1.1)
    other = replace(other, networks=other.networks[:known])
    made = transferred(measured(), source(other), KINDS)
    model = source(other).transfer_model()
    model.fit(
        [Decomposition(blocks=one.chain) for one in _SAMPLES],
        [on_new_board_s(one.chain) for one in _SAMPLES],
    )
    said_s = model.predict(networks()).median_s
    assert [made.predict_s(one) for one in networks()] == pytest.approx(said_s.tolist(), rel=1e-9)
    assert made.calibration is None
    features = source(other).features
    assert isinstance(features, BlockFeatures)
    assert features.names == SIZES


def test_all_blocks_come_from_the_source_with_intervals() -> None:
    made = transferred(measured(), source(), KINDS)
    assert [entry.block for entry in made.entries] == list(KINDS)
    assert {entry.origin for entry in made.entries} == {EntryOrigin.TRANSFERRED}
    assert {entry.count for entry in made.entries} == {0}
    assert made.missing == ()
    assert made.is_finished
    truth = {block: _KIND_RATIO[block.kind] * block_s(block) for block in KINDS}
    inside = [entry.low_s <= truth[entry.block] <= entry.high_s for entry in made.entries]
    assert sum(inside) >= 0.9 * len(inside)
    assert all(entry.low_s < entry.time_s < entry.high_s for entry in made.entries)
    assert made.fixed_low_s < made.fixed_s < made.fixed_high_s


def test_it_says_where_it_came_from_and_whether_it_was_worth_it() -> None:
    other = table()
    made = transferred(measured(), source(other), KINDS)
    origin = made.transfer
    assert origin is not None
    assert (origin.file, origin.device_name) == ("other.json", "board")
    assert origin.digest == other.content_digest
    assert (origin.networks, origin.task) == (len(_SAMPLES), "inference, batch 1")
    mine, factor, macs, alone = origin.rivals
    assert (mine.name, macs.name) == ("transferred", "multiply-accumulates")
    assert alone.name == "without the source"
    assert factor.name.startswith("source x 2.")
    assert mine.mape < factor.mape < macs.mape
    assert mine.mape < alone.mape
    assert made.residual is not None
    assert mine.mape == pytest.approx(made.residual.mape)
    assert made.residual.networks == len(_HELD_OUT)
    # A factor of its own: the median of the samples' ratios.
    predict = predictor_of(other).model.predict
    chains = [Decomposition(blocks=one.chain) for one in _SAMPLES]
    times_s = [on_new_board_s(one.chain) for one in _SAMPLES]
    ratio = float(np.median(times_s / predict(chains).median_s))
    assert factor.name == f"source x {ratio:.4g}"


def test_held_out_networks_are_never_fitted_on() -> None:
    made = transferred(measured(), source(), KINDS)
    slow = measured()
    judges = tuple(
        one
        if one.role is NetworkRole.CALIBRATION
        else replace(one, time_s=3 * one.time_s, low_s=one.time_s, high_s=4 * one.time_s)
        for one in slow.networks
    )
    other = transferred(replace(slow, networks=judges), source(), KINDS)
    assert other.entries == made.entries
    assert other.residual is not None
    assert other.residual.mape > 0.5
    assert transferred(measured(held_out=()), source(), KINDS).residual is None


def test_a_search_predicts_the_same_with_intervals_of_the_held_out() -> None:
    made = transferred(measured(), source(), KINDS)
    predictor = predictor_of(made)
    assert isinstance(predictor.model, LatencyModel)
    assert "transferred" in predictor.name
    assert predictor.networks == len(_HELD_OUT)
    found = predictor.model.predict(networks())
    assert found.median_s.tolist() == pytest.approx([made.predict_s(one) for one in networks()])
    for network in made.networks:
        if network.role is NetworkRole.HELD_OUT:
            at = predictor.model.predict([network.decomposition])
            assert at.low_s[0] <= network.time_s <= at.high_s[0]
    # Its networks made its blocks: they choose no model.
    assert choose_model(made) is None
    alone = predictor_of(transferred(measured(held_out=()), source(), KINDS))
    assert (alone.mape, alone.networks) == (None, 0)


def test_too_few_networks_make_no_entries_yet() -> None:
    made = transferred(measured(samples=_SAMPLES[:2]), source(), KINDS)
    assert made.entries == ()
    assert made.missing == tuple(block.text for block in KINDS)
    assert not made.is_finished
    assert made.transfer is not None
    assert (made.transfer.networks, made.transfer.rivals) == (0, ())


def test_what_the_source_lacks_is_missing() -> None:
    lacking = MEMBERS[0].chain[1]
    other = table()
    other = replace(other, entries=tuple(e for e in other.entries if e.block != lacking))
    usable = [one for one in MEMBERS if lacking not in one.chain]
    made = transferred(measured(samples=usable[:4], held_out=usable[4:]), source(other), KINDS)
    assert made.missing == (lacking.text,)
    assert len(made.entries) == len(KINDS) - 1


def test_without_counts_the_blocks_themselves_have_to_do() -> None:
    plain = Source(table(), "other.json", lambda _block: ())
    assert plain.features is None
    made = transferred(measured(), plain, KINDS)
    assert made.transfer is not None
    assert len(made.transfer.rivals) == 3
    assert made.residual is not None
    assert made.residual.mape < 0.05


def test_a_transferred_table_is_a_source_too() -> None:
    first = transferred(measured(), source(), KINDS)
    second = transferred(measured(), Source(first, "first.json", sizes), KINDS)
    assert second.residual is not None
    assert second.residual.mape < 0.02
    assert second.transfer is not None
    assert second.transfer.digest == first.content_digest


def test_a_source_without_blocks_is_refused() -> None:
    with pytest.raises(WrongInputError, match=r"other\.json: expected a table with blocks"):
        source(replace(table(), entries=()))


@pytest.mark.parametrize("name", ["new.json", "new.yaml"])
def test_it_leaves_and_comes_back(tmp_path: Path, name: str) -> None:
    made = transferred(measured(), source(), KINDS)
    assert from_json(to_json(made), "here") == made
    export_table(made, tmp_path / name)
    assert import_any(tmp_path / name, name="new") == made
    export_table(made, tmp_path / "new.csv")
    lines = (tmp_path / "new.csv").read_text().splitlines()
    assert sum(",transferred," in line for line in lines) == len(KINDS)
    before = table().times_s
    ratios = [entry.time_s / before[entry.block] for entry in made.entries]
    assert diff(table(), made).ratio == pytest.approx(np.median(ratios))


def test_verifying_it_is_about_whole_networks() -> None:
    made = transferred(measured(), source(), KINDS)
    found = verify(made, measured(samples=()))
    assert found.holds
    assert found.entries == ()
    assert any("come from other.json" in note for note in found.notes)


def test_networks_are_spread_over_the_source_s_times() -> None:
    rng = np.random.default_rng(1)
    times_s, counts = rng.normal(1.0, 0.1, size=300), rng.integers(3, size=(300, 5))
    drawn = draw(times_s, counts, 12, 8, np.random.default_rng(0))
    assert len({*drawn.samples, *drawn.held_out}) == 20
    assert drawn == draw(times_s, counts, 12, 8, np.random.default_rng(0))
    assert drawn != draw(times_s, counts, 12, 8, np.random.default_rng(1))
    # Of each third of the range some, whatever the density; of the first ones as well.
    edges = np.linspace(times_s.min(), times_s.max(), 4)[1:-1]
    for first, fewest in ((12, 2), (6, 1)):
        chosen = times_s[list(drawn.samples[:first])]
        assert np.bincount(np.digitize(chosen, edges), minlength=3).min() >= fewest
    # By chance alone the ends would hardly be met.
    assert times_s[list(drawn.samples)].std() > 1.3 * times_s.std()


def test_of_networks_that_take_about_as_long_the_most_unlike_are_taken() -> None:
    # In each twentieth of the times nine networks are alike, and one is of another block.
    times_s = np.repeat(np.linspace(1, 2, 20), 10) + np.tile(np.linspace(0, 0.01, 10), 20)
    counts = np.zeros((200, 21))
    counts[:, 0] = 4
    for place in range(20):
        counts[10 * place + 7] = 4 * (np.arange(21) == place + 1)
    drawn = draw(times_s, counts, 10, 0, np.random.default_rng(0))
    # The first one has none to be unlike, and one of the many is unlike the others.
    assert sum(index % 10 == 7 for index in drawn.samples) >= 8


def test_held_out_networks_are_drawn_by_chance_alone() -> None:
    times_s, counts = np.linspace(1, 2, 40), np.ones((40, 1))
    often = np.zeros(40)
    for seed in range(400):
        drawn = draw(times_s, counts, 5, 10, np.random.default_rng(seed))
        often[list(drawn.held_out)] += 1
    # Binomial of 400 with a quarter: mean 100, standard deviation 8.7.
    assert np.abs(often - 100).max() < 4 * 8.7


def test_more_networks_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(WrongInputError, match=r"expected 20 networks .*, got 15: ask for fewer"):
        draw(np.ones(15), np.ones((15, 1)), 12, 8, np.random.default_rng(0))
