"""Option values that several presets share."""

from typing import Any


def optimizers(
    generator: float,
    discriminator: float,
    name: str = "adam",
    schedule: str = "constant",
    final: float = 0.0,
    **arguments: Any,
) -> dict[str, Any]:
    """Options of both optimizers.

    Args:
        generator: learning rate of the generator at the first step.
        discriminator: likewise.
        name: of the optimizer.
        schedule: of the learning rates.
        final: learning rate at the last step.
        arguments: further arguments of both optimizers.
    """
    options: dict[str, Any] = {}
    for network, rate in (("generator", generator), ("discriminator", discriminator)):
        options[f"{network}_optimizer.name"] = name
        options[f"{network}_optimizer.learning_rate"] = rate
        options[f"{network}_optimizer.arguments"] = arguments
        options[f"{network}_optimizer.schedule"] = schedule
        options[f"{network}_optimizer.final_learning_rate"] = final
    return options


# How often a long run writes, and its BatchNorm generator is evaluated (BigGAN's standing statistics).
LONG_RUN = {"checkpoint_every": 2000, "sample_every": 2000, "log_every": 50}
BATCH_NORM = {"standing_batches": 16}

# CR of the GN and PGN settings: weight 5 on real images, flips with probability 1/2, shifts by up to 0.2.
GN_CONSISTENCY = {
    "consistency": "real",
    "consistency_weight": 5.0,
    "consistency_flip": 0.5,
    "consistency_shift": 0.2,
    "consistency_padding": "zeros",
}

# The embedded digits: 1,797 images of 8x8 pixels in grey.
DIGITS = {
    "data": "digits",
    "batch_size": 64,
    "generator_batch_size": None,
    "checkpoint_every": 500,
    "sample_every": 500,
    "log_every": 20,
    "evaluate_samples": 1000,
}
# Networks for 8x8 pixels, two resolutions each.
DIGITS_NETWORKS = {
    "generator.base_channels": 32,
    "generator.channel_multipliers": [2, 1],
    "discriminator.base_channels": 32,
    "discriminator.channel_multipliers": [1, 2],
}
