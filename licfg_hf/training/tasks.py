"""The tasks of a training step: how real points, generated points and their conditioning come from images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import InputError
from ..objective.functional_gradient import FunctionalGradientFlow
from ..pipelines.ddgan import DDGANPipeline, sample_ddgan
from ..pipelines.gan import GANPipeline
from ..pipelines.saving import is_saveable, save_network
from ..schedulers import DDGANScheduler

Shape = tuple[int, int, int]  # channels, height and width of an image
Flow = FunctionalGradientFlow | None
_CHUNK = 256  # images per pass when sampling


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch with all its randomness, so that a step is a function of it."""

    real: Tensor  # what the discriminator sees as real, (batch, channels, height, width)
    conditioning: dict[str, Tensor] = field(default_factory=dict)  # its further keyword arguments, batch first
    noise: dict[str, Tensor] = field(default_factory=dict)  # what the generator starts from; names are the task's own
    of_fakes: dict[str, Tensor] = field(default_factory=dict)  # conditioning that is another for generated points

    @property
    def fake_conditioning(self) -> dict[str, Tensor]:
        """The further keyword arguments of the discriminator for generated points."""
        return {**self.conditioning, **self.of_fakes}

    @staticmethod
    def join(micro_batches: "Sequence[MicroBatch]") -> "MicroBatch":
        """Several micro-batches as one."""
        return MicroBatch(**tree_map(lambda *parts: torch.cat(parts), *map(vars, micro_batches)))

    def pick(self, indices: Tensor) -> "MicroBatch":
        """The samples at ``indices`` (n,)."""
        return MicroBatch(**tree_map(lambda value: value[indices], vars(self)))


class Task(Protocol):
    """All that a step knows of a plain GAN or a denoising diffusion GAN."""

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images (batch, channels, height, width) in [-1, 1] and their labels (batch,)."""
        ...

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The fake counterpart of ``micro_batch.real``."""
        ...


class TrainableTask(Task, Protocol):
    """A task with the further methods that the trainer needs."""

    def sample(
        self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator, flow: Flow = None, first: int = 0
    ) -> Tensor:
        """Finished images (count, *shape) in [-1, 1].

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
            first: number of the first sample, which decides its class.
        """
        ...

    def standing_batch(self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator) -> None:
        """Passes what BatchNorm statistics are gathered over through the generator."""

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        """Writes a pipeline folder and returns the pipeline's class; None if no pipeline could draw from it."""


def _image(output: Any) -> Tensor:
    return getattr(output, "sample", output)


def config_of(network: nn.Module) -> Mapping[str, Any]:
    """The diffusers config, which a pipeline reads; empty for other networks."""
    config = getattr(network, "config", None)
    return config if isinstance(config, Mapping) else {}


