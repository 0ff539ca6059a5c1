"""The networks that a checkpoint of any format is turned into."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers import ModelMixin

from ..models import Discriminator
from ..schedulers import DDGANScheduler

SPECTRAL = ({"kind": "spectral", "k": 1.0},)
ONLY_WEIGHTS = "the file's only weights"


@dataclass(frozen=True)
class Networks:
    """The networks of one file.

    Attributes:
        generator: or None.
        discriminator: or None.
        scheduler: of a denoising diffusion GAN.
        generator_weights: which of the weights that a training keeps the generator has.
        options: of the reference, those that were used; None where the keys told everything.
        notes: sentences that the user should know.
    """

    generator: ModelMixin | None = None
    discriminator: Discriminator | None = None
    scheduler: DDGANScheduler | None = None
    generator_weights: str = ONLY_WEIGHTS
    options: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
