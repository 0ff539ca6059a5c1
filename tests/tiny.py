"""Networks small enough to train in a test."""

import torch

from licfg_hf import DDGANDiscriminator, DDGANGenerator

TINY = {
    "sample_size": 8,
    "in_channels": 1,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "layers_per_block": 1,
    "attention_resolutions": (4,),
    "latent_dim": 6,
    "latent_embedding_dim": 16,
    "latent_layers": 1,
}


def tiny_generator() -> DDGANGenerator:
    torch.manual_seed(0)
    return awaken(DDGANGenerator(**TINY))


def tiny_discriminator() -> DDGANDiscriminator:
    torch.manual_seed(0)
    return awaken(DDGANDiscriminator(in_channels=1, base_channels=4, time_embedding_dim=16))


def awaken(network):
    """Gives the layers that start at zero a weight, so that a test sees them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network
