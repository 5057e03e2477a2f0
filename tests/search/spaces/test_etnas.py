from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from boardfront.protos.errors import WrongInputError
from boardfront.search.algorithms.base import Evaluated
from boardfront.search.algorithms.nsga2 import Nsga2
from boardfront.search.space import Counts, InvalidEncodingError
from boardfront.search.spaces.etnas import (
    Architecture,
    Block,
    EtnasSettings,
    EtnasSpace,
    decode,
    encode,
)
from boardfront.search.spaces.etnas.block import count_blocks, format_block, possible_skips
from boardfront.search.spaces.etnas.counting import count_block
from boardfront.search.spaces.etnas.members import count_members, sample_block
from boardfront.search.spaces.etnas.plan import BlockPlace, plan_block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

IMAGENET = EtnasSpace(EtnasSettings())
RESNET = EtnasSpace(EtnasSettings(stem="resnet"))
SMALL = EtnasSpace(
    EtnasSettings(
        resolution=32, classes=10, channels=(16, 32), last_channels=(16, 32, 64), max_blocks=8
    )
)

# Origin: NASOA (2020), Table 10; its encodings are paired with its rows as the counts prove.
PUBLISHED = list(
    csv.DictReader((Path(__file__).parent / "etnas_published.csv").read_text().splitlines())
)

# Every rule of a block: groups, depthwise with and without a change of channels, the stride on
# the second operator and on a pointwise one, skips of both kinds over and behind the stride.
BLOCKS = (
    "2-",
    "1-",
    "020-",
    "10001-",
    "14441-",
    "431-a01c02",
    "12031-a01a02c12",
    "23311-a02c12",
    "10222-c03c13",
    "02031-a03a13c03",
    "02040-c01c12c23",
)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["model"])
@pytest.mark.parametrize(
    ("figure", "field", "unit"),
    [("params_m", "params", 1e6), ("gmacs", "macs", 1e9), ("mact", "activations", 1e6)],
)
def test_published_figures(row: dict[str, str], figure: str, field: str, unit: float) -> None:
    # Tolerance: none; rounded to as many decimals as the table prints.
    printed = row[figure]
    decimals = len(printed.partition(".")[2])
    counted = getattr(IMAGENET.count(row["encoding"]), field) / unit
    assert f"{counted:.{decimals}f}" == printed


def test_there_are_36_published_figures() -> None:
    assert len(PUBLISHED) == 12
    assert {row["model"] for row in PUBLISHED} == {f"ET-NAS-{letter}" for letter in "ABCDEFGHIJKL"}


@pytest.mark.parametrize(
    ("encoding", "params"),
    [
        # Exact: parameters of torchvision's resnet18, resnet34, resnet50, wide_resnet50_2.
        ("020-_64_11-21-21-21", 11_689_512),
        ("020-_64_111-2111-211111-211", 21_797_672),
        ("10001-_64_411-2111-211111-211", 25_557_032),
        ("11011-_64_411-2111-211111-211", 68_883_240),
    ],
)
def test_resnets_are_exact_with_the_resnet_stem(encoding: str, params: int) -> None:
    assert RESNET.count(encoding).params == params
    assert IMAGENET.count(encoding).params != params


@pytest.mark.parametrize(
    ("encoding", "architecture"),
    [
        (
            "2-_32_2-11-112-1121112",
            Architecture(
                block=Block(operators="2", ratios=""),
                channels=32,
                stages=("2", "11", "112", "1121112"),
            ),
        ),
        (
            "23311-a02c12_64_211-2111-211-211",
            Architecture(
                block=Block(operators="231", ratios="31", skips=("a02", "c12")),
                channels=64,
                stages=("211", "2111", "211", "211"),
            ),
        ),
    ],
)
def test_encodings_decode_and_encode(encoding: str, architecture: Architecture) -> None:
    assert decode(encoding, IMAGENET.settings) == architecture
    assert encode(architecture) == encoding


def test_decoding_undoes_encoding() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        encoding = IMAGENET.sample(rng)
        assert encode(decode(encoding, IMAGENET.settings)) == encoding


