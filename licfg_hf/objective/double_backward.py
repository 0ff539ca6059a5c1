"""A cheaper double backward with the same numbers, for what differentiates an input gradient.

Autograd's own way costs more than the passes that it needs:

- The derivative of a convolution's input gradient by the weight is computed as a convolution whose kernel is as large
  as the image, on transposed copies. It is the weight gradient of any backward pass, at the tangent in place of the
  input, which is several times faster on a CPU.
- Piecewise-linear layers hand zeros back to the first-order graph, on which a whole backward pass is then run.

Both are exact for every critic; smooth layers keep their second-order terms.
"""

import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

_OPERATOR = "_convolution_double_backward"
_ARGUMENTS = (
    "ggI, ggW, ggb, gO, weight, self, stride, padding, dilation, transposed, output_padding, groups, output_mask"
)
# Backward nodes whose derivative by everything but the incoming gradient, their first input, is zero.
_LINEAR_IN_GRADIENT = {
    "ThresholdBackwardBackward0",
    "LeakyReluBackwardBackward0",
    "HardtanhBackwardBackward0",
    "AvgPool2DBackwardBackward0",
    "MaxPool2DWithIndicesBackwardBackward0",
}
# Nodes that fail when they are run; NotImplemented and Error stand for operators and functions of any name.
NO_DERIVATIVE = {
    "torch::autograd::NotImplemented",
    "torch::autograd::Error",
    "CompiledFunctionBackwardBackward",
    "PdistBackwardBackward0",
    "CdistBackwardBackward0",
    "CudnnRnnBackwardBackward0",
    "EmbeddingBagBackwardBackward0",
    "EmbeddingBagDenseBackwardBackward0",
}
_registered = []


class NoSecondDerivative(ValueError):
    """A layer of the critic cannot be differentiated twice.

    Args:
        reason: why.
    """

    def __init__(self, reason: str):
        super().__init__(
            f"the critic cannot be differentiated twice ({reason}), as an exact gradient penalty and a "
            "gradient-normalized output need it: take a penalty with method='finite_difference', or other layers"
        )


def graph_nodes(*tensors: torch.Tensor) -> Iterator[torch.autograd.graph.Node]:
    """Every node of the graph that the tensors have, once."""
    seen, waiting = set(), [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def prepare_double_backward(gradient: torch.Tensor) -> None:
    """Keeps known zeros out of the backward pass of an input gradient that was taken with ``create_graph``.

    Parameters that only zeros would reach, the biases of a ReLU critic, then get no gradient instead of zeros. Nodes
    are known by the names that PyTorch gives them; of an unknown name nothing is skipped.

    Raises:
        NoSecondDerivative: that backward pass would fail.
    """
    for node in graph_nodes(gradient):
        name = node.name()
        if name in _LINEAR_IN_GRADIENT:
            node.register_hook(lambda inputs, outputs: (inputs[0], *[None] * (len(inputs) - 1)))
        elif name in NO_DERIVATIVE:
            raise NoSecondDerivative(_reason(node))


def _reason(node: Any) -> str:
    if node.name().startswith("CompiledFunction"):
        return "it is compiled by itself; compile the whole step instead, or pass the module that was compiled"
    try:
        node(torch.zeros(()))  # a node of this kind knows why it cannot be run, and says so when it is
    except (RuntimeError, TypeError) as error:
        return str(error).splitlines()[0]
    return node.name()


@lru_cache
def speed_up_convolutions() -> bool:
    """From now on, double backward passes through convolutions take ordinary backward passes, in the whole process.

    On every device, and in what is compiled: PyTorch's own way asks a GPU for one convolution per channel of a
    depthwise layer, thousands of operators for a DDGAN discriminator.

    Returns:
        Whether it is so; not with a PyTorch whose operator is another one, which is left as it is.
    """
    schema = getattr(torch.ops.aten, _OPERATOR).default._schema if hasattr(torch.ops.aten, _OPERATOR) else None
    if schema is None or ", ".join(argument.name for argument in schema.arguments) != _ARGUMENTS:
        return False
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a kernel is replaced, as it is meant to be
        library.impl(_OPERATOR, _convolution_double_backward, "CompositeImplicitAutograd")
    _registered.append(library)  # it holds as long as this object lives
    return True


def _convolution_double_backward(
    tangent: torch.Tensor | None,
    weight_tangent: torch.Tensor | None,
    bias_tangent: torch.Tensor | None,
    gradient: torch.Tensor,
    weight: torch.Tensor,
    sample: torch.Tensor,
    *options: Any,
) -> tuple[torch.Tensor | None, ...]:
    """Derivatives of a convolution's backward pass by (gradient, sample, weight), along the given tangents."""
    *settings, (by_gradient, by_sample, by_weight) = options
    convolve, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
    parts = []
    if by_gradient:
        if tangent is not None:
            parts.append(convolve(tangent, weight, None, *settings))
        if weight_tangent is not None:
            parts.append(convolve(sample, weight_tangent, None, *settings))
        if bias_tangent is not None:
            parts.append(bias_tangent.view(-1, *[1] * (gradient.ndim - 2)).expand_as(gradient))
    outer = sum(parts[1:], parts[0]) if parts else None
    inner = outer_weight = None
    if by_sample and weight_tangent is not None:
        inner = backward(gradient, sample, weight_tangent, None, *settings, [True, False, False])[0]
    if by_weight and tangent is not None:
        outer_weight = backward(gradient, tangent, weight, None, *settings, [False, True, False])[1]
    return outer, inner, outer_weight
