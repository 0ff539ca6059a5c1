"""BigGAN whose discriminator carries the ε-centred gradient penalty, on ImageNet at 128 pixels."""

from ..models import BigGANDiscriminator, BigGANGenerator
from .biggan_eps_cifar import CARD, COMPONENTS, QUICKSTART
from .networks import gan_build
from .options import BATCH_NORM, LONG_RUN, optimizers
from .recipe import Recipe

# launch_BigGAN_bs256x8.sh of ajbrock/BigGAN-PyTorch: batches of 2,048; pass --gradient_accumulation_steps so that a
# micro-batch fits your GPUs. The ε-centred penalty is ours, weight included.
IMAGENET = {
    "data": "imagenet",
    "image_size": 128,
    "max_steps": 150_000,
    "batch_size": 2048,
    **optimizers(1e-4, 4e-4, betas=[0.0, 0.999], eps=1e-6),
    "ema_decay": 0.9999,
    "ema_start": 20_000,
    "loss": "hinge",
    "penalty": "eps_centered",
    "penalty_weight": 0.01,
    "normalizer": "spectral",
    "generator.latent_dim": 120,
    "generator.shared_dim": 128,
    "generator.hierarchical": True,
    "generator.attention_resolutions": [64],
    "generator.initialization": "orthogonal",
    "discriminator.attention_resolutions": [64],
    "discriminator.initialization": "orthogonal",
    **BATCH_NORM,
    **LONG_RUN,
}
RECIPE = Recipe(
    name="biggan_eps_imagenet",
    title="BigGAN-128 with the ε-centred gradient penalty",
    components=COMPONENTS,
    build=gan_build(BigGANGenerator, BigGANDiscriminator, conditional=True),
    presets={
        "imagenet": IMAGENET,
        # The same kind of network on the digits: shared embedding, hierarchical latents, attention.
        "quickstart": {
            **QUICKSTART,
            "penalty": "eps_centered",
            "penalty_weight": 0.1,
            "generator.shared_dim": 16,
            "generator.hierarchical": True,
            "generator.attention_resolutions": [8],
            "generator.initialization": "orthogonal",
            "discriminator.attention_resolutions": [4],
            "discriminator.initialization": "orthogonal",
        },
    },
    card=CARD,
)