@pytest.mark.parametrize(
    ("encoding", "position", "rule"),
    [
        ("", 0, "expected an operator, one of 0, 1, 2, 3, 4, got the end"),
        ("5-_16_1-1-1-1", 0, "expected an operator, .* got '5'"),
        ("05-_16_1-1-1-1", 1, "expected a ratio, .* or '-' after the operators, got '5'"),
        ("02-_16_1-1-1-1", 2, "expected an operator, .* after the ratio, got '-'"),
        ("0202020-_16_1-1-1-1", 5, "expected '-' after the operators, .* at most 3, got '2'"),
        ("020_16_1-1-1-1", 3, "expected a ratio, .* got '_'"),
        ("020-b02_16_1-1-1-1", 4, "expected a skip, 'a' or 'c' and two nodes, .* got 'b'"),
        ("020-a20_16_1-1-1-1", 5, "a node that a skip comes from, one of 0, 1, got '2'"),
        ("020-a11_16_1-1-1-1", 6, "a node behind node 1 that the skip goes into, one of 2"),
        ("020-a03_16_1-1-1-1", 6, "one of 1, 2, got '3'"),
        ("020-a0_16_1-1-1-1", 6, "one of 1, 2, got '_'"),
        ("020-c01a01_16_1-1-1-1", 7, "ascending order, got a01 after c01"),
        ("020-a01a01_16_1-1-1-1", 7, "different skips .* got a01 after a01"),
        ("02020-a01a02a12c01_16_1-1-1-1", 15, "expected '_' after 3 skips, got 'c'"),
        ("020-_64_1-1-1-1", 5, "the channels after the stem, one of 16, 32, got '64'"),
        ("020-_016_1-1-1-1", 5, "one of 16, 32, got '016'"),
        ("020-_16-1-1-1-1", 7, "expected '_' after the channels, got '-'"),
        ("020-__1-1-1-1", 5, "one of 16, 32, got '_'"),
        ("020-", 4, "or '_' after the block, got the end"),
        ("020-_16", 7, "expected '_' after the channels, got the end"),
        ("020-_16_1-01-1-1", 10, "a multiple from 1 to 9, the first block of stage 2, got '0'"),
        ("020-_16_1--1-1", 10, "the first block of stage 2, got '-'"),
        ("020-_16_1-1x-1-1", 11, "a multiple from 1 to 9 or '-' in stage 2, got 'x'"),
        ("020-_16_1-1-1", 13, "expected '-' and stage 4 of 4, .* got the end"),
        ("020-_16_1-1-1-1-1", 15, "expected 4 stages, got '-' after them"),
        ("020-_16_111-111-111-1", 18, "expected at most 8 blocks"),
        ("020-_16_1-3-1-1", 10, "one of 16, 32, 64 channels; 16 x 3 leads to none of them"),
        ("020-_32_1-1-4-1", 12, "32 x 4 leads to none"),
        ("020-_16_1-1-1-1 ", 15, "from 1 to 9 or the end in stage 4, got ' '"),
    ],
)
def test_wrong_encoding_gives_position_and_rule(encoding: str, position: int, rule: str) -> None:
    with pytest.raises(InvalidEncodingError, match=f"at position {position}: .*{rule}"):
        SMALL.validate(encoding)