@dataclass(frozen=True)
class GANTask:
    """A plain GAN: ``generator(latents)`` makes images, ``discriminator(images)`` judges them.

    A conditional one is called ``generator(latents, class_labels)`` and ``discriminator(images, class_labels=...)``.
    Args:
        latent_dim: length of the latent vector, drawn from N(0, I).
        num_classes: number of classes; None for an unconditional GAN, which does not see labels.
        fake_labels: ``real`` gives a generated image the label of the real image beside it, so that points between the
            two have one, too; ``uniform`` draws one of all classes, as BigGAN's code does.

    Raises:
        InputError: a number is below 1, or ``fake_labels`` is neither.
    """

    latent_dim: int
    num_classes: int | None = None
    fake_labels: Literal["real", "uniform"] = "real"

    def __post_init__(self) -> None:
        if self.fake_labels not in ("real", "uniform"):
            raise InputError(f"fake_labels is real or uniform, not {self.fake_labels!r}")
        if self.latent_dim < 1 or (self.num_classes is not None and self.num_classes < 1):
            raise InputError(
                f"latent_dim and num_classes are at least 1, not {self.latent_dim} and {self.num_classes}"
            )

    @property
    def counted(self) -> dict[str, int]:
        """The inputs that a network may look up in a table, and the number of entries."""
        return {} if self.num_classes is None else {"class_labels": self.num_classes}

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch; InputError where the GAN is conditional and the images have no labels."""
        noise = {"latents": torch.randn(len(images), self.latent_dim, generator=rng, device=images.device)}
        if self.num_classes is None:
            return MicroBatch(images, noise=noise)
        if labels is None:
            raise InputError("a class-conditional GAN needs labels and the data has none: pass --label_column")
        own = {}
        if self.fake_labels == "uniform":
            drawn = torch.randint(self.num_classes, (len(images),), generator=rng, device=images.device)
            own = {"class_labels": drawn}
        return MicroBatch(images, {"class_labels": labels.long()}, noise, own)  # as in sampling

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        return _image(generator(micro_batch.noise["latents"], *micro_batch.fake_conditioning.values()))

    def sample(
        self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator, flow: Flow = None, first: int = 0
    ) -> Tensor:
        """Finished images in [-1, 1]; the classes in turn, chunk by chunk."""
        latents = torch.randn(count, self.latent_dim, generator=rng, device=rng.device)
        conditioning: dict[str, Tensor] = {}
        if self.num_classes is not None:
            conditioning["class_labels"] = torch.arange(first, first + count, device=rng.device) % self.num_classes
        parts = (value.split(_CHUNK) for value in (latents, *conditioning.values()))
        images = torch.cat([_image(generator(*chunk)) for chunk in zip(*parts, strict=True)])
        return images if flow is None else replace(flow, chunk_size=_CHUNK)(images, rng=rng, **conditioning)

    def standing_batch(self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator) -> None:
        """One pass of ``count`` latents, with classes at random."""
        inputs = [torch.randn(count, self.latent_dim, generator=rng, device=rng.device)]
        if self.num_classes is not None:
            inputs.append(torch.randint(self.num_classes, (count,), generator=rng, device=rng.device))
        generator(*inputs)

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        known = hasattr(generator, "latent_dim") and config_of(generator).get("num_classes") == self.num_classes
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

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        """A micro-batch from images x_0 (batch, channels, height, width) in [-1, 1]."""
        timestep = torch.randint(self.counted["timestep"], (len(images),), generator=rng, device=images.device)
        sample, next_sample = self.scheduler.sample_pair(images, timestep, generator=rng)
        noise = {"posterior": torch.randn(images.shape, generator=rng, device=images.device)}
        if self.latent_dim is not None:
            noise["latents"] = torch.randn(len(images), self.latent_dim, generator=rng, device=images.device)
        return MicroBatch(sample, {"timestep": timestep, "next_sample": next_sample}, noise)

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """x_t from the posterior, given the generator's x_0."""
        timestep, next_sample = micro_batch.conditioning["timestep"], micro_batch.conditioning["next_sample"]
        original = self._denoise(generator, next_sample, timestep, micro_batch.noise.get("latents"))
        noise = micro_batch.noise["posterior"]
        return self.scheduler.step(original, timestep, next_sample, variance_noise=noise, return_dict=False)[0]

    def _denoise(self, generator: nn.Module, sample: Tensor, timestep: Tensor, latents: Tensor | None) -> Tensor:
        inputs = (sample, timestep) if latents is None else (sample, timestep, latents)
        original = _image(generator(*inputs))
        if getattr(original, "shape", None) != sample.shape:  # it could be broadcast over the images in silence
            made = tuple(getattr(original, "shape", [type(original).__name__]))
            raise InputError(
                f"the generator makes {made} of images {tuple(sample.shape)}: it predicts images as large"
            )
        return original

    def sample(
        self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator, flow: Flow = None, first: int = 0
    ) -> Tensor:
        """Finished images in [-1, 1]; the flow moves every x_t, with the timestep and x_{t+1} as conditioning."""
        noise = torch.randn(count, *shape, generator=rng, device=rng.device)
        flow = None if flow is None else replace(flow, chunk_size=_CHUNK)
        denoise = partial(self._denoise, generator)
        return sample_ddgan(denoise, self.scheduler, noise, self.latent_dim, rng, flow=flow)

    def standing_batch(self, generator: nn.Module, count: int, shape: Shape, rng: torch.Generator) -> None:
        """One batch of finished images: every step is a pass that BatchNorm statistics are gathered over."""
        self.sample(generator, count, shape, rng)

    def export(self, generator: nn.Module, folder: Path) -> str | None:
        config = config_of(generator)
        known = {"sample_size", "in_channels"} <= config.keys() and config.get("latent_dim") == self.latent_dim
        if is_saveable(generator) and known and config["sample_size"] is not None:
            DDGANPipeline(unet=cast(Any, generator), scheduler=self.scheduler).save_pretrained(folder)
            return DDGANPipeline.__name__
        save_network(generator, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")
        return None


@dataclass(frozen=True)
class DistillationTask(DDGANTask):
    """A few-step student: it predicts x_0 from x_{t+1}, and the discriminator judges x_0, without a timestep.

    Real images are the data's own, fakes the student's predictions at timesteps drawn at random, which are the
    scheduler's; the loss is the adversarial one alone, nothing ties a prediction to its x_{t+1}. Samples are drawn as
    in a ``DDGANTask``, step by step through the posterior, and the student is exported as a ``DDGANPipeline``.

    Calls are ``generator(x_{t+1}, t)``, with z where there are latents, and ``discriminator(x_0)``.
    """

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        pairs = super().draw(images, labels, rng)
        return MicroBatch(images, noise={**pairs.noise, **pairs.conditioning})

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The student's x_0."""
        noise = micro_batch.noise
        return self._denoise(generator, noise["next_sample"], noise["timestep"], noise.get("latents"))
