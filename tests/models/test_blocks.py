"""Convolutions that upsample or pool at once give what the two operations give one after the other."""

import pytest
import torch
import torch.nn.functional as F

from licfg_hf.models.blocks import DiscriminatorBlock, PooledConv, UpsampledConv, upsample


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", ["nearest", "bilinear", "pooled"])
def test_one_convolution_is_the_two_operations_in_value_and_in_both_derivatives(kind, size):
    torch.manual_seed(0)
    images = torch.randn(2, 3, size + (kind == "pooled"), size + 1, dtype=torch.float64, requires_grad=True)
    layer = (PooledConv(3, 4) if kind == "pooled" else UpsampledConv(3, 4, kind)).double()
    plain = F.conv2d(images if kind == "pooled" else upsample(images, kind), layer.weight, layer.bias, padding=1)
    plain = F.avg_pool2d(plain, 2) if kind == "pooled" else plain

    def derivatives(output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (gradient,) = torch.autograd.grad(output.sin().sum(), images, create_graph=True)
        return output, gradient, *torch.autograd.grad(gradient.square().sum(), layer.parameters())

    for found, right in zip(derivatives(layer(images)), derivatives(plain), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_the_block_of_a_critic_pools_what_the_papers_pool(first):
    torch.manual_seed(0)
    block = DiscriminatorBlock(3, 4, 4, downsample=True, first=first, activate_shortcut=False).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    hidden = F.relu(F.conv2d(images if first else images.relu(), block.conv1.weight, block.conv1.bias, padding=1))
    hidden = F.conv2d(hidden, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(images), F.avg_pool2d(hidden + block.shortcut(images), 2))
