"""The tasks of a training step: how real points, generated points and their conditioning come from a batch of images.

The steps and the trainer know only the three methods of a task, so a plain GAN and a denoising diffusion GAN are
trained by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from ..errors import InputError
from ..objective.functional_gradient import FunctionalGradientFlow
from ..pipelines.ddgan import DDGANPipeline, sample_ddgan
from ..pipelines.gan import GANPipeline
from ..schedulers import DDGANScheduler
from .checkpoint import is_saveable, save_network

_CHUNK = 256  # images per pass when sampling


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch with all its randomness, so that a step is a function of it.

    Attributes:
        real: what the discriminator sees as real, (batch, channels, height, width).
        conditioning: further keyword arguments of the discriminator, batch first.
        noise: what the generator starts from; its keys are the task's own.
    """

    real: torch.Tensor
    conditioning: dict[str, torch.Tensor] = field(default_factory=dict)
    noise: dict[str, torch.Tensor] = field(default_factory=dict)

    @staticmethod
    def join(micro_batches: "Sequence[MicroBatch]") -> "MicroBatch":
        """Several micro-batches as one."""

        def joined(values: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
            return {name: torch.cat([value[name] for value in values]) for name in values[0]}

        return MicroBatch(
            torch.cat([micro_batch.real for micro_batch in micro_batches]),
            joined([micro_batch.conditioning for micro_batch in micro_batches]),
            joined([micro_batch.noise for micro_batch in micro_batches]),
        )

    def pick(self, indices: torch.Tensor) -> "MicroBatch":
        """The samples at ``indices`` (n,)."""
        conditioning, noise = (
            {name: value[indices] for name, value in values.items()} for values in (self.conditioning, self.noise)
        )
        return MicroBatch(self.real[indices], conditioning, noise)


class Task(Protocol):
    """The task of the networks: how real and generated points come from a batch of images."""

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images (batch, channels, height, width) in [-1, 1] and their labels (batch,)."""
        ...

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> torch.Tensor:
        """The fake counterpart of ``micro_batch.real``."""
        ...


class TrainableTask(Task, Protocol):
    """A task with the further methods that the trainer needs."""

    def sample(
        self,
        generator: nn.Module,
        count: int,
        shape: tuple[int, int, int],
        rng: torch.Generator,
        flow: FunctionalGradientFlow | None = None,
        first: int = 0,
    ) -> torch.Tensor:
        """Finished images (count, channels, height, width) in [-1, 1].

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
            first: number of the first sample, which decides its class.
        """
        ...

    def standing_batch(
        self, generator: nn.Module, count: int, shape: tuple[int, int, int], rng: torch.Generator
    ) -> None:
        """Passes what BatchNorm statistics are gathered over through the generator."""
        ...

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        """Writes a pipeline folder and returns the pipeline's class; None if no pipeline could draw from it."""
        ...


def _image(output: Any) -> torch.Tensor:
    return getattr(output, "sample", output)


def _config_of(network: nn.Module) -> Mapping[str, Any]:
    """The diffusers config, which a pipeline reads; empty for other networks."""
    config = getattr(network, "config", None)
    return config if isinstance(config, Mapping) else {}


@dataclass(frozen=True)
class GANTask:
    """A plain GAN: ``generator(latents)`` makes images, ``discriminator(images)`` judges them.

    A conditional one is called ``generator(latents, class_labels)`` and ``discriminator(images, class_labels=...)``.
    A generated image has the label of the real image beside it, so points between the two have one, too.

    Args:
        latent_dim: length of the latent vector, drawn from N(0, I).
        num_classes: number of classes; None for an unconditional GAN, which does not see labels.

    Raises:
        InputError: one of the two is below 1.
    """

    latent_dim: int
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or (self.num_classes is not None and self.num_classes < 1):
            raise InputError(
                f"latent_dim and num_classes are at least 1, not {self.latent_dim} and {self.num_classes}"
            )

    @property
    def counted(self) -> dict[str, int]:
        """The inputs that a network may look up in a table, and the number of entries."""
        return {} if self.num_classes is None else {"class_labels": self.num_classes}

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images (batch, channels, height, width) in [-1, 1] and their labels (batch,).

        Raises:
            InputError: the GAN is conditional and the images have no labels.
        """
        latents = torch.randn(len(images), self.latent_dim, generator=rng, device=images.device)
        if self.num_classes is None:
            return MicroBatch(real=images, noise={"latents": latents})
        if labels is None:
            raise InputError("a class-conditional GAN needs labels and the data has none: pass --label_column")
        return MicroBatch(images, {"class_labels": labels.long()}, {"latents": latents})  # as in sampling

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> torch.Tensor:
        """The fake counterpart of ``micro_batch.real``."""
        return self._call(generator, micro_batch.noise["latents"], micro_batch.conditioning.get("class_labels"))

    @staticmethod
    def _call(generator: nn.Module, latents: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return _image(generator(latents) if labels is None else generator(latents, labels))

    def sample(
        self,
        generator: nn.Module,
        count: int,
        shape: tuple[int, int, int],
        rng: torch.Generator,
        flow: FunctionalGradientFlow | None = None,
        first: int = 0,
    ) -> torch.Tensor:
        """Finished images (count, channels, height, width) in [-1, 1]; the classes in turn, chunk by chunk.

        Args:
            flow: moves what the generator drew; None leaves it.
            first: number of the first sample, which decides its class.
        """
        latents = torch.randn(count, self.latent_dim, generator=rng, device=rng.device)
        labels = None
        if self.num_classes is not None:
            labels = torch.arange(first, first + count, device=rng.device) % self.num_classes
        parts = [None] * len(latents.split(_CHUNK)) if labels is None else labels.split(_CHUNK)
        chunks = zip(latents.split(_CHUNK), parts, strict=True)
        images = torch.cat([self._call(generator, chunk, part) for chunk, part in chunks])
        conditioning = {} if labels is None else {"class_labels": labels}
        return images if flow is None else replace(flow, chunk_size=_CHUNK)(images, rng=rng, **conditioning)

    def standing_batch(
        self, generator: nn.Module, count: int, shape: tuple[int, int, int], rng: torch.Generator
    ) -> None:
        """One pass of ``count`` latents, with classes at random: what BatchNorm statistics are gathered over."""
        latents = torch.randn(count, self.latent_dim, generator=rng, device=rng.device)
        labels = None
        if self.num_classes is not None:
            labels = torch.randint(self.num_classes, (count,), generator=rng, device=rng.device)
        self._call(generator, latents, labels)

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        """Writes a pipeline folder and returns the pipeline's class; None if no pipeline could draw from it."""
        known = hasattr(generator, "latent_dim") and _config_of(generator).get("num_classes") == self.num_classes
        if is_saveable(generator) and known:
            GANPipeline(model=cast(Any, generator)).save_pretrained(folder)
            return GANPipeline.__name__
        save_network(generator, folder / "model")
        return None


@dataclass(frozen=True)
class DDGANTask:
    """A denoising diffusion GAN: the generator predicts x_0, the posterior makes x_t, pairs (x_t, x_{t+1}) are judged.

    Calls are ``generator(x_{t+1}, t, z)`` and ``discriminator(x_t, timestep=t, next_sample=x_{t+1})``.

    Args:
        scheduler: the diffusion.
        latent_dim: length of z; ``None`` for generators without one, such as diffusers' ``UNet2DModel``.

    Raises:
        InputError: ``latent_dim`` is below 1.
    """

    scheduler: DDGANScheduler
    latent_dim: int | None

    def __post_init__(self) -> None:
        if self.latent_dim is not None and self.latent_dim < 1:
            raise InputError(f"latent_dim is at least 1, or None, not {self.latent_dim}")

    @property
    def counted(self) -> dict[str, int]:
        """The inputs that a network may look up in a table, and the number of entries."""
        return {"timestep": int(cast(Any, self.scheduler.config).num_train_timesteps)}

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images x_0 (batch, channels, height, width) in [-1, 1]."""
        steps = int(cast(Any, self.scheduler.config).num_train_timesteps)
        timestep = torch.randint(steps, (len(images),), generator=rng, device=images.device)
        sample, next_sample = self.scheduler.sample_pair(images, timestep, generator=rng)
        noise = {"posterior": torch.randn(images.shape, generator=rng, device=images.device)}
        if self.latent_dim is not None:
            noise["latents"] = torch.randn(len(images), self.latent_dim, generator=rng, device=images.device)
        return MicroBatch(sample, {"timestep": timestep, "next_sample": next_sample}, noise)

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> torch.Tensor:
        """The fake counterpart of ``micro_batch.real``: x_t from the posterior, given the generator's x_0."""
        timestep, next_sample = micro_batch.conditioning["timestep"], micro_batch.conditioning["next_sample"]
        original = self._denoise(generator, next_sample, timestep, micro_batch.noise.get("latents"))
        noise = micro_batch.noise["posterior"]
        return self.scheduler.step(original, timestep, next_sample, variance_noise=noise, return_dict=False)[0]

    def _denoise(
        self, generator: nn.Module, sample: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor | None
    ) -> torch.Tensor:
        inputs = (sample, timestep) if latents is None else (sample, timestep, latents)
        original = _image(generator(*inputs))
        if getattr(original, "shape", None) != sample.shape:  # it could be broadcast over the images in silence
            made = tuple(getattr(original, "shape", [type(original).__name__]))
            raise InputError(
                f"the generator makes {made} of images {tuple(sample.shape)}: it predicts images as large"
            )
        return original

    def sample(
        self,
        generator: nn.Module,
        count: int,
        shape: tuple[int, int, int],
        rng: torch.Generator,
        flow: FunctionalGradientFlow | None = None,
        first: int = 0,
    ) -> torch.Tensor:
        """Finished images (count, channels, height, width) in [-1, 1]; there are no classes that ``first`` could move.

        Args:
            flow: moves every x_t that was drawn, with the timestep and x_{t+1} as conditioning; None leaves it.
        """
        noise = torch.randn(count, *shape, generator=rng, device=rng.device)
        flow = None if flow is None else replace(flow, chunk_size=_CHUNK)
        return sample_ddgan(
            lambda *inputs: self._denoise(generator, *inputs), self.scheduler, noise, self.latent_dim, rng, flow=flow
        )

    def standing_batch(
        self, generator: nn.Module, count: int, shape: tuple[int, int, int], rng: torch.Generator
    ) -> None:
        """One batch of finished images: every step is a pass that BatchNorm statistics are gathered over."""
        self.sample(generator, count, shape, rng)

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        """Writes a pipeline folder and returns the pipeline's class; None if no pipeline could draw from it."""
        config = _config_of(generator)
        known = {"sample_size", "in_channels"} <= config.keys() and config.get("latent_dim") == self.latent_dim
        if is_saveable(generator) and known and config["sample_size"] is not None:
            DDGANPipeline(unet=cast(Any, generator), scheduler=self.scheduler).save_pretrained(folder)
            return DDGANPipeline.__name__
        save_network(generator, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")
        return None
