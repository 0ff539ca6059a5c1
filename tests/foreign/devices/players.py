"""Pairs of small networks, and one update of both players on any device."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gans
import tiny
import torch
from torch import nn

from licfg_hf import DDGANScheduler, DDGANTask, GANTask, LazyPenalty, get_loss
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.objective.critic import frozen
from licfg_hf.objective.weights import power_iterated_once
from licfg_hf.training.step import discriminator_terms, generator_terms


class Players(NamedTuple):
    """Two networks that play against each other, and the task that feeds them; images are (batch, 1, 8, 8)."""

    generator: nn.Module
    discriminator: nn.Module
    task: Any


def _gan(generator: str, discriminator: str, classes: int | None = None) -> Callable[..., Players]:
    def make(**options: Any) -> Players:
        torch.manual_seed(0)
        conditional = {} if classes is None else {"num_classes": classes}
        networks = gans.GENERATORS[generator](), gans.DISCRIMINATORS[discriminator](**conditional, **options)
        return Players(*map(gans.wake_attention, networks), GANTask(6, classes))

    return make


def _ddgan(**options: Any) -> Players:
    torch.manual_seed(0)
    critic = tiny.awaken(tiny.DDGANDiscriminator(in_channels=1, base_channels=4, time_embedding_dim=16, **options))
    return Players(tiny.tiny_generator(), critic, DDGANTask(DDGANScheduler(), 6))


PLAYERS = {
    "sngan": _gan("sngan_resnet", "sngan_resnet"),
    "sngan_conditional": _gan("sngan_conditional", "sngan_resnet", gans.CLASSES),
    "dcgan": _gan("dcgan", "dcgan"),
    "biggan": _gan("biggan_hierarchical", "biggan", gans.CLASSES),
    "biggan_deep": _gan("biggan_deep", "biggan_deep", gans.CLASSES),
    "ddgan": _ddgan,
}


def random_images(count: int) -> TensorImages:
    """Images (count, 1, 8, 8) with a label each, always the same ones."""
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorImages(pixels, torch.arange(count) % gans.CLASSES)


def update_both(
    players: Players,
    device: torch.device,
    terms: Sequence[Any] = (),
    loss: str = "non_saturating",
    alpha: float = 1.0,
    bf16: bool = False,
) -> dict[str, torch.Tensor]:
    """One update's terms and gradients of both players by name, on the CPU; the same numbers on every device."""
    generator, discriminator, task = players
    for network in (generator, discriminator):
        network.to(device, memory_format=torch.channels_last).train()
    images, labels = (part.to(device) for part in gans.batch(8))
    labels = labels if getattr(task, "num_classes", None) else None
    rng = torch.Generator(device).manual_seed(0)
    adversarial, due = get_loss(loss, alpha), [LazyPenalty(term) for term in terms]
    found: dict[str, torch.Tensor] = {}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        micro_batch = task.draw(images, labels, rng)
        with power_iterated_once(discriminator):
            of_discriminator = discriminator_terms(generator, discriminator, task, adversarial, due, micro_batch, rng)
    sum(value for value in of_discriminator.values() if value.requires_grad).backward()
    with frozen(discriminator), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        of_generator = generator_terms(generator, discriminator, task, adversarial, micro_batch, due, rng)
    sum(of_generator.values()).backward()
    found |= of_discriminator | of_generator
    for role, network in (("generator", generator), ("discriminator", discriminator)):
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found |= {f"{role}.{name}": value for name, value in gradients.items() if value is not None}
    assert all(value.device == device for value in found.values())
    return {name: value.detach().cpu() for name, value in found.items()}
