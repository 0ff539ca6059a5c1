"""The cheaper double backward: the same derivatives of every order, and no pass more than the formula needs."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from licfg_hf import EpsCenteredGradientPenalty
from licfg_hf.objective.double_backward import prepare_double_backward, speed_up_convolutions

CONVOLUTIONS = {
    "1d strided, grouped": (F.conv1d, (2, 4, 7), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "2d dilated": (F.conv2d, (2, 2, 5, 4), (2, 2, 3, 3), {"padding": 2, "dilation": 2}),
    "2d depthwise": (F.conv2d, (2, 2, 5, 4), (2, 1, 3, 3), {"groups": 2}),
    "2d 1x1 strided": (F.conv2d, (2, 2, 5, 4), (3, 2, 1, 1), {"stride": 2}),
    "2d transposed": (F.conv_transpose2d, (2, 2, 3, 3), (2, 2, 4, 4), {"stride": 2, "padding": 1}),
    "3d": (F.conv3d, (1, 2, 4, 4, 4), (2, 2, 2, 2, 2), {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_have_the_second_and_third_derivatives_of_finite_differences(name):
    assert speed_up_convolutions()
    function, image, kernel, options = CONVOLUTIONS[name]
    rng = torch.Generator().manual_seed(0)
    sample, weight = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in (image, kernel))
    channels = function(sample, weight, **options).shape[1]
    bias = torch.randn(channels, generator=rng, dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (sample, weight, bias)]
    assert torch.autograd.gradgradcheck(lambda *values: function(*values, **options), inputs)

    def first(*values: torch.Tensor) -> torch.Tensor:
        output = function(*values, **options).sin().sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(output, values, create_graph=True)])

    assert torch.autograd.gradgradcheck(lambda *values: first(*values).sin().mean(), inputs, atol=1e-4)


def critic_of(activation: nn.Module, pool: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), activation, pool, nn.Conv2d(8, 8, 3, padding=1), activation]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 1)).double()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=lambda pool: type(pool).__name__)
@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), nn.Hardtanh(), nn.SiLU(), nn.Tanh(), nn.GELU(), nn.Softplus()],
    ids=lambda activation: type(activation).__name__,
)
def test_what_is_skipped_was_zero(activation, pool):
    critic = critic_of(activation, pool)
    rng = torch.Generator().manual_seed(1)
    points = torch.randn(4, 3, 8, 8, generator=rng, dtype=torch.float64).requires_grad_()

    def parameter_gradients(skip: bool) -> list[torch.Tensor]:
        (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        if skip:
            prepare_double_backward(gradient)
        distance = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        found = torch.autograd.grad(distance, list(critic.parameters()), allow_unused=True)
        return [torch.zeros(()) if part is None else part for part in found]

    for plain, skipped in zip(parameter_gradients(False), parameter_gradients(True), strict=True):
        assert (plain - skipped).abs().max() <= 1e-15 * max(1.0, plain.abs().max())


class CountPasses(TorchDispatchMode):
    """Convolutions by what they compute: output, input gradient, weight gradient."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            assert args[1].shape[-1] <= 3, "a kernel as large as the image"
            self.counts["output"] += 1
        if function is torch.ops.aten.convolution_backward.default:
            self.counts.update(name for name, wanted in zip(("input", "weight"), args[-1], strict=False) if wanted)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("activation", "expected"), [(nn.ReLU(), (4, 2, 2)), (nn.SiLU(), (4, 4, 4))])
def test_a_penalty_takes_the_passes_that_its_formula_needs(activation, expected):
    """Two layers: forward and tangent, the input gradient, and the weights' at the tangent. Smooth activations also
    send their curvature back through the first-order graph, as far as the points."""
    critic = critic_of(activation, nn.AvgPool2d(2))
    real, fake = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with CountPasses() as passes:
        EpsCenteredGradientPenalty(0.1)(critic, real, fake).backward()
    assert tuple(passes.counts[name] for name in ("output", "input", "weight")) == expected
