"""Upper bounds: how far the outputs of a critic can lie apart, and the norms of the layers that it is made of."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..objective.critic import power_iterations_paused

_Layer = nn.modules.conv._ConvNd | nn.Linear


def domain_bound(k: float, shape: Sequence[int], value_range: tuple[float, float] = (-1.0, 1.0)) -> float:
    """The largest max D - min D of a k-Lipschitz critic: k times the diameter of the cube that the images fill.

    For images of m x n pixels, three channels and values in [-1, 1] it is k sqrt(12 m n) (Qin, Mitra, Wonka, ECCV
    2020, Theorem 1): 110.851 k at 32 px, 221.703 k at 64 px. The slopes of a loss L differ by at most max |L''| times
    as much (Corollary 1).

    Args:
        k: Lipschitz constant of the critic in the Euclidean norm.
        shape: of one image, such as (channels, height, width).
        value_range: smallest and largest value of a pixel.

    Raises:
        ValueError: k is negative, or the range or a size is not positive.
    """
    low, high = value_range
    if not (k >= 0 and low < high and shape and min(shape) >= 1):
        raise ValueError(f"k is at least 0, and range and sizes are positive, not {k}, {value_range}, {tuple(shape)}")
    return k * (high - low) * math.sqrt(math.prod(shape))


@torch.no_grad()
def operator_norm(layer: nn.Module, shape: Sequence[int], iterations: int = 100) -> float:
    """The largest ||W x|| / ||x|| of a convolution or linear layer over its inputs; the bias does not count.

    That of a convolution depends on the size of the image, the stride and the padding. It is not the largest singular
    value sigma of the weight reshaped to (out, rest), which ``spectral_normalize`` sets: with kernels of h x w and
    stride s it is at most sqrt(ceil(h / s) ceil(w / s)) sigma, and at least sigma where the kernel fits into the
    image. Power iteration on W^T W gives a lower bound that tends to the norm.

    Args:
        layer: a convolution, transposed or not, or a linear layer, normalized or not.
        shape: of one input, without the batch, such as (channels, height, width).
        iterations: of the power iteration.

    Raises:
        ValueError: the layer is of another kind, or ``iterations`` is below 1.
    """
    if not isinstance(layer, _Layer):
        raise ValueError(f"the norm is that of a convolution or a linear layer, not of a {type(layer).__name__}")
    if iterations < 1:
        raise ValueError(f"iterations are at least 1, not {iterations}")
    with power_iterations_paused(layer.modules()):
        rng = torch.Generator().manual_seed(0)  # the same answer for the same layer
        vector = torch.randn(1, *shape, generator=rng).to(layer.weight)
        at_zero, norm = layer(torch.zeros_like(vector)), 0.0
        for _ in range(iterations):
            vector = vector / torch.linalg.vector_norm(vector).clamp(min=torch.finfo(vector.dtype).tiny)
            output, *pulled = torch.func.vjp(lambda points: layer(points) - at_zero, vector)
            norm = torch.linalg.vector_norm(output).item()
            (vector,) = pulled[0](output)
    return norm


@torch.no_grad()
def operator_norms(critic: nn.Module, images: Tensor, iterations: int = 100) -> dict[str, float]:
    """The ``operator_norm`` of each convolution and linear layer that one pass of a critic calls, by its name.

    The product is a Lipschitz constant of a critic that is a chain of such layers and of activations with slopes of
    at most 1, such as ReLU. Skip connections, attention and norm layers need more than this product.

    Args:
        images: inputs of the critic, (batch, ...); only their shape counts.
    """
    shapes: dict[str, Sequence[int]] = {}
    layers = {name: layer for name, layer in critic.named_modules() if isinstance(layer, _Layer)}

    def noted(name: str):
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            shapes[name] = inputs[0].shape[1:]

        return note

    hooks = [layer.register_forward_pre_hook(noted(name)) for name, layer in layers.items()]
    try:
        with power_iterations_paused(critic.modules()):
            critic(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: operator_norm(cast(nn.Module, layers[name]), shape, iterations) for name, shape in shapes.items()}
