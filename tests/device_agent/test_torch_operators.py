"""Each operator trains as the same operator written out in float64 does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from tests.device_agent.torch_nets import (
    CLASSES,
    IMAGES,
    LEARNING_RATE,
    TOLERANCES,
    Net,
    compare,
    draw_batch,
)
from torch.nn import functional

from boardfront.device_agent.backends.torch_graph import rebuild
from boardfront.device_agent.backends.torch_step import MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.device_agent.torch_nets import Tensors, Write

    Compute = Callable[[torch.Tensor, Tensors], torch.Tensor]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two threads would wait for each other on a machine with other work."""
    torch.set_num_threads(1)


def _norm(features: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    return functional.batch_norm(
        features,
        weights[f"{name}.running_mean"],
        weights[f"{name}.running_var"],
        weights[f"{name}.weight"],
        weights[f"{name}.bias"],
        training=True,
        momentum=0.1,
        eps=1e-5,
    )


def _plain(shape: tuple[int, ...], **attributes: Any) -> tuple[Write, Compute]:
    """A convolution; `attributes` as ONNX has them."""
    dilation = attributes.get("dilations", [1, 1])[0]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        padded = functional.pad(images, (left, right, top, bottom))
        stride, groups = attributes.get("strides", [1, 1])[0], attributes.get("group", 1)
        return functional.conv2d(padded, weights["w"], None, stride, 0, dilation, groups)

    return lambda net, x: net.conv(x, "w", shape, **attributes), compute


def _biased() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        kernels = [net.weight("w", 12, 8, 1, 1), net.weight("b", 12)]
        return net.node("Relu", [net.node("Conv", [x, *kernels], strides=[2, 2])])

    return write, lambda x, w: functional.conv2d(x, w["w"], w["b"], 2).relu()


def _skip() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        first = net.node("Relu", [net.norm(net.conv(x, "w", (12, 8, 3, 3)), "n", 12)])
        second = net.norm(net.conv(first, "v", (12, 12, 3, 3), pads=[1] * 4), "m", 12)
        return net.node("Relu", [net.node("Add", [second, first])])

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        first = _norm(functional.conv2d(images, weights["w"]), weights, "n").relu()
        second = _norm(functional.conv2d(first, weights["v"], padding=1), weights, "m")
        return (second + first).relu()

    return write, compute


def _concat() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        near = net.conv(x, "w", (4, 8, 1, 1))
        return net.node("Relu", [net.node("Concat", [near, x], axis=1)])

    return write, lambda x, w: torch.cat((functional.conv2d(x, w["w"]), x), 1).relu()


def _pool(kind: str) -> tuple[Write, Compute]:
    pools: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "MaxPool": lambda x: functional.max_pool2d(x, 3, 2, 1),
        "AveragePool": lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    }
    shape: Any = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}

    def write(net: Net, x: str) -> str:
        return net.node(kind, [net.conv(x, "w", (12, 8, 3, 3))], **shape)

    return write, lambda x, w: pools[kind](functional.conv2d(x, w["w"]))


def _uneven_pool() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        features = net.conv(x, "w", (12, 8, 3, 3))
        return net.node("MaxPool", [features], kernel_shape=[3, 3], pads=[0, 0, 1, 1])

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        features = functional.conv2d(images, weights["w"])
        return functional.max_pool2d(functional.pad(features, (0, 1, 0, 1), value=-1e9), 3, 1)

    return write, compute


def _squeeze_excite() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        features = net.node("HardSwish", [net.conv(x, "w", (12, 8, 3, 3))])
        pooled = net.node("GlobalAveragePool", [features])
        small = net.node("Relu", [net.conv(pooled, "down", (3, 12, 1, 1))])
        gate = net.conv(small, "up", (12, 3, 1, 1))
        gate = net.node("HardSigmoid", [gate], alpha=1 / 6, beta=0.5)
        return net.node("Mul", [features, gate])

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        features = functional.conv2d(images, weights["w"])
        features = features * (features + 3).clamp(0, 6) / 6
        small = functional.conv2d(features.mean((2, 3), keepdim=True), weights["down"]).relu()
        gate = functional.conv2d(small, weights["up"])
        return features * (gate / 6 + 0.5).clamp(0, 1)

    return write, compute


