"""Every catalogued space keeps what the Protocols of search/space.py promise.

A new space adds its cases to CASES: two settings of a few thousand weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import pytest
import torch

from boardfront.device_agent.network import read_network
from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.latency_models.structure import structure_hash
from boardfront.latency_models.training_graph import training_step
from boardfront.protos.errors import WrongInputError
from boardfront.protos.weightless import is_note
from boardfront.search.space import (
    DecomposableSpace,
    InvalidEncodingError,
    NetworkSpace,
    Space,
    SupernetSpace,
)
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from boardfront.latency_models.blocks import BlockKey

onnxruntime = pytest.importorskip("onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One space in one setting.

    `parts` splits an encoding into the parts that crossover exchanges, `steps` into those of
    which a mutation changes exactly one. `drawn` takes parts of it each of which is any of
    `choices` with the same chance. `wrong` is no member.
    """

    name: str
    settings: Mapping[str, object]
    parts: Callable[[str], tuple[str, ...]]
    steps: Callable[[str], tuple[str, ...]]
    drawn: Callable[[str], tuple[str, ...]]
    choices: tuple[str, ...]
    wrong: str


def _spos_parts(encoding: str) -> tuple[str, ...]:
    return tuple(encoding.replace("-", ""))


def _etnas_parts(encoding: str) -> tuple[str, ...]:
    block, channels, macro = encoding.split("_")
    return (block, channels, *macro.split("-"))


def _etnas_steps(encoding: str) -> tuple[str, ...]:
    return tuple(encoding.split("_"))


def _etnas_block(encoding: str) -> tuple[str, ...]:
    return (encoding.partition("_")[0],)


def _etnas_operators(encoding: str) -> tuple[str, ...]:
    operators = encoding.partition("-")[0][::2]
    return (operators[0], operators[-1])


