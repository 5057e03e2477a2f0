from __future__ import annotations

import subprocess
import sys
import time

import pytest

from boardfront.protos.errors import WrongInputError
from boardfront.search.space import InvalidEncodingError
from boardfront.search.spaces.spos import SposSettings, SposSpace

IMAGENET = SposSpace(SposSettings())
SMALL = SposSpace(SposSettings(resolution=16, stages=((32, 2), (64, 3)), last_channels=64))


def uniform_network(choice: str) -> str:
    return "-".join(choice * repeat for repeat in IMAGENET.settings.repeats)


def test_size_is_four_choices_in_twenty_blocks() -> None:
    # Zhang et al. 2024, section 4.1: "total search space is 4^20".
    assert IMAGENET.size == 4**20


def test_published_architecture_counts_what_its_authors_say() -> None:
    # README of the authors' repository megvii-model/SinglePathOneShot: architecture
    # (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3), 323M FLOPs, 3.5M parameters
    # (given to these digits; parameters cut, not rounded).
    counts = IMAGENET.count("7535-7373-737x3333-x7xx")
    assert round(counts.macs / 1e6) == 323
    assert int(counts.params / 1e5) == 35


def test_complexity_spans_the_constraint_of_the_papers() -> None:
    # Zhang et al. 2024: constraint 330M (section 4.1), found networks of 299M and 305M (Table 8).
    smallest = IMAGENET.count(uniform_network("3")).macs
    largest = IMAGENET.count(uniform_network("x")).macs
    assert 290e6 < smallest < 299e6
    assert 330e6 < largest < 360e6


def test_feature_sizes_are_those_of_table_7() -> None:
    torch = pytest.importorskip("torch")
    module = IMAGENET.build(uniform_network("3")).eval()
    shapes = []
    for name in ("stem", "blocks.3", "blocks.7", "blocks.15", "blocks.19", "head"):
        layer = module.get_submodule(name)
        layer.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
    with torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    assert shapes == [
        (16, 112, 112),
        (64, 56, 56),
        (160, 28, 28),
        (320, 14, 14),
        (640, 7, 7),
        (1024, 7, 7),
    ]


@pytest.mark.parametrize(
    ("encoding", "position", "rule"),
    [
        ("3y-357", 1, "expected one of 3, 5, 7, x, got 'y'"),
        ("3X-357", 1, "got 'X'"),
        ("33-3 7", 4, "got ' '"),
        ("3-357", 1, "expected 2 blocks in stage 1, got 1"),
        ("333-357", 2, "expected 2 blocks in stage 1, got 3"),
        ("33-35", 5, "expected 3 blocks in stage 2, got 2"),
        ("33", 2, "expected 2 stages separated by '-', got 1"),
        ("33-357-x", 6, "expected 2 stages separated by '-', got 3"),
        ("33-357-", 6, "expected 2 stages separated by '-', got 3"),
        ("", 0, "expected 2 blocks in stage 1, got 0"),
        ("33357", 2, "expected 2 blocks in stage 1, got 5"),
    ],
)
def test_wrong_encoding_gives_position_and_rule(encoding: str, position: int, rule: str) -> None:
    with pytest.raises(InvalidEncodingError, match=f"at position {position}: .*{rule}"):
        SMALL.validate(encoding)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 0}, "resolution: expected a whole number of at least 1, got 0"),
        ({"classes": "ten"}, "classes: expected a whole number of at least 1, got 'ten'"),
        ({"in_channels": True}, "in_channels: expected a whole number"),
        ({"stem_stride": 3}, "stem_stride: expected 1 or 2, got 3"),
        ({"stages": []}, "stages: expected at least one"),
        ({"stages": "64x4"}, "stages: expected a list"),
        ({"stages": [[64]]}, r"stages\[0\]: expected \(channels, repeat\)"),
        ({"stages": [[33, 2]]}, r"stages\[0\]: expected an even number above the 16"),
        ({"stages": [[64, 2], [64, 2]]}, r"stages\[1\]: expected an even number above the 64"),
        ({"stages": [[64, 0]]}, r"repeat of stages\[0\]: expected a whole number"),
        ({"width": 2}, "no setting 'width': use one of resolution, classes"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        SposSpace.from_settings(settings)


def test_pure_part_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, numpy as np\n"
        "from boardfront.search.spaces import catalog\n"
        "space = catalog.load('spos', {})\n"
        "rng = np.random.default_rng(0)\n"
        "one = space.sample(rng)\n"
        "space.count(space.crossover(one, space.mutate(one, rng), rng))\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_node_names_follow_the_place_in_the_network() -> None:
    names = [node.name for node in SMALL.write_onnx("3x-357", batch=1).graph.node]
    assert len(set(names)) == len(names)
    assert names[0] == "stem.conv"
    assert "blocks.1.main.4.conv" in names
    assert "blocks.4.shuffle" in names
    assert names[-1] == "classifier"


def test_choices_of_a_place_start_aligned() -> None:
    state = SMALL.build_supernet().state_dict()
    for place in range(5):
        name = f"blocks.{place}.{{}}.main.{{}}.conv.weight"
        leader = state[name.format("3", 1)]
        assert state[name.format("5", 1)][..., 1:4, 1:4].equal(leader)
        assert state[name.format("7", 1)][..., 2:5, 2:5].equal(leader)
        assert state[name.format("x", 2)].equal(leader)
        for choice, layers in (("5", (0, 2)), ("7", (0, 2)), ("x", (1, 5))):
            for layer, of_leader in zip(layers, (0, 2), strict=True):
                expected = state[name.format("3", of_leader)]
                assert state[name.format(choice, layer)].equal(expected)


def test_writing_the_imagenet_network_takes_milliseconds() -> None:
    IMAGENET.write_onnx(uniform_network("7"), batch=1)
    times_s = []
    for _ in range(5):
        start_s = time.perf_counter()
        IMAGENET.write_onnx(uniform_network("7"), batch=1)
        times_s.append(time.perf_counter() - start_s)
    # About 0.04 s on a 2-core shared machine; the bound tells it from an exporter's seconds.
    assert min(times_s) < 0.5
