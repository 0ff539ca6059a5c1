"""Parameter counts of the published networks, counted on the meta device."""

import pytest
from accelerate import init_empty_weights

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

IMAGENET = {"num_classes": 1000, "attention_resolutions": (64,)}
SHARED = {**IMAGENET, "shared_dim": 128, "hierarchical": True}
TABLE = {"variant": "truncation_table"}


@pytest.mark.parametrize(
    ("network", "arguments", "count"),
    [
        # ajbrock/BigGAN-PyTorch
        (BigGANGenerator, {}, 4_304_387),
        (BigGANDiscriminator, {}, 4_207_361),
        (BigGANGenerator, {"sample_size": 64, "latent_dim": 120, **SHARED}, 70_239_108),
        (BigGANDiscriminator, {"sample_size": 64, **IMAGENET}, 45_500_449),
        (BigGANGenerator, {"sample_size": 128, "latent_dim": 120, **SHARED}, 70_433_988),
        (BigGANDiscriminator, {"sample_size": 128, **IMAGENET}, 87_982_370),
        (BigGANGenerator, {"sample_size": 256, "latent_dim": 140, **SHARED}, 82_235_844),
        (BigGANDiscriminator, {"sample_size": 256, **IMAGENET}, 99_225_890),
        (BigGANGenerator, {"sample_size": 512, "latent_dim": 128, **SHARED}, 82_296_804),
        # its SAGAN and SNGAN launch scripts
        (BigGANGenerator, {"sample_size": 128, "base_channels": 64, **IMAGENET}, 42_017_412),
        (BigGANDiscriminator, {"sample_size": 128, "base_channels": 64, **IMAGENET}, 39_448_258),
        (BigGANGenerator, {"sample_size": 128, "base_channels": 64, "num_classes": 1000}, 41_996_931),
        (
            BigGANDiscriminator,
            {"sample_size": 128, "base_channels": 64, "num_classes": 1000, "wide": False},
            30_005_013,
        ),
        (BigGANDeepGenerator, {"sample_size": 64, "latent_dim": 120}, 49_006_340),
        (BigGANDeepDiscriminator, {"sample_size": 64}, 20_869_633),
        (BigGANDeepGenerator, {}, 50_244_484),
        (BigGANDeepDiscriminator, {}, 34_590_210),
        (BigGANDeepGenerator, {"sample_size": 256}, 55_736_708),
        (BigGANDeepDiscriminator, {"sample_size": 256}, 38_247_426),
        # pytorch-pretrained-BigGAN
        (BigGANDeepGenerator, {"sample_size": 128, **TABLE}, 50_388_609),
        (BigGANDeepGenerator, {"sample_size": 256, **TABLE}, 55_880_833),
        (BigGANDeepGenerator, {"sample_size": 512, **TABLE}, 56_163_905),
        # GNGAN-PyTorch
        (SNGANGenerator, {"architecture": "cnn"}, 3_813_379),
        (SNGANDiscriminator, {"architecture": "cnn"}, 5_860_865),
        (
            SNGANDiscriminator,
            {"architecture": "cnn", "strided_only": True, "channel_multipliers": (1, 2, 4)},
            3_136 + 131_200 + 524_544 + 4_097,  # three convolutions of 4 x 4, and a linear layer
        ),
        (SNGANGenerator, {"architecture": "cnn", "sample_size": 48}, 5_134_339),
        (SNGANDiscriminator, {"architecture": "cnn", "sample_size": 48}, 5_871_105),
        (SNGANGenerator, {}, 4_276_739),
        (SNGANDiscriminator, {}, 1_053_825),
        (SNGANGenerator, {"sample_size": 48}, 4_878_083),
        (SNGANDiscriminator, {"sample_size": 48}, 4_859_073),
        (SNGANGenerator, {"sample_size": 128}, 32_150_787),
        (SNGANDiscriminator, {"sample_size": 128}, 38_419_137),
        (SNGANGenerator, {"sample_size": 256}, 37_135_107),
        (SNGANDiscriminator, {"sample_size": 256}, 43_401_409),
        (BigGANGenerator, {"sample_size": 128, "latent_dim": 126, **SHARED}, 70_473_348),
        # mimicry
        (SNGANGenerator, {"sample_size": 64}, 12_220_675),
        (SNGANDiscriminator, {"sample_size": 64}, 10_141_441),
        (
            SNGANDiscriminator,
            {"sample_size": 48, "base_channels": 64, "channel_multipliers": (1, 2, 4, 8, 16), "wide": False},
            10_141_441,
        ),
        (SNGANDiscriminator, {"sample_size": 128, "wide": False}, 29_017_857),
        (SNGANGenerator, {"num_classes": 10}, 4_304_387),
        (SNGANDiscriminator, {"num_classes": 10}, 1_055_105),
        # StudioGAN
        (DCGANGenerator, {}, 3_812_355),
        (DCGANDiscriminator, {}, 2_931_009),
        # CFG, Li-CFG: the sums of the products of their kernels' sizes, biases where they are used, and BatchNorm
        (
            DCGANGenerator,
            {"architecture": "cfg", "base_channels": 32, "latent_dim": 100, "out_channels": 1},
            5_010_817,
        ),
        (DCGANDiscriminator, {"architecture": "cfg", "base_channels": 32, "in_channels": 1}, 280_129),
        (
            DCGANGenerator,
            {"architecture": "cfg", "channel_multipliers": (32, 16, 8, 4), "latent_dim": 100},
            71_046_403,
        ),
        (
            BigGANGenerator,
            {
                "latent_dim": 80,
                "shared_dim": 128,
                "hierarchical": True,
                "base_channels": 96,
                "attention_resolutions": (16,),
            },
            9_416_196,
        ),
        (BigGANDiscriminator, {"base_channels": 48, "attention_resolutions": (16,)}, 2_415_170),
    ],
)
def test_parameter_count(network, arguments, count):
    with init_empty_weights():
        built = network(**arguments)
    assert sum(parameter.numel() for parameter in built.parameters()) == count