CASES = [
    Case(
        name="etnas",
        settings={
            "resolution": 32,
            "classes": 10,
            "in_channels": 1,
            "channels": [16],
            "last_channels": [16, 32],
            "max_blocks": 6,
        },
        parts=_etnas_parts,
        steps=_etnas_steps,
        drawn=_etnas_operators,
        choices=("0", "1", "2", "3", "4"),
        wrong="02031-a04_16_1-1-1-1",
    ),
    Case(
        name="etnas",
        settings={
            "resolution": 43,
            "classes": 7,
            "stem": "resnet",
            "channels": [16, 32],
            "last_channels": [32, 48, 64],
            "min_blocks": 5,
            "max_blocks": 7,
        },
        parts=_etnas_parts,
        steps=_etnas_steps,
        drawn=_etnas_operators,
        choices=("0", "1", "2", "3", "4"),
        wrong="020-_16_1-2-1-1",
    ),
    Case(
        name="etnas",
        settings={
            "resolution": 35,
            "classes": 10,
            "channels": [16, 32],
            "last_channels": [32],
            "max_blocks": 6,
            "blocks": ["4-", "020-", "10001-a02c01"],
        },
        parts=_etnas_parts,
        steps=_etnas_steps,
        drawn=_etnas_block,
        choices=("4-", "020-", "10001-a02c01"),
        wrong="10001-a02_16_1-2-1-1",
    ),
    Case(
        name="spos",
        settings={
            "resolution": 16,
            "classes": 10,
            "in_channels": 1,
            "stem_channels": 8,
            "stem_stride": 1,
            "stages": [[16, 2], [32, 2]],
            "last_channels": 32,
        },
        parts=_spos_parts,
        steps=_spos_parts,
        drawn=_spos_parts,
        choices=("3", "5", "7", "x"),
        wrong="33-3y",
    ),
    Case(
        name="spos",
        settings={
            "resolution": 27,
            "classes": 7,
            "stem_channels": 6,
            "stages": [[14, 1], [20, 3], [22, 1]],
            "last_channels": 24,
        },
        parts=_spos_parts,
        steps=_spos_parts,
        drawn=_spos_parts,
        choices=("3", "5", "7", "x"),
        wrong="3-33-3",
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.name}-{case.settings['resolution']}")
def case(request: pytest.FixtureRequest) -> Case:
    return cast("Case", request.param)


@pytest.fixture
def space(case: Case) -> Space:
    return catalog.load(case.name, case.settings)


@pytest.fixture
def network_space(space: Space) -> NetworkSpace:
    if not isinstance(space, NetworkSpace):
        pytest.skip("the space builds no networks")
    return space


@pytest.fixture
def decomposable_space(space: Space) -> DecomposableSpace:
    if not isinstance(space, DecomposableSpace):
        pytest.skip("the space's networks are no rows of blocks")
    return space


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def in_channels(case: Case) -> int:
    return cast("int", case.settings.get("in_channels", 3))


def test_every_catalogued_space_has_two_cases() -> None:
    counted = Counter(case.name for case in CASES)
    assert {name for name in catalog.SPACES if counted[name] >= 2} == set(catalog.SPACES)


def test_info_says_which_protocols_are_implemented(case: Case, space: Space) -> None:
    info = catalog.info(case.name)
    assert info.name == case.name
    assert isinstance(space, Space)
    assert isinstance(space, NetworkSpace) == info.networks
    assert isinstance(space, SupernetSpace) == info.supernet
    assert set(case.settings) <= {name for name, _, _ in info.parameters}


def test_unknown_setting_lists_the_allowed(case: Case) -> None:
    with pytest.raises(WrongInputError, match="no_such_setting.*" + next(iter(case.settings))):
        catalog.load(case.name, {"no_such_setting": 1})


def test_samples_are_members(space: Space, rng: np.random.Generator) -> None:
    for _ in range(50):
        space.validate(space.sample(rng))


def test_parts_determine_the_encoding(case: Case, space: Space, rng: np.random.Generator) -> None:
    encodings = {space.sample(rng) for _ in range(200)}
    assert len({case.parts(encoding) for encoding in encodings}) == len(encodings)


def test_wrong_encoding_is_refused_with_its_position(case: Case, space: Space) -> None:
    with pytest.raises(InvalidEncodingError, match=r"position \d+") as caught:
        space.validate(case.wrong)
    assert caught.value.encoding == case.wrong


def test_sampling_is_uniform_at_every_part(
    case: Case, space: Space, rng: np.random.Generator
) -> None:
    draws = 2000
    rows = [case.drawn(space.sample(rng)) for _ in range(draws)]
    expected = draws / len(case.choices)
    for column in zip(*rows, strict=True):
        counts = Counter(column)
        assert set(counts) == set(case.choices)
        # Five standard deviations of a binomial count.
        spread = 5 * (expected * (1 - 1 / len(case.choices))) ** 0.5
        assert all(abs(count - expected) < spread for count in counts.values())


def test_mutation_is_another_member_one_step_away(
    case: Case, space: Space, rng: np.random.Generator
) -> None:
    for _ in range(200):
        parent = space.sample(rng)
        child = space.mutate(parent, rng)
        space.validate(child)
        pairs = zip(case.steps(parent), case.steps(child), strict=True)
        assert sum(before != after for before, after in pairs) == 1


def test_crossover_takes_each_part_from_a_parent(
    case: Case, space: Space, rng: np.random.Generator
) -> None:
    for _ in range(200):
        first, second = space.sample(rng), space.sample(rng)
        child = space.crossover(first, second, rng)
        space.validate(child)
        triples = zip(case.parts(first), case.parts(second), case.parts(child), strict=True)
        assert all(part in {one, other} for one, other, part in triples)


def test_same_seed_gives_the_same_members(space: Space) -> None:
    def draw() -> list[str]:
        rng = np.random.default_rng(5)
        first, second = space.sample(rng), space.sample(rng)
        return [first, second, space.mutate(first, rng), space.crossover(first, second, rng)]

    assert draw() == draw()


def test_counts_match_the_module(
    case: Case, space: Space, network_space: NetworkSpace, rng: np.random.Generator
) -> None:
    for _ in range(4):
        encoding = space.sample(rng)
        module = network_space.build(encoding).eval()
        counts = network_space.count(encoding)
        assert counts.params == sum(p.numel() for p in module.parameters() if p.requires_grad)
        images = torch.zeros(1, in_channels(case), *[network_space.resolution] * 2)
        assert (counts.macs, counts.activations) == measure_by_hooks(module, images)


def measure_by_hooks(module: torch.nn.Module, images: torch.Tensor) -> tuple[int, int]:
    macs = activations = 0

    def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs, activations
        weight = cast("torch.Tensor", layer.weight)
        pixels = output[0, 0].numel() if output.ndim == 4 else 1
        macs += weight.numel() * pixels
        if isinstance(layer, torch.nn.Conv2d):
            activations += output.numel()

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(images)
    return macs, activations


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_equals_the_module(
    case: Case,
    space: Space,
    network_space: NetworkSpace,
    rng: np.random.Generator,
    batch: int,
) -> None:
    encoding = space.sample(rng)
    module = network_space.build(encoding)
    shake_norms(module)
    module.eval()
    weights = {name: values.numpy() for name, values in module.state_dict().items()}
    model = network_space.write_onnx(encoding, batch=batch, weights=weights)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 10
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node)

    images = rng.standard_normal(
        (batch, in_channels(case), *[network_space.resolution] * 2), dtype=np.float32
    )
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    assert expected.shape == (batch, network_space.classes)
    np.testing.assert_allclose(run_onnx(model, images), expected, rtol=1e-4, atol=1e-5)


