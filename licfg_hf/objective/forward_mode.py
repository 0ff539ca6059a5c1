"""The forward-mode derivative of a critic, right also in its own gradient, or refused.

PyTorch's forward formulas of some operators use a side result, such as the mean and deviation of a normalization, as
if it were a constant: the derivative is right, but its gradient is not (pytorch/pytorch #196700). Layer and instance
normalization are therefore written out here for the time of the pass; whatever else has such a formula is refused.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .critic import has_drawn, noise_state, same_noise, twice_differentiable
from .double_backward import NO_DERIVATIVE, graph_nodes
from .logits import wide

# Backward nodes of the operators whose forward formula keeps a side result constant, in derivatives.yaml of 2.13.
_WRONG_FORWARD_FORMULA = (
    "NativeLayerNormBackward",
    "NativeBatchNormBackward",
    "NativeBatchNormLegitBackward",
    "BatchNormWithUpdateBackward",
    "CudnnBatchNormBackward",
    "MiopenBatchNormBackward",
    "LinalgDetBackward",
    "LinalgSlogdetBackward",
    "LinalgSolveExBackward",
)
_BATCH_NORM = inspect.signature(F.batch_norm)
_NO_HOOKS = "it keeps tensors by hooks, such as activation checkpointing"


def directional_derivative(critic: Callable[[Tensor], Tensor], points: Tensor, direction: Tensor) -> Tensor:
    """The derivative (batch,) of a critic's logits (batch,) along a direction, with a graph to its parameters.

    Raises:
        ValueError: a layer has no forward-mode derivative, or one with a wrong gradient.
    """
    eager = not torch.compiler.is_compiling()
    hooks = torch.autograd.graph.disable_saved_tensors_hooks(_NO_HOOKS) if eager else nullcontext()
    noise = noise_state(points.device) if eager else None
    try:
        with hooks, twice_differentiable(), _WrittenOut():
            logits, slope = torch.func.jvp(critic, (points,), (direction,))[:2]
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        if not eager:
            raise
        if "requires_grad_()" in str(error):
            raise _refusal("it takes a gradient of its own, as a critic with a normalized output does") from error
        raise _refusal(str(error).splitlines()[0]) from error
    if noise is not None:  # not while it is compiled
        _require_right(logits, slope)
        if has_drawn(points.device, noise):
            with torch.no_grad(), same_noise(points.device, noise):
                alike = torch.allclose(critic(points), logits, rtol=1e-2, atol=1e-3)
            if not alike:  # the numbers are drawn in the order of memory, which forward mode may change
                raise _refusal("it draws random numbers, such as dropout, which are others in forward mode")
    return slope


def _refusal(reason: str) -> ValueError:
    return ValueError(f"this critic has no forward-mode derivative, use another method: {reason}")


def _require_right(*results: Tensor) -> None:
    for node in graph_nodes(*results):
        name = node.name()
        if name.rstrip("0123456789") in _WRONG_FORWARD_FORMULA and getattr(node, "_saved_training", True):
            raise _refusal(f"PyTorch's forward formula of {name.split('Backward')[0]} has a wrong gradient")
        if name in NO_DERIVATIVE:
            raise _refusal("a layer's forward formula has no gradient")


class _WrittenOut(TorchFunctionMode):
    """Normalizations as the arithmetic that they are, whose derivatives are all right."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.layer_norm:
            return _layer_norm(*args, **kwargs)
        if func is F.rms_norm:  # its formula is right, but in such a mode it cannot be compiled
            return _rms_norm(*args, **kwargs)
        if func is F.group_norm:  # its formula takes tensors in the usual order of memory only
            return func(args[0].contiguous(), *args[1:], **kwargs)
        if func is F.instance_norm:
            return _instance_norm(*args, **kwargs)
        if func is F.batch_norm and _BATCH_NORM.bind(*args, **kwargs).arguments.get("training"):
            raise _refusal("BatchNorm in train mode couples the samples of a batch")
        return func(*args, **kwargs)


def _standardized(values: Tensor, dims: list[int], eps: float) -> Tensor:
    variance, mean = torch.var_mean(wide(values), dims, correction=0, keepdim=True)
    return (wide(values) - mean) * torch.rsqrt(variance + eps)


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    output = _standardized(input, list(range(-len(normalized_shape), 0)), eps)
    output = output if weight is None else output * weight
    return (output if bias is None else output + bias).to(input.dtype)


def _rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims = list(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    output = wide(input) * torch.rsqrt(wide(input).square().mean(dims, keepdim=True) + eps)
    return (output if weight is None else output * weight).to(input.dtype)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return F.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    # The running statistics were moved by the pass that gave the direction, and one penalty moves them once.
    output = _standardized(input, list(range(2, input.ndim)), eps)
    shape = (-1, *[1] * (input.ndim - 2))
    output = output if weight is None else output * weight.view(shape)
    return (output if bias is None else output + bias.view(shape)).to(input.dtype)