def test_limits_are_told_at_the_end_of_the_encoding() -> None:
    strict = EtnasSpace(EtnasSettings(min_blocks=6, last_channels=(512, 1024, 2048)))
    with pytest.raises(
        InvalidEncodingError, match="position 15: expected at least 6 blocks, got 4"
    ):
        strict.validate("020-_64_2-2-2-1")
    with pytest.raises(InvalidEncodingError, match=r"position 17: .*512, 1024, 2048 .*, got 128"):
        strict.validate("020-_64_111-2-1-1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 0}, "resolution: expected a whole number of at least 1, got 0"),
        ({"stem": "vgg"}, "stem: expected one of etnas, resnet, got 'vgg'"),
        ({"channels": []}, "channels: expected a list of at least one number"),
        ({"channels": 64}, "channels: expected a list of at least one number, got 64"),
        ({"channels": "64"}, "channels: expected a list of at least one number, got '64'"),
        ({"channels": [40]}, "channels: expected multiples of 16, .* got 40"),
        ({"channels": [64, 32]}, "channels: expected ascending numbers"),
        ({"last_channels": [1.5]}, "last_channels: expected a whole number"),
        ({"last_channels": [16]}, r"last_channels: expected one that channels \[32, 64, 128\]"),
        ({"min_blocks": 3}, "min_blocks: expected at least 4, one a stage, got 3"),
        ({"min_blocks": 9, "max_blocks": 8}, "max_blocks: expected at least the 9"),
        ({"depth": 2}, "no setting 'depth': use one of resolution, classes"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        EtnasSpace.from_settings(settings)


def test_blocks_are_counted() -> None:
    # The number in the paper, section 3.1, "5.4 x 10^6 unique blocks", is all blocks of three
    # operators with three skips in every order, repeated ones included.
    assert 5**3 * 5**2 * len(possible_skips(3)) ** 3 == 5_400_000
    assert count_blocks() == 939_645
    rng = np.random.default_rng(0)
    drawn = {format_block(sample_block(rng)) for _ in range(100)}
    for block in drawn:
        IMAGENET.validate(f"{block}_32_1-1-1-1")


def enumerate_macros(settings: EtnasSettings) -> set[str]:
    """List every CHANNEL_MACRO that the space accepts, by trying all of them."""
    found = set()
    for length in range(settings.min_blocks, settings.max_blocks + 1):
        for digits in product("123456789", repeat=length):
            for cuts in product((True, False), repeat=length - 1):
                if sum(cuts) == 3:
                    macro = "".join(
                        digit + "-" * cut
                        for digit, cut in zip(digits, (*cuts, False), strict=True)
                    )
                    found |= {f"{channels}_{macro}" for channels in settings.channels}
    return {macro for macro in found if accepts(settings, f"0-_{macro}")}


def accepts(settings: EtnasSettings, encoding: str) -> bool:
    try:
        decode(encoding, settings)
    except InvalidEncodingError:
        return False
    return True


def test_size_and_odds_are_those_of_the_enumerated_space() -> None:
    settings = EtnasSettings(channels=(16, 32), last_channels=(32, 96), max_blocks=4)
    macros = enumerate_macros(settings)
    assert count_members(settings) == EtnasSpace(settings).size == len(macros) * count_blocks()
    rng = np.random.default_rng(2)
    space = EtnasSpace(settings)
    draws = 100 * len(macros)
    counts = Counter(space.sample(rng).partition("_")[2] for _ in range(draws))
    assert set(counts) == macros
    # Five standard deviations of a binomial count of mean 100.
    assert all(abs(count - 100) < 50 for count in counts.values())


def test_steps_reach_every_kind_of_change() -> None:
    rng = np.random.default_rng(3)
    parent = "020-c01_16_11-21-1-1"
    children = {SMALL.mutate(parent, rng) for _ in range(1000)}
    assert children >= {
        "120-c01_16_11-21-1-1",
        "000-c01_16_11-21-1-1",
        "020-_16_11-21-1-1",
        "020-c02_16_11-21-1-1",
        "020-a01c01_16_11-21-1-1",
        "0-c01_16_11-21-1-1",
        "02021-c01_16_11-21-1-1",
        "020-c01_16_111-21-1-1",
        "020-c01_16_1-21-1-1",
        "020-c01_16_12-11-1-1",
        "020-c01_16_11-12-1-1",
        "020-c01_32_11-21-1-1",
    }


def test_wide_blocks_have_explicit_records() -> None:
    place = BlockPlace(inputs=64, outputs=128, stride=2, resolution=56)
    plan = plan_block(Block(operators="231", ratios="31", skips=("a02", "c12")), place)
    assert (plan.encoding, plan.place, plan.output_resolution) == ("23311-a02c12", place, 28)
    first, second, third = plan.operators
    assert (first.inputs, first.outputs, first.groups, first.stride) == (64, 256, 2, 2)
    assert (second.inputs, second.outputs, second.groups, second.stride) == (256, 64, 4, 1)
    # Node 2 has its own 64 channels, what a02 adds to them, and the 256 that c12 concatenates.
    assert (third.inputs, third.outputs, third.kernel) == (64 + 256, 128, 1)
    added, widening = plan.skips
    assert added.projection is not None
    assert (added.projection.inputs, added.projection.outputs) == (64, 64)
    assert added.projection.stride == 2
    assert widening.projection is None
    assert plan.residual is not None
    assert plan.residual.stride == 2
    convs = 256 * 32 * 9 + 64 * 64 * 9 + 128 * 320 + 64 * 64 + 128 * 64
    channels = 256 + 64 + 128 + 64 + 128
    assert count_block(plan) == Counts(
        params=convs + 2 * channels, macs=convs * 28**2, activations=channels * 28**2
    )


def test_the_stride_sits_on_the_first_operator_that_is_not_pointwise() -> None:
    place = BlockPlace(inputs=64, outputs=128, stride=2, resolution=56)
    for operators, strides in (("101", [1, 2, 1]), ("010", [2, 1, 1]), ("111", [2, 1, 1])):
        plan = plan_block(Block(operators=operators, ratios="22"), place)
        assert [conv.stride for conv in plan.operators] == strides


def test_rules_that_no_published_number_settles() -> None:
    # Origin: this project, see docs/spaces.md.
    place = BlockPlace(inputs=64, outputs=128, stride=2, resolution=56)
    plan = plan_block(Block(operators="44", ratios="0", skips=("c02",)), place)
    first, second = plan.operators
    assert (first.inputs, first.outputs, first.groups) == (64, 32, 32)
    assert (second.inputs, second.outputs, second.groups) == (32, 128, 32)
    (skip,) = plan.skips
    assert skip.projection is not None
    assert (skip.projection.inputs, skip.projection.outputs) == (64, 64)
    assert (skip.projection.kernel, skip.projection.stride) == (1, 2)
    assert plan.squeeze is not None
    assert (plan.squeeze.inputs, plan.squeeze.outputs) == (128 + 64, 128)


def test_blocks_and_stem_make_up_the_network() -> None:
    plan = IMAGENET.plan("02031-a02_64_111-2111-21111-211")
    assert [block.place.resolution for block in plan.blocks] == [
        *(56, 56, 56, 56, 28, 28, 28, 28, 14, 14, 14, 14, 14, 7, 7)
    ]
    blocks = sum(count_block(block).macs for block in plan.blocks)
    # 32 x 27 at 112x112, 32 x 288 at 112x112, 64 x 288 at 56x56, and the classifier.
    stem = (32 * 27 + 32 * 288) * 112**2 + 64 * 288 * 56**2
    assert IMAGENET.count("02031-a02_64_111-2111-21111-211").macs == blocks + stem + 512 * 1000


def test_a_search_goes_uphill() -> None:
    algorithm = Nsga2(SMALL, objectives=2, seed=4, population=8)
    seen: list[str] = []
    for _ in range(6):
        children = algorithm.ask()
        for child in children:
            SMALL.validate(child)
        seen += children
        algorithm.tell([_score(child) for child in children])
    assert len(seen) == len(set(seen)) == 48
    macs = [SMALL.count(encoding).macs for encoding in seen]
    assert min(macs[-8:]) < min(macs[:8])


def _score(encoding: str) -> Evaluated:
    counts = SMALL.count(encoding)
    return Evaluated(encoding=encoding, values=(log10(counts.macs), -log10(counts.params)))


def test_pure_part_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, numpy as np\n"
        "from boardfront.search.spaces import catalog\n"
        "space = catalog.load('etnas', {})\n"
        "rng = np.random.default_rng(0)\n"
        "one = space.sample(rng)\n"
        "space.count(space.crossover(one, space.mutate(one, rng), rng))\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_node_names_follow_the_place_in_the_network() -> None:
    model = SMALL.write_onnx("12031-a01a02c12_16_1-2-1-1", batch=1)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert names[0] == "stem.0.conv"
    assert {"blocks.1.skips.a01.conv", "blocks.1.node2.concat", "blocks.3.residual.norm"} <= {
        *names
    }
    assert names[-1] == "classifier"


def test_more_weights_than_a_model_holds_are_refused() -> None:
    wide = "04040-_128_1-2-4-2"
    assert 4 * IMAGENET.count(wide).params > 2**31
    with pytest.raises(WrongInputError, match=r"of weights in an ONNX model, got \d{10}"):
        IMAGENET.write_onnx(wide, batch=1)


@pytest.fixture
def torch() -> Iterator[ModuleType]:
    """Torch on one thread: threads that wait for a shared core cost networks this small most."""
    module: ModuleType = pytest.importorskip("torch")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


@pytest.mark.parametrize("stem", ["etnas", "resnet"])
@pytest.mark.parametrize("block", BLOCKS)
def test_onnx_equals_torch_for_every_rule_of_a_block(
    block: str, stem: str, torch: ModuleType
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    space = EtnasSpace(replace(SMALL.settings, stem=stem, resolution=37))
    encoding = f"{block}_16_1-21-1-2"
    torch.manual_seed(0)
    module = space.build(encoding)
    images = torch.randn(2, 3, 37, 37)
    module(images)
    module.eval()
    weights = {name: values.numpy() for name, values in module.state_dict().items()}
    model = space.write_onnx(encoding, batch=2, weights=weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        expected = module(images).numpy()
    # float32 sums of some hundred terms in another order: some 1e-6 of the norm.
    assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)
    counts = space.count(encoding)
    assert counts.params == sum(parameter.numel() for parameter in module.parameters())


def test_a_network_learns(torch: ModuleType) -> None:
    torch.manual_seed(0)
    module = SMALL.build("12031-a01a02c12_16_1-2-1-1").train()
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    assert losses[-1] < 0.5 * losses[0]