def _written_out() -> tuple[Write, Compute]:
    """h-swish as exporters write it, a ReLU6, a sigmoid and a learned scale."""

    def write(net: Net, x: str) -> str:
        features = net.conv(x, "w", (12, 8, 3, 3))
        bounds = [net.numbers("zero", 0.0, np.float32), net.numbers("six", 6.0, np.float32)]
        shifted = net.node("Add", [features, net.numbers("three", [3.0], np.float32)])
        clipped = net.node("Clip", [shifted, *bounds])
        swish = net.node("Mul", [features, net.node("Div", [clipped, "six"])])
        scaled = net.node("Mul", [swish, net.weight("scale", 1, 12, 1, 1, mean=1.0)])
        return net.node("Sub", [scaled, net.node("Sigmoid", [scaled])])

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        features = functional.conv2d(images, weights["w"])
        scaled = features * (features + 3).clamp(0, 6) / 6 * weights["scale"]
        return scaled - torch.sigmoid(scaled)

    return write, compute


def _shuffle() -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        features = net.conv(x, "w", (16, 8, 1, 1))
        pairs = net.numbers("pairs", [0, 8, 2, 144])
        whole = net.numbers("whole", [4, 16, 12, -1])
        features = net.node("Reshape", [features, pairs])
        features = net.node("Transpose", [features], perm=[0, 2, 1, 3])
        features = net.node("Reshape", [features, whole])
        sizes = net.numbers("sizes", [12, 4])
        return net.node("Split", [features, sizes], ["kept", "left"], axis=1)

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        features = functional.conv2d(images, weights["w"])
        return torch.cat((features[:, 0::2], features[:, 1::2]), 1)[:, :12]

    return write, compute


_CASES = {
    "convolution": _plain((12, 8, 3, 3), pads=[1] * 4),
    "stride": _plain((12, 8, 3, 3), pads=[1] * 4, strides=[2, 2]),
    "groups": _plain((12, 2, 3, 3), pads=[1] * 4, group=4),
    "grouped pointwise, strided": _plain((12, 4, 1, 1), strides=[2, 2], group=2),
    "large kernel, dilated": _plain((12, 8, 5, 5), pads=[4] * 4, dilations=[2, 2]),
    "uneven padding": _plain((12, 8, 3, 3), pads=[0, 1, 1, 0], strides=[2, 2]),
    "bias": _biased(),
    "added skip": _skip(),
    "concat": _concat(),
    "max pool": _pool("MaxPool"),
    "average pool": _pool("AveragePool"),
    "uneven max pool": _uneven_pool(),
    "squeeze and excite, h-swish": _squeeze_excite(),
    "written-out h-swish": _written_out(),
    "shuffle and split": _shuffle(),
}


def _depthwise(stride: int) -> tuple[Write, Compute]:
    def write(net: Net, x: str) -> str:
        depthwise = net.conv(x, "d", (8, 1, 3, 3), pads=[1] * 4, strides=[stride] * 2, group=8)
        return net.conv(net.norm(depthwise, "n", 8), "w", (12, 8, 1, 1))

    def compute(images: torch.Tensor, weights: Tensors) -> torch.Tensor:
        depthwise = functional.conv2d(images, weights["d"], None, stride, 1, 1, 8)
        return functional.conv2d(_norm(depthwise, weights, "n"), weights["w"])

    return write, compute


_CASES |= {f"depthwise, stride {stride}": _depthwise(stride) for stride in (1, 2)}


def _reference_losses(
    compute: Compute, weights: Tensors, images: torch.Tensor, labels: torch.Tensor
) -> list[float]:
    """Train two steps in place: cross-entropy and SGD written out, float64."""
    trained = [w for w in weights.values() if w.requires_grad]
    velocities = [torch.zeros_like(weight) for weight in trained]
    losses = []
    for _ in range(2):
        features = _norm(compute(images, weights), weights, "last").mean((2, 3))
        logits = features @ weights["fc"].T + weights["fc.bias"]
        chosen = logits.gather(1, labels[:, None]).squeeze(1)
        loss = (logits.logsumexp(1) - chosen).mean()
        gradients = torch.autograd.grad(loss, trained)
        losses.append(loss.item())
        with torch.no_grad():
            for weight, velocity, gradient in zip(trained, velocities, gradients, strict=True):
                velocity.mul_(MOMENTUM).add_(gradient + WEIGHT_DECAY * weight)
                weight.sub_(LEARNING_RATE * velocity)
    return losses


@pytest.mark.parametrize("name", _CASES)
def test_an_operator_trains_as_its_float64_reference(name: str) -> None:
    write, compute = _CASES[name]
    net = Net()
    model = net.model(write)
    names = set(rebuild(model).names)
    before = {t.name: torch.tensor(numpy_helper.to_array(t)).double() for t in net.tensors}
    after = {
        key: value.clone().requires_grad_(key in names and "running" not in key)
        for key, value in before.items()
    }
    images, labels = draw_batch(IMAGES, CLASSES)
    expected = _reference_losses(compute, after, images.double(), labels)
    assert {"fc", "fc.bias", "last.weight", "last.running_var"} < names
    for kind in TOLERANCES:
        compare(rebuild(model), kind, before, after, (images, labels), expected)
