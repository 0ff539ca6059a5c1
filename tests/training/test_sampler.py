import copy

import pytest
import torch
from gans import GENERATORS
from torch.nn.utils import parametrize

from licfg_hf.training.sampler import with_matching_buffers


def draw(network) -> None:
    labels = torch.arange(32) % 10
    network(torch.randn(32, network.latent_dim), *([labels] if network.config.get("num_classes") else []))


def largest_singular_values(network) -> list[float]:
    layers = [layer for layer in network.modules() if parametrize.is_parametrized(layer, "weight")]
    return [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]


def test_singular_vectors_are_those_of_the_weights():
    torch.manual_seed(0)
    network = GENERATORS["biggan"]().eval()
    with torch.no_grad():  # as an average moves its weights, without a forward pass
        for layer in network.modules():
            if parametrize.is_parametrized(layer, "weight"):
                original = layer.parametrizations.weight.original
                original.add_(0.02 * torch.randn_like(original))
    assert max(largest_singular_values(network)) > 1.2
    with with_matching_buffers(network, draw, None) as network:
        assert largest_singular_values(network) == pytest.approx(
            [1.0] * len(largest_singular_values(network)), rel=0.05
        )


@pytest.mark.parametrize("name", ["sngan_resnet", "biggan", "dcgan"])
def test_standing_statistics_are_the_mean_over_batches_and_all_is_put_back(name):
    torch.manual_seed(0)
    network = GENERATORS[name]().train()
    draw(network)
    before = copy.deepcopy(network.state_dict())
    with with_matching_buffers(network, draw, 16) as rested:
        assert not rested.training
        norms = [layer for layer in rested.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        assert all(norm.num_batches_tracked == 16 for norm in norms)
        # In eval mode the last normalization now centres its input, as it does in train mode.
        seen = []
        handle = rested.conv_out.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        rested.eval()
        draw(rested)
        rested.train()
        draw(rested)
        handle.remove()
        torch.testing.assert_close(seen[0].mean(), seen[1].mean(), rtol=0.1, atol=0.02)
    assert network.training and norms[0].momentum == 0.1
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_statistics_stay_where_none_are_asked_for():
    network = GENERATORS["sngan_resnet"]().train()
    draw(network)
    before = network.norm_out.running_mean.clone()
    with with_matching_buffers(network, draw, None) as rested:
        assert torch.equal(rested.norm_out.running_mean, before)
