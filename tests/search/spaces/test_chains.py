from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from boardfront.latency_models.blocks import BlockKey
from boardfront.protos.errors import WrongInputError
from boardfront.search.space import Counts, InvalidEncodingError
from boardfront.search.spaces.etnas import COMMON_BLOCKS, EtnasSettings, EtnasSpace
from boardfront.search.spaces.spos import SposSettings, SposSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

SPOS = SposSpace(SposSettings())
COMMON = EtnasSpace.from_settings({"blocks": "common"})
SMALL = EtnasSpace(
    EtnasSettings(
        resolution=40,
        classes=10,
        channels=(16, 32),
        last_channels=(32, 96),
        min_blocks=5,
        max_blocks=5,
        blocks=("020-", "10001-a02"),
    )
)


def test_spos_is_34_blocks_of_which_every_network_takes_22() -> None:
    # Eight places differ, a first one and the others in each of four stages; four choices each.
    kinds = SPOS.block_kinds()
    assert len(kinds) == 1 + 8 * 4 + 1
    assert [kind.text for kind in kinds[:6]] == [
        "stem 3->16 /2 @224",
        "3 16->64 /2 @112",
        "5 16->64 /2 @112",
        "7 16->64 /2 @112",
        "x 16->64 /2 @112",
        "3 64->64 /1 @56",
    ]
    assert kinds[-1].text == "head 640->1000 /1 @7"
    counts = SPOS.decompose("3333-5555-xxxxxxxx-3333").counts
    assert sum(counts.values()) == 22
    assert counts[BlockKey.parse("x 320->320 /1 @14")] == 7


@pytest.mark.parametrize("space", [SPOS, COMMON, SMALL], ids=["spos", "common", "small"])
def test_counts_of_blocks_add_up_to_the_network(space: SposSpace | EtnasSpace) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        encoding = space.sample(rng)
        parts = [space.count_block(block) for block in space.decompose(encoding).blocks]
        assert space.count(encoding) == Counts(
            params=sum(part.params for part in parts),
            macs=sum(part.macs for part in parts),
            activations=sum(part.activations for part in parts),
        )


def test_etnas_lists_the_blocks_of_the_enumerated_members() -> None:
    found = {
        block
        for encoding in enumerate_members(SMALL)
        for block in SMALL.decompose(encoding).blocks
    }
    kinds = SMALL.block_kinds()
    assert kinds is not None
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) == found


def enumerate_members(space: EtnasSpace) -> Iterator[str]:
    settings = space.settings
    # No other digit divides 96 / 16 or 96 / 32.
    for digits in product("1236", repeat=settings.max_blocks):
        for ends in combinations(range(1, settings.max_blocks), 3):
            cuts = [0, *ends, settings.max_blocks]
            row = "".join(digits)
            macro = "-".join(row[a:b] for a, b in pairwise(cuts))
            for block, channels in product(settings.blocks, settings.channels):
                if channels * np.prod([int(d) for d in digits]) in settings.last_channels:
                    yield f"{block}_{channels}_{macro}"


def test_etnas_without_listed_blocks_is_too_large_to_list() -> None:
    assert EtnasSpace(EtnasSettings()).block_kinds() is None
    kinds = COMMON.block_kinds()
    assert kinds is not None
    assert Counter(kind.kind for kind in kinds) == {
        "stem": 3,
        "head": 7,
        **dict.fromkeys(COMMON_BLOCKS, 154),
    }


def test_common_blocks_are_those_of_the_published_models_and_resnets() -> None:
    path = Path(__file__).parent / "etnas_published.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    published = {row["encoding"].partition("_")[0] for row in rows}
    assert len(published) == 7
    assert set(COMMON_BLOCKS) == published | {"020-", "11011-"}
    for row in rows:
        COMMON.validate(row["encoding"])


def test_listed_blocks_restrict_the_space() -> None:
    free = EtnasSpace(replace(SMALL.settings, blocks=()))
    assert SMALL.size * 939_645 == free.size * 2
    assert SMALL.size == len(set(enumerate_members(SMALL)))
    with pytest.raises(
        InvalidEncodingError,
        match=r"position 6: expected one of the space's blocks 020-, 10001-a02, got 10001-$",
    ) as caught:
        SMALL.validate("10001-_16_1-2-1-11")
    assert caught.value.position == 6


