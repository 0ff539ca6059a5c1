"""The task of a few-step student that is trained against a critic of clean images."""

from dataclasses import dataclass

import torch
from torch import nn

from .tasks import DDGANTask, MicroBatch


@dataclass(frozen=True)
class DistillationTask(DDGANTask):
    """A few-step student: it predicts x_0 from x_{t+1}, and the discriminator judges x_0, without a timestep.

    Real images are the data's own, fakes the student's predictions at timesteps drawn at random; the loss is the
    adversarial one alone, nothing ties a prediction to its x_{t+1}. Samples are drawn as in a ``DDGANTask``, step by
    step through the posterior, and the student is exported as a ``DDGANPipeline``.

    Calls are ``generator(x_{t+1}, t)``, with z where there are latents, and ``discriminator(x_0)``.

    Args:
        scheduler: the diffusion; its timesteps are the student's steps.
        latent_dim: length of z; ``None`` for students without one, such as diffusers' ``UNet2DModel``.
    """

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images x_0 (batch, channels, height, width) in [-1, 1]."""
        pairs = super().draw(images, labels, rng)
        return MicroBatch(images, noise={**pairs.noise, **pairs.conditioning})

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> torch.Tensor:
        """The fake counterpart of ``micro_batch.real``: the student's x_0."""
        noise = micro_batch.noise
        return self._denoise(generator, noise["next_sample"], noise["timestep"], noise.get("latents"))
