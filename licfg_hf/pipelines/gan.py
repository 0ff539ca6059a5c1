"""Sampling of one-pass generators: BigGAN, BigGAN-deep, SNGAN, DCGAN."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from ..images import image_grid
from ..models.class_names import class_names, label_of
from ..objective.functional_gradient import FunctionalGradientFlow
from .base import HubPipeline, RandomGenerators, evaluating, finish, require_request

Labels = int | str | Sequence[int | str] | Tensor

_TRUNCATED_AT = 2.0  # standard deviations at which BigGAN cuts the normal distribution


def _uniform(noise: Tensor) -> Tensor:
    """N(0, 1) noise as numbers in (0, 1), float64; on the CPU, since not every device has float64."""
    return torch.special.ndtr(noise.cpu().double())


def truncated(noise: Tensor, truncation: float) -> Tensor:
    """Turns N(0, 1) noise into truncation * N(0, 1) cut at two standard deviations (BigGAN's truncation trick).

    By the inverse of the distribution function, so that one number gives one number, whatever its neighbours are.
    """
    uniform = _uniform(noise)
    low = float(torch.special.ndtr(torch.tensor(-_TRUNCATED_AT, dtype=torch.float64)))
    cut = torch.special.ndtri(low + (1 - 2 * low) * uniform)
    return (truncation * cut).to(noise)


def spherical(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """``steps`` points on the arc from one latent (dim,) to another, ends included: (steps, dim).

    The lengths are interpolated linearly, so normal latents stay as long as normal latents are.
    """
    lengths = torch.linalg.vector_norm(first), torch.linalg.vector_norm(last)
    one, other = first / lengths[0].clamp(min=1e-12), last / lengths[1].clamp(min=1e-12)
    angle = torch.arccos(torch.dot(one, other).clamp(-1, 1))
    share = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    if angle < 1e-4 or angle > math.pi - 1e-4:  # no arc to speak of, or no unique one
        return first + share * (last - first)
    directions = (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other) / torch.sin(angle)
    return directions * (lengths[0] + share * (lengths[1] - lengths[0]))


class GANPipeline(HubPipeline):
    """Images from a generator in one pass: unconditional or by class. It draws in eval mode, and restores the mode.

    Args:
        model: the generator, called as ``model(latents)`` or ``model(latents, class_labels)``.
    """

    model_cpu_offload_seq = "model"

    def __init__(self, model: ModelMixin):
        super().__init__()
        self.register_modules(model=model)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None for an unconditional generator."""
        return self.model.config.get("num_classes")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, in the order of their labels; None if the model has none."""
        return class_names(self.model.config)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Labels | None = None,
        truncation: float | None = None,
        batch_size: int | None = None,
        generator: RandomGenerators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        chunk_size: int = 64,
        latents: Tensor | None = None,
        flow: FunctionalGradientFlow | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Draws images.

        Args:
            class_labels: the classes: one for all, or a list that is repeated until there are ``batch_size``; None
                draws them at random. Each is a number, or a name of ``class_names``; digits that are no name are a
                number. Only for conditional generators.
            truncation: in (0, 1]: latents come from a normal distribution that is cut at two standard deviations and
                multiplied by it: less variety, more typical images. None draws from N(0, 1); generators with a
                truncation table then use 1.
            batch_size: how many images; None means as many as there are class labels (or latents), at least one.
            generator: makes the pictures reproducible; one generator, or one per image.
            output_type: ``pil`` (list of 8-bit images), ``np`` (array (batch, height, width, channels)) or ``pt``
                (tensor (batch, channels, height, width)); arrays and tensors are in [0, 1], as in diffusers.
            return_dict: False returns ``(images,)``.
            chunk_size: images per pass through the network; lower it where memory is short, the pictures stay.
            latents: (batch, latent_dim) used as they are, instead of drawn ones.
            flow: functional-gradient steps that follow the generator, such as ``load_flow`` gives; None takes none.

        Raises:
            ValueError: an argument is outside its range, or labels do not fit the generator.
        """
        _strength(truncation)
        labels = None if class_labels is None else self._checked(class_labels)
        if latents is not None and not (isinstance(latents, Tensor) and latents.ndim == 2):
            raise ValueError(f"latents are a tensor (batch_size, {self.model.latent_dim}), not {latents!r}")
        if batch_size is None:
            batch_size = len(latents) if latents is not None else len(labels) if labels is not None else 1
        require_request(batch_size, chunk_size, output_type, generator)
        if latents is None:
            latents = self._latents(batch_size, truncation, generator)
        elif latents.shape != (batch_size, self.model.latent_dim):
            raise ValueError(f"latents are ({batch_size}, {self.model.latent_dim}), not {tuple(latents.shape)}")
        labels = self._labels_for(batch_size, labels, generator)
        images = self.draw(latents, labels, truncation, chunk_size)
        if flow is not None:
            conditioning = {} if labels is None else {"class_labels": labels.to(images.device)}
            rng = generator[0] if isinstance(generator, list) else generator
            images = replace(flow, chunk_size=chunk_size)(images.float(), rng=rng, **conditioning)
        self.maybe_free_model_hooks()
        return finish(images, output_type, return_dict)

    @torch.no_grad()
    def draw(
        self, latents: Tensor, class_labels: Tensor | None, truncation: float | None = None, chunk_size: int = 64
    ) -> Tensor:
        """Images (batch, channels, height, width) in [-1, 1] of given latents, on their device, chunk by chunk.

        Args:
            latents: (batch, latent_dim), already truncated.
            class_labels: int64 (batch,), float (batch, classes) or None.
            truncation: in (0, 1]; selects the statistics of generators with a truncation table.
        """
        strength = _strength(truncation)
        options = {"truncation": strength} if self._has_table else {}
        latents = latents.to(self._execution_device, self.model.dtype)
        inputs = [latents] if class_labels is None else [latents, class_labels.to(latents.device)]
        chunks = zip(*(one.split(chunk_size) for one in inputs), strict=True)
        with evaluating(self.model):
            return torch.cat([self.model(*chunk, **options).sample for chunk in chunks])

    @property
    def _has_table(self) -> bool:
        return self.model.config.get("variant") == "truncation_table"

    def _latents(self, count: int, truncation: float | None, generator: RandomGenerators) -> Tensor:
        strength, shape = _strength(truncation), (count, self.model.latent_dim)
        noise = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return noise if truncation is None and not self._has_table else truncated(noise, strength)

    def _checked(self, class_labels: Labels) -> Tensor:
        """The labels as given, int64 (n,)."""
        if self.num_classes is None:
            raise ValueError(f"{type(self.model).__name__} is unconditional and takes no class_labels")
        wrong = f"class_labels are whole numbers or names, one or a list of them, not {class_labels!r}"
        if isinstance(class_labels, str):
            class_labels = [class_labels]
        if isinstance(class_labels, Sequence):
            names, count = self.class_names, self.num_classes
            class_labels = [label_of(one, names, count) if isinstance(one, str) else one for one in class_labels]
        try:
            labels = torch.as_tensor(class_labels)
        except (RuntimeError, TypeError, ValueError) as error:  # a set, for example
            raise ValueError(wrong) from error
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if not whole or labels.ndim > 1 or labels.numel() == 0:
            raise ValueError(wrong)
        labels = labels.long().reshape(-1)
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(f"class_labels are in 0 .. {self.num_classes - 1}, not {labels.tolist()}")
        return labels

    def _labels_for(self, count: int, labels: Tensor | None, generator: RandomGenerators) -> Tensor | None:
        """As many labels as images: repeated, or drawn where none are given."""
        if self.num_classes is None:
            return None
        if labels is None:
            noise = randn_tensor((count, 1), generator=generator, device=self._execution_device, dtype=torch.float32)
            return (_uniform(noise) * self.num_classes).long().clamp(max=self.num_classes - 1)[:, 0].to(noise.device)
        if len(labels) > count:
            raise ValueError(f"{len(labels)} class_labels do not fit a batch_size of {count}")
        return labels.repeat(-(-count // len(labels)))[:count]

    @torch.no_grad()
    def interpolate(
        self,
        rows: int = 4,
        steps: int = 8,
        class_labels: Labels | None = None,
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Image.Image:
        """A picture of paths between latents: each row goes from one random latent to another along an arc.

        Args:
            rows: paths.
            steps: images on a path, ends included; at least 2.
            class_labels: (from, to): the class changes along the path, too; one label keeps it; None draws one class
                for each row.
            truncation, generator: as in the call; one generator, not a list.

        Raises:
            ValueError: an argument is outside its range, or labels do not fit the generator.
        """
        if rows < 1 or steps < 2:
            raise ValueError(f"rows is at least 1 and steps at least 2, not {rows} and {steps}")
        _require_one(generator)
        labels = None if class_labels is None else self._checked(class_labels)
        if labels is not None and len(labels) > 2:
            raise ValueError(f"class_labels of an interpolation are one or two, not {len(labels)}")
        ends = self._latents(2 * rows, truncation, generator)
        latents = torch.cat([spherical(ends[2 * row], ends[2 * row + 1], steps) for row in range(rows)])
        own, mixtures = self._labels_for(rows, None if labels is None else labels[:1], generator), None
        if own is not None and self.num_classes is not None:
            own = own.to(latents.device)
            last = own if labels is None else labels[-1:].to(latents.device).expand(rows)
            one_hot = torch.nn.functional.one_hot(torch.stack([own, last]), self.num_classes).to(latents.dtype)
            share = torch.linspace(0, 1, steps, device=latents.device)[None, :, None]
            mixtures = torch.lerp(one_hot[0][:, None], one_hot[1][:, None], share).flatten(0, 1)
        return image_grid(self.draw(latents, mixtures, truncation), columns=steps)

    @torch.no_grad()
    def class_sweep(
        self,
        class_labels: Labels | None = None,
        columns: int = 8,
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Image.Image:
        """A picture of classes: one per row, and in each column the same latent.

        Args:
            class_labels: the rows; None takes the first ten classes.
            columns: latents.
            truncation, generator: as in the call; one generator, not a list.

        Raises:
            ValueError: the generator is unconditional, or an argument is outside its range.
        """
        if self.num_classes is None:
            raise ValueError(f"{type(self.model).__name__} is unconditional: it has no classes to sweep")
        if columns < 1:
            raise ValueError(f"columns is at least 1, not {columns}")
        _require_one(generator)
        labels = self._checked(range(min(10, self.num_classes)) if class_labels is None else class_labels)
        latents = self._latents(columns, truncation, generator).repeat(len(labels), 1)
        return image_grid(self.draw(latents, labels.repeat_interleave(columns), truncation), columns=columns)


def _strength(truncation: float | None) -> float:
    """What the latents are multiplied by."""
    if truncation is None:
        return 1.0
    if not 0 < truncation <= 1:
        raise ValueError(f"truncation is in (0, 1], not {truncation}")
    return truncation


def _require_one(generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError("one generator makes the whole picture, not a list of them")
