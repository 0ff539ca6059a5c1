"""Sampling of denoising diffusion GANs."""

from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..models import DDGANGenerator
from ..objective.functional_gradient import FunctionalGradientFlow
from ..schedulers import DDGANScheduler
from .base import HubPipeline, RandomGenerators, finish, require_request

Denoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@torch.no_grad()
def sample_ddgan(
    denoise: Denoiser,
    scheduler: DDGANScheduler,
    noise: Tensor,
    latent_dim: int | None,
    generator: RandomGenerators = None,
    chunk_size: int = 256,
    progress: Callable = iter,
    flow: FunctionalGradientFlow | None = None,
) -> Tensor:
    """Denoises x_T, ``noise`` (batch, channels, height, width), step by step; returns x_0.

    The randomness of a step is drawn for the whole batch before the network sees it chunk by chunk, so the pictures do
    not depend on ``chunk_size``.

    Args:
        denoise: (x_{t+1}, t as int64 (batch,), z or None) -> prediction of x_0, called as in training.
        latent_dim: length of z; ``None`` for networks without a latent.
        flow: functional-gradient steps that move every x_t, given t and x_{t+1}; its noise comes from ``generator``,
            of a list from the first.
    """
    sample = noise
    for timestep in progress(scheduler.timesteps.tolist()):
        latents = [None] * len(sample.split(chunk_size))
        if latent_dim is not None:
            shape = (len(sample), latent_dim)
            drawn = randn_tensor(shape, generator=generator, device=sample.device, dtype=sample.dtype)
            latents = drawn.split(chunk_size)
        steps = torch.full((len(sample),), timestep, dtype=torch.int64, device=sample.device)
        chunks = zip(sample.split(chunk_size), steps.split(chunk_size), latents, strict=True)
        originals = torch.cat([denoise(*chunk) for chunk in chunks])
        previous = scheduler.step(originals, timestep, sample, generator=generator, return_dict=False)[0]
        if flow is not None:
            rng = generator[0] if isinstance(generator, list) else generator
            moved = flow(previous.float(), rng=rng, timestep=steps, next_sample=sample.float())
            previous = moved.to(sample.dtype)
        sample = previous
    return sample


class DDGANPipeline(HubPipeline):
    """Unconditional images from a denoising diffusion GAN, in as many network passes as it has timesteps.

    Args:
        unet: the generator: ``DDGANGenerator``, or a model without a latent such as diffusers' ``UNet2DModel``.
        scheduler: the diffusion it was trained with.
    """

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: DDGANGenerator | ModelMixin, scheduler: DDGANScheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: RandomGenerators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        chunk_size: int = 256,
        flow: FunctionalGradientFlow | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Draws images.

        Args:
            batch_size: how many.
            flow: functional-gradient steps after every denoising step, such as ``load_flow`` gives; None takes none.
            generator, output_type, return_dict, chunk_size: as in ``GANPipeline``.

        Raises:
            ValueError: ``batch_size`` or ``chunk_size`` is below 1, ``output_type`` is unknown, or the number of
                generators is not ``batch_size``.
        """
        require_request(batch_size, chunk_size, output_type, generator)
        config, device = self.unet.config, self._execution_device
        size = config.sample_size
        shape = (batch_size, config.in_channels, *((size, size) if isinstance(size, int) else size))
        # One seed draws the same pictures whatever the network's type: torch's generators do not.
        noise = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        self.scheduler.set_timesteps()
        flow = None if flow is None else replace(flow, chunk_size=chunk_size)
        drawn = (noise, config.get("latent_dim"), generator, chunk_size)
        images = sample_ddgan(self._denoise, self.scheduler, *drawn, progress=self.progress_bar, flow=flow)
        self.maybe_free_model_hooks()
        return finish(images, output_type, return_dict)

    def _denoise(self, sample: Tensor, timestep: Tensor, latents: Tensor | None) -> Tensor:
        inputs = (sample, timestep) if latents is None else (sample, timestep, latents.to(self.unet.dtype))
        return self.unet(inputs[0].to(self.unet.dtype), *inputs[1:]).sample
