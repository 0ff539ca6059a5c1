"""The ResNet with equalized learning rates: its layout, its start, and that a rate is the same for every layer."""

import math

import pytest
import torch
from torch import nn

from licfg_hf.models import LGANDiscriminator, LGANGenerator
from licfg_hf.models.lgan import EqualizedConv2d, EqualizedLinear
from licfg_hf.recipes import get_recipe


def test_the_networks_are_those_of_the_published_run():
    generator, discriminator = LGANGenerator(), LGANDiscriminator()
    conv = 9 * 128 * 128 + 128
    assert sum(p.numel() for p in generator.parameters()) == 129 * 128 * 64 + 6 * conv + 7 * 256 + 9 * 128 * 3 + 3
    assert sum(p.numel() for p in discriminator.parameters()) == 9 * 3 * 128 + 128 + 6 * conv + 129
    sizes = []
    for block in (*generator.blocks, *discriminator.blocks):
        block.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    images = generator(torch.zeros(2, 128)).sample
    assert images.shape == (2, 3, 32, 32) and discriminator(images).logits.shape == (2, 1)
    assert sizes == [8, 16, 32, 32, 16, 8]
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in discriminator.modules())


def test_weights_are_stored_with_deviation_a_tenth_and_used_with_that_of_their_inputs():
    torch.manual_seed(0)
    for network in (LGANGenerator(), LGANDiscriminator()):
        layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        assert layers and all(isinstance(layer, (EqualizedConv2d, EqualizedLinear)) for layer in layers)
        for layer in layers:
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(0.1, rel=0.1)
            assert layer.weight.abs().max().item() <= 0.1 * math.sqrt(3)
            assert layer.scale * 0.1 == pytest.approx(1 / math.sqrt(fan_in)) and not layer.bias.any()


def test_a_layer_computes_with_its_scaled_weights(rng):
    conv, linear = EqualizedConv2d(2, 3).double(), EqualizedLinear(4, 3).double()
    images, vectors = torch.randn(2, 2, 5, 5, generator=rng).double(), torch.randn(2, 4, generator=rng).double()
    expected = nn.functional.conv2d(images, conv.weight / (math.sqrt(18) * 0.1), conv.bias, padding=1)
    torch.testing.assert_close(conv(images), expected)
    torch.testing.assert_close(linear(vectors), vectors @ linear.weight.T / (2 * 0.1) + linear.bias)


def test_they_are_saved_and_loaded(tmp_path):
    for network in (LGANGenerator(8, 1, 4, 6), LGANDiscriminator(8, 1, 6)):
        network.save_pretrained(tmp_path / type(network).__name__)
        loaded = type(network).from_pretrained(tmp_path / type(network).__name__)
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match="multiple of 4"):
        LGANGenerator(sample_size=10)


def test_a_preset_may_name_its_networks_and_the_command_line_others():
    recipe = get_recipe("lgan_cifar")
    options = recipe.parse(["--preset", "adashift"])[1]
    assert options.generator.class_path == "licfg_hf.models.LGANGenerator" and options.generator.norm_eps == 1e-3
    assert "architecture" not in options.generator and options.discriminator.base_channels == 128
    words = ["--preset", "adashift", "--generator.class_path", "licfg_hf.models.DCGANGenerator"]
    assert "norm_momentum" not in recipe.parse(words)[1].generator
    assert recipe.parse(["--preset", "sqrt"])[1].generator.architecture == "resnet"