def test_a_step_between_listed_blocks_takes_any_other() -> None:
    rng = np.random.default_rng(4)
    parent = "2-_32_2-11-112-1121112"
    children = {COMMON.mutate(parent, rng) for _ in range(500)}
    blocks = {child.partition("_")[0] for child in children}
    assert blocks == set(COMMON_BLOCKS)
    assert {f"{block}_32_2-11-112-1121112" for block in blocks - {"2-"}} <= children


def test_where_no_step_leads_anywhere_another_member_is_drawn() -> None:
    # One block, and rows of five 1s: only where the stages end can differ.
    space = EtnasSpace(replace(SMALL.settings, last_channels=(16,), blocks=("2-",)))
    assert space.size == 4
    rng = np.random.default_rng(5)
    children = {space.mutate("2-_16_11-1-1-1", rng) for _ in range(50)}
    assert children == {"2-_16_1-11-1-1", "2-_16_1-1-11-1", "2-_16_1-1-1-11"}


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("020-", "blocks: expected a list of blocks .* or 'common', got '020-'"),
        ([20], r"blocks: expected a list of blocks .*, got \(20,\)"),
        (["020-", "025-"], "blocks: invalid encoding '025-' at position 2"),
        (["020-_"], "blocks: invalid encoding '020-_' at position 4: .* or the end after"),
        (["020-", "2-", "020-"], "blocks: expected each block once"),
    ],
)
def test_wrong_lists_of_blocks_say_what_was_expected(blocks: object, message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        EtnasSpace.from_settings({"blocks": blocks})


def test_a_space_of_one_member_is_refused() -> None:
    only = {"blocks": ["2-"], "channels": [16], "last_channels": [16], "max_blocks": 4}
    with pytest.raises(WrongInputError, match="two architectures or more, got one block 2-"):
        EtnasSpace.from_settings(only)


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (SPOS, "3 64->96 /1 @56", "expected as many channels out as in, an even number, got"),
        (SPOS, "3 64->64 /2 @56", "expected more channels out than in, an even number, got"),
        (SPOS, "3 64->65 /2 @56", "expected more channels out than in, an even number, got"),
        (SPOS, "3 64->96 /3 @56", "expected a block of stride 1 or 2, got 3 64->96 /3 @56"),
        (SPOS, "35 64->64 /1 @56", "invalid encoding '35' at position 0: expected a block, one"),
        (COMMON, "020- 32->40 /1 @56", "multiples of 16 channels, got 020- 32->40 /1 @56"),
        (COMMON, "020- 32->32 /4 @56", "expected a block of stride 1 or 2, got 020-"),
        (COMMON, "020-a03 32->32 /1 @56", "invalid encoding '020-a03' at position 6"),
    ],
)
def test_blocks_of_a_wrong_shape_are_refused(
    space: SposSpace | EtnasSpace, text: str, message: str
) -> None:
    with pytest.raises(WrongInputError, match=message) as caught:
        space.count_block(BlockKey.parse(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "chain"),
    [
        (
            SposSpace(SposSettings(resolution=27, classes=7)),
            (
                "stem 3->16 /2 @27",
                "x 16->20 /2 @14",
                "7 20->20 /1 @7",
                "x 20->24 /2 @7",
                "head 24->7 /1 @4",
            ),
        ),
        (
            SMALL,
            (
                "stem 3->32 /4 @40",
                "23311-a02c12 32->64 /2 @10",
                "440- 64->16 /1 @5",
                "020- 16->16 /1 @5",
                "head 16->10 /1 @5",
            ),
        ),
        (SMALL, ("stem 3->16 /4 @40", "head 16->10 /1 @10")),
    ],
    ids=["spos", "etnas", "empty"],
)
def test_chains_of_no_member_are_checked_and_counted(
    space: SposSpace | EtnasSpace, chain: tuple[str, ...]
) -> None:
    onnx = pytest.importorskip("onnx")
    keys = [BlockKey.parse(text) for text in chain]
    model = space.write_chain(keys, batch=2)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    statistics = ("running_mean", "running_var")
    learned = [
        np.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.endswith(statistics)
    ]
    assert sum(learned) == sum(space.count_block(key).params for key in keys)


def test_decomposing_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, numpy as np\n"
        "from boardfront.search.spaces import catalog\n"
        "space = catalog.load('etnas', {'blocks': 'common'})\n"
        "space.decompose(space.sample(np.random.default_rng(0)))\n"
        "assert len(space.block_kinds()) == 1396\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
