"""What networks return: dataclasses that behave like diffusers' outputs."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput


@dataclass
class GeneratorOutput(BaseOutput):
    """Output of a generator.

    Attributes:
        sample: images (batch, channels, height, width) in [-1, 1].
    """

    sample: torch.Tensor


@dataclass
class DiscriminatorOutput(BaseOutput):
    """Output of a discriminator.

    Attributes:
        logits: raw critic values (batch, 1), larger for more real; always float32 or wider.
        class_logits: (batch, classes) of an auxiliary classifier, else None.
    """

    logits: torch.Tensor
    class_logits: torch.Tensor | None = None
