"""Chains as files: a member's chain is the member, a way is thin, a call is next to nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from boardfront.host.chain_writer import TableSpace
from boardfront.latency_models.blocks import BlockKey
from boardfront.latency_models.structure import structure_hash
from boardfront.latency_models.table_chains import CALL, Chain, closed, shortened
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.training_graph import TASK_KEY
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Task, TaskKind

SPOS = {
    "resolution": 16,
    "classes": 10,
    "stem_channels": 8,
    "stem_stride": 1,
    "stages": [[16, 2], [32, 2]],
    "last_channels": 64,
}
ETNAS = {
    "resolution": 32,
    "classes": 10,
    "blocks": ["020-", "121-"],
    "channels": [32],
    "last_channels": [64],
    "max_blocks": 6,
}


def _space(name: str, kind: TaskKind = TaskKind.INFERENCE, batch: int = 1) -> TableSpace:
    space = TableSpace(name, SPOS if name == "spos" else ETNAS)
    space.set_task(Task(kind=kind, batch=batch, resolution=space.networks.resolution, classes=10))
    return space


def _model(space: TableSpace, chain: Chain) -> onnx.ModelProto:
    file = space.write(chain)
    assert file is not None
    model = onnx.load_model_from_string(file.content)
    assert structure_hash(model) == file.structure_hash
    return model


@pytest.mark.parametrize("name", ["spos", "etnas"])
def test_the_chain_of_a_member_is_the_member(name: str) -> None:
    space = _space(name, batch=2)
    encoding = space.middle(np.random.default_rng(3))
    member = space.networks.write_onnx(encoding, batch=2)
    file = space.write(space.member(encoding).chain)
    assert file is not None
    assert file.structure_hash == structure_hash(member)
    # In another process, or another day, the same bytes.
    assert file == _space(name, batch=2).write(space.member(encoding).chain)


@pytest.mark.parametrize("name", ["spos", "etnas"])
def test_every_look_of_a_plan_can_be_written(name: str) -> None:
    space = _space(name)
    rng = np.random.default_rng(0)
    base = space.member(space.middle(rng))
    kinds = space.blocks.block_kinds()
    assert kinds is not None
    guides = [space.member(one).chain for one in space.sample(100, rng)]
    plan = Plan(Members(base=base, guides=guides), kinds)
    assert not plan.impossible
    for look in [*plan.entries, *plan.levels()]:
        assert _model(space, look.chain).graph.node


def test_the_head_of_a_way_costs_next_to_nothing() -> None:
    space = _space("spos")
    chain = space.member("33-33").chain
    whole = _weights(_model(space, shortened(chain)))
    thin = _weights(_model(space, closed(shortened(chain)[:-1], chain[-1])))
    head = 32 * 64 + 64 * 10
    assert whole - thin > 0.7 * head


def _weights(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


def test_a_call_takes_a_member_s_images() -> None:
    space = _space("spos", batch=2)
    model = _model(space, CALL)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.ones((2, 3, 16, 16), np.float32)
    (logits,) = session.run(None, {"images": images})
    np.testing.assert_allclose(logits, np.ones((2, 3)))


def test_a_step_of_training_is_written_where_the_device_has_no_torch() -> None:
    space = _space("spos", TaskKind.TRAINING_STEP_GRAPH, batch=2)
    assert not space.has_call
    assert space.write(CALL) is None
    chain = space.member("33-33").chain
    for one in (chain, closed(chain[:2], chain[-1])):
        assert TASK_KEY in {entry.key for entry in _model(space, one).metadata_props}


def test_samples_are_different_members() -> None:
    space = _space("spos")
    found = space.sample(40, np.random.default_rng(1), without="33-33")
    assert len(set(found)) == 40
    assert "33-33" not in found
    assert found == _space("spos").sample(40, np.random.default_rng(1), without="33-33")
    # 256 members are all there are.
    assert len(space.sample(300, np.random.default_rng(1))) <= 256


def test_what_does_not_fit_is_refused() -> None:
    space = _space("spos")
    chain = space.member("33-33").chain
    stray = BlockKey(kind="3", in_channels=64, out_channels=64, stride=1, resolution=8)
    with pytest.raises(WrongInputError, match="expected"):
        space.write((*chain[:2], stray, *chain[2:]))