def shake_norms(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            mean, variance = layer.running_mean, layer.running_var
            assert mean is not None
            assert variance is not None
            mean.normal_(0, 0.3, generator=generator)
            variance.uniform_(0.5, 2, generator=generator)
            torch.nn.init.normal_(layer.weight, 1, 0.3, generator=generator)
            torch.nn.init.normal_(layer.bias, 0, 0.3, generator=generator)


def run_onnx(model: onnx.ModelProto, images: Any) -> Any:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"images": images})[0]


def test_without_weights_the_file_has_notes_of_a_normal_scale(
    case: Case,
    space: Space,
    network_space: NetworkSpace,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    encoding = space.sample(rng)
    light = network_space.write_onnx(encoding, batch=2, seed=7)
    assert light == network_space.write_onnx(encoding, batch=2, seed=7)
    assert light != network_space.write_onnx(encoding, batch=2, seed=8)
    onnx.shape_inference.infer_shapes(light, check_type=True, strict_mode=True)
    (tmp_path / "light.onnx").write_bytes(light.SerializeToString())
    model = read_network(tmp_path / "light.onnx")
    onnx.checker.check_model(model, full_check=True)

    state = network_space.build(encoding).state_dict()
    weights = {name: values.numpy() for name, values in state.items()}
    full = network_space.write_onnx(encoding, batch=2, weights=weights)
    hashes = {structure_hash(one) for one in (light, model, full)}
    assert len(hashes) == 1
    noted = {t.name for t in light.graph.initializer if is_note(t.raw_data)}
    assert noted == {name for name in weights if not name.endswith(".num_batches_tracked")}
    for name, values in tensors(model).items():
        assert values.shape == tensors(full)[name].shape
        assert np.abs(values).min() > 0.0
    images = rng.standard_normal(
        (2, in_channels(case), *[network_space.resolution] * 2), dtype=np.float32
    )
    assert 1e-3 < run_onnx(model, images).std() < 1e3


def tensors(model: onnx.ModelProto) -> dict[str, Any]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_weights_of_another_network_are_refused(
    space: Space, network_space: NetworkSpace, rng: np.random.Generator
) -> None:
    encoding = space.sample(rng)
    weights = {n: v.numpy() for n, v in network_space.build(encoding).state_dict().items()}
    with pytest.raises(WrongInputError, match=r"stray.*no place"):
        network_space.write_onnx(
            encoding, batch=1, weights={**weights, "stray": np.zeros(1, dtype=np.float32)}
        )
    with pytest.raises(WrongInputError, match="pass the state of build"):
        network_space.write_onnx(encoding, batch=1, weights={})
    with pytest.raises(WrongInputError, match="batch: expected at least 1"):
        network_space.write_onnx(encoding, batch=0)


def test_inherited_path_computes_what_the_supernet_computes(
    case: Case, space: Space, rng: np.random.Generator
) -> None:
    if not isinstance(space, SupernetSpace) or not isinstance(space, NetworkSpace):
        pytest.skip("the space has no supernet")
    encoding = space.sample(rng)
    supernet = space.build_supernet()
    shake_norms(supernet)
    supernet.eval()
    module = space.inherit(supernet, encoding)
    images = torch.randn(
        2,
        in_channels(case),
        *[space.resolution] * 2,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        torch.testing.assert_close(module(images), supernet(images, encoding))
    before = supernet(images, encoding).detach()
    for parameter in module.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(supernet(images, encoding), before)
    assert module.state_dict().keys() == space.build(encoding).state_dict().keys()


def test_a_foreign_supernet_is_refused(space: Space, rng: np.random.Generator) -> None:
    if not isinstance(space, SupernetSpace):
        pytest.skip("the space has no supernet")
    with pytest.raises(WrongInputError, match="expected the supernet of"):
        space.inherit(torch.nn.Linear(1, 1), space.sample(rng))


def test_the_chain_of_a_member_is_the_member(
    space: Space,
    network_space: NetworkSpace,
    decomposable_space: DecomposableSpace,
    rng: np.random.Generator,
) -> None:
    for _ in range(5):
        encoding = space.sample(rng)
        blocks = decomposable_space.decompose(encoding).blocks
        chain = decomposable_space.write_chain(blocks, batch=2)
        member = network_space.write_onnx(encoding, batch=2)
        assert structure_hash(chain) == structure_hash(member)
    assert structure_hash(training_step(chain)) == structure_hash(training_step(member))


def test_the_chain_of_a_member_takes_its_weights(
    space: Space,
    network_space: NetworkSpace,
    decomposable_space: DecomposableSpace,
    rng: np.random.Generator,
) -> None:
    encoding = space.sample(rng)
    blocks = decomposable_space.decompose(encoding).blocks
    state = network_space.build(encoding).state_dict()
    weights = {name: values.numpy() for name, values in state.items()}
    chain = decomposable_space.write_chain(blocks, batch=1, weights=weights)
    assert chain == network_space.write_onnx(encoding, batch=1, weights=weights)
    with pytest.raises(WrongInputError, match="batch: expected at least 1"):
        decomposable_space.write_chain(blocks, batch=0)


def test_block_kinds_hold_every_block_of_every_member(
    case: Case, space: Space, decomposable_space: DecomposableSpace, rng: np.random.Generator
) -> None:
    kinds = decomposable_space.block_kinds()
    if kinds is None:
        pytest.skip("the space has too many blocks to list")
    assert len(set(kinds)) == len(kinds)
    again = catalog.load(case.name, case.settings)
    assert isinstance(again, DecomposableSpace)
    assert again.block_kinds() == kinds
    seen = {b for _ in range(500) for b in decomposable_space.decompose(space.sample(rng)).blocks}
    assert seen <= set(kinds)
    # Few enough of them that 500 members show most.
    assert len(seen) > 0.8 * len(kinds)


def test_a_chain_longer_than_any_member_runs(
    case: Case,
    space: Space,
    decomposable_space: DecomposableSpace,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    blocks = stackable_chain(space, decomposable_space, rng)
    place = next(index for index, block in enumerate(blocks) if block.is_stackable)
    layers = []
    for repeats in (0, 1, 12):
        longer = [*blocks[:place], *[blocks[place]] * repeats, *blocks[place:]]
        light = decomposable_space.write_chain(longer, batch=2)
        layers.append(Counter(node.op_type for node in light.graph.node))
    added = layers[1] - layers[0]
    assert added["Conv"] > 0
    assert {kind: n - layers[0][kind] for kind, n in layers[2].items() if kind in added} == {
        kind: 12 * n for kind, n in added.items()
    }
    path = tmp_path / "chain.onnx"
    path.write_bytes(light.SerializeToString())
    size = cast("int", case.settings["resolution"])
    images = rng.standard_normal((2, in_channels(case), size, size), dtype=np.float32)
    logits = run_onnx(read_network(path), images)
    assert logits.shape == (2, case.settings["classes"])
    assert 1e-3 < logits.std() < 1e3


def stackable_chain(
    space: Space, decomposable: DecomposableSpace, rng: np.random.Generator
) -> tuple[BlockKey, ...]:
    while True:
        blocks = decomposable.decompose(space.sample(rng)).blocks
        if any(block.is_stackable for block in blocks):
            return blocks


def test_a_chain_that_does_not_fit_together_is_refused(
    space: Space, decomposable_space: DecomposableSpace, rng: np.random.Generator
) -> None:
    stem, block, *others, head = stackable_chain(space, decomposable_space, rng)
    rest = [*others, head]
    assert (stem.kind, head.kind) == (STEM, HEAD)
    for chain, message in (
        ([], "expected a chain from a stem to a head, got no block"),
        ([block, *rest], "expected a chain from a stem to a head"),
        ([stem, block, *others], "expected a chain from a stem to a head"),
        ([replace(stem, resolution=stem.resolution + 1), block, *rest], "the space's stem"),
        ([stem, stem, head], "at place 1 of the chain"),
        ([stem, replace(block, resolution=999), *rest], "resolution .* at place 1 of the chain"),
        ([stem, replace(block, in_channels=16 * 999), *rest], "channels in .* at place 1"),
        ([stem, block, *others, replace(head, out_channels=999)], "expected .* outputs"),
        ([stem, block, *others, replace(head, in_channels=999)], "expected .* channels in"),
    ):
        with pytest.raises(WrongInputError, match=message):
            decomposable_space.write_chain(chain, batch=1)
    with pytest.raises(InvalidEncodingError, match="'!' at position 0"):
        decomposable_space.write_chain([stem, replace(block, kind="!"), *rest], batch=1)
