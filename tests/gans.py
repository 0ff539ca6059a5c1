"""Small plain GANs for tests: 8x8 images, ten classes."""

import torch
from torch import nn

from licfg_hf import (
    BigGANDeepDiscriminator,
    BigGANDeepGenerator,
    BigGANDiscriminator,
    BigGANGenerator,
    DCGANDiscriminator,
    DCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)

CLASSES = 10
_GENERATOR = {"sample_size": 8, "out_channels": 1, "channel_multipliers": (2, 1), "base_channels": 8, "latent_dim": 6}
_DISCRIMINATOR = {"sample_size": 8, "in_channels": 1, "channel_multipliers": (1, 2), "base_channels": 8}
_CONDITIONAL = {"num_classes": CLASSES}
_DEEP = {"channel_multipliers": (2, 1), "base_channels": 16, "shared_dim": 4, "attention_resolutions": (8,)}

GENERATORS = {
    "sngan_resnet": lambda: SNGANGenerator(**_GENERATOR),
    "sngan_bilinear": lambda: SNGANGenerator(**_GENERATOR, upsample_mode="bilinear"),
    "sngan_cnn": lambda: SNGANGenerator(**_GENERATOR, architecture="cnn"),
    "sngan_conditional": lambda: SNGANGenerator(**_GENERATOR, **_CONDITIONAL),
    "dcgan": lambda: DCGANGenerator(**_GENERATOR),
    "dcgan_conditional": lambda: DCGANGenerator(**_GENERATOR, **_CONDITIONAL),
    "dcgan_cfg": lambda: DCGANGenerator(**_GENERATOR, architecture="cfg", initialization="normal"),
    "biggan": lambda: BigGANGenerator(**_GENERATOR, **_CONDITIONAL),
    "biggan_hierarchical": lambda: BigGANGenerator(
        **_GENERATOR, **_CONDITIONAL, shared_dim=4, hierarchical=True, attention_resolutions=(8,)
    ),
    "biggan_deep": lambda: BigGANDeepGenerator(**{**_GENERATOR, **_CONDITIONAL, **_DEEP}),
    "biggan_deep_table": lambda: BigGANDeepGenerator(
        **{**_GENERATOR, **_CONDITIONAL, **_DEEP}, variant="truncation_table"
    ),
}
DISCRIMINATORS = {
    "sngan_resnet": lambda **more: SNGANDiscriminator(**_DISCRIMINATOR, **more),
    "sngan_cnn": lambda **more: SNGANDiscriminator(**_DISCRIMINATOR, architecture="cnn", **more),
    "dcgan": lambda **more: DCGANDiscriminator(**_DISCRIMINATOR, batch_norm=False, **more),
    "dcgan_cfg": lambda **more: DCGANDiscriminator(
        **{**_DISCRIMINATOR, "architecture": "cfg", "initialization": "xavier", "batch_norm": False, **more}
    ),
    "biggan": lambda **more: BigGANDiscriminator(
        **{**_DISCRIMINATOR, "num_classes": None, "attention_resolutions": (4,), "normalizers": (), **more}
    ),
    "biggan_deep": lambda **more: BigGANDeepDiscriminator(
        **{**_DISCRIMINATOR, "num_classes": None, "attention_resolutions": (4,), "normalizers": (), **more}
    ),
}
HEADS = {
    "linear": {},
    "projection": {"num_classes": CLASSES},
    "auxiliary": {"num_classes": CLASSES, "head_type": "auxiliary"},
}
NORMALIZERS = {
    "none": (),
    "spectral": ({"kind": "spectral", "k": 2.0},),
    "stable_rank": ({"kind": "stable_rank", "rank_ratio": 0.5, "k": 1.0},),
    "gradient": ({"kind": "gradient"},),
    "penalty_gradient": ({"kind": "penalty_gradient", "formula": "elementwise"},),
    "penalty_gradient_norm": ({"kind": "penalty_gradient", "formula": "norm"},),
    "spectral_and_gradient": ({"kind": "spectral", "k": 1.0}, {"kind": "gradient", "first_order_generator": True}),
}


def wake_attention(network: nn.Module) -> nn.Module:
    """Attention starts switched off (gamma = 0); a test should see it."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return network


def batch(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, 8, 8) and labels."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 8, 8, generator=rng) * 2 - 1, torch.arange(count) % CLASSES
