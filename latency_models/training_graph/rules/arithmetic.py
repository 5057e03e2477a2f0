"""Gradients of sums, products and matrix products, operands broadcast or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.share import sum_to

if TYPE_CHECKING:
    from boardfront.latency_models.training_graph.share import Share


def add(share: Share) -> list[str | None]:
    """Pass to every operand; also for Sum."""
    return [_operand(share, index, share.slope) for index in range(len(share.wanted))]


def sub(share: Share) -> list[str | None]:
    """Pass to the first operand, negated to the second."""
    second = share.step.op("Neg", share.slope) if share.wanted[1] else share.slope
    return [_operand(share, 0, share.slope), _operand(share, 1, second)]


def mul(share: Share) -> list[str | None]:
    """Multiply by the other operand."""
    step, (first, second) = share.step, share.node.input
    gradients: list[str | None] = [None, None]
    for index, other in enumerate((second, first)):
        if share.wanted[index]:
            gradients[index] = _operand(share, index, step.op("Mul", share.slope, other))
    return gradients


def div(share: Share) -> list[str | None]:
    """Divide by the second operand; the second gets -slope * y / b."""
    step, divisor = share.step, share.node.input[1]
    quotient = step.op("Div", share.slope, divisor)
    gradients = [_operand(share, 0, quotient), None]
    if share.wanted[1]:
        negative = step.op("Neg", step.op("Mul", quotient, share.node.output[0]))
        gradients[1] = _operand(share, 1, negative)
    return gradients


def gemm(share: Share) -> list[str | None]:
    """Write the gradients of alpha * A' B' + beta * C."""
    step, node, slope = share.step, share.node, share.slope
    turned = [bool(share.attribute(name, 0)) for name in ("transA", "transB")]
    alpha = share.attribute("alpha", 1.0)
    gradients: list[str | None] = [None] * len(share.wanted)
    left, right = node.input[:2]
    if share.wanted[0]:
        if turned[0]:
            gradients[0] = _product(share, right, slope, (turned[1], True), alpha)
        else:
            gradients[0] = _product(share, slope, right, (False, not turned[1]), alpha)
    if share.wanted[1]:
        if turned[1]:
            gradients[1] = _product(share, slope, left, (True, turned[0]), alpha)
        else:
            gradients[1] = _product(share, left, slope, (not turned[0], False), alpha)
    if len(share.wanted) > 2 and share.wanted[2]:
        beta = share.attribute("beta", 1.0)
        slope = slope if beta == 1 else step.scale(slope, beta)
        gradients[2] = _operand(share, 2, slope)
    return gradients


def matmul(share: Share) -> list[str | None]:
    """Write slope B^T and A^T slope, summed over batch axes that were broadcast."""
    step, (left, right) = share.step, share.node.input
    ranks = [len(share.shape(index)) for index in (0, 1)]
    if min(ranks) < 2:
        raise share.unsupported("expected matrices, got a vector: reshape it to a matrix first")
    gradients: list[str | None] = [None, None]
    if share.wanted[0]:
        product = step.op("MatMul", share.slope, step.transpose(right, _turned(ranks[1])))
        have = (*share.result_shape[:-1], share.shape(0)[-1])
        gradients[0] = sum_to(step, product, have, share.shape(0))
    if share.wanted[1]:
        product = step.op("MatMul", step.transpose(left, _turned(ranks[0])), share.slope)
        have = (*share.result_shape[:-2], *share.shape(1)[-2:])
        gradients[1] = sum_to(step, product, have, share.shape(1))
    return gradients


def _operand(share: Share, index: int, gradient: str) -> str | None:
    if not share.wanted[index]:
        return None
    return sum_to(share.step, gradient, share.result_shape, share.shape(index))


def _product(share: Share, left: str, right: str, turned: tuple[bool, bool], alpha: float) -> str:
    return share.step.op(
        "Gemm", left, right, transA=int(turned[0]), transB=int(turned[1]), alpha=alpha
    )


def _turned(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)
