"""The model that a table's whole networks speak for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.latency_models.table_samples import MEMBERS, chain_s, table

from boardfront.latency_models.blocks import Decomposition
from boardfront.latency_models.predictors import BlockFeatures
from boardfront.latency_models.table_models import candidates, choose_model


def test_where_times_add_up_the_sum_is_chosen() -> None:
    choice = choose_model(table())
    assert choice is not None
    assert choice.name == "additive, calibrated"
    assert choice.networks == len(table().networks)
    found = choice.model.predict([Decomposition(blocks=one.chain) for one in MEMBERS])
    expected = np.array([chain_s(one.chain) for one in MEMBERS])
    np.testing.assert_allclose(found.median_s, expected, rtol=1e-3)


def test_with_features_what_is_left_over_can_be_learned() -> None:
    made = table()
    blocks = [entry.block for entry in made.entries]
    features = BlockFeatures(blocks, np.ones((len(blocks), 1)), ["blocks"])
    names = [one.name for one in candidates(made, features)]
    assert names[:2] == [one.name for one in candidates(made)]
    assert len(names) == 5
    assert len(set(names)) == 5
    for one in candidates(made, features)[2:]:
        assert one.make().name.startswith("additive")


def test_few_networks_choose_nothing() -> None:
    made = table()
    assert choose_model(replace(made, networks=made.networks[:7])) is None
    # Networks whose blocks have no entries count as none.
    assert choose_model(replace(made, entries=made.entries[:2])) is None
