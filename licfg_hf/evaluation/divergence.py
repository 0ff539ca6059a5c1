"""A divergence that a critic measures which was trained afresh on held-out images, so that memorizing is visible.

Statistics of features barely notice a generator that repeats its training images. A critic that learns to tell its
samples from real images that it was *not* trained on does: it can learn the repeated images one by one (Gulrajani,
Raffel, Metz, "Towards GAN Benchmarks Which Require Generalization", ICLR 2019).

A critic D is trained on one half of each set, and its loss on the other halves bounds the Jensen-Shannon divergence of
the two distributions from below, in nats:

    ln 2 - (1/2) E_real softplus(-D) - (1/2) E_fake softplus(D)  <=  JS(real, fake)  <=  ln 2.

It is about 0 (or below, where the critic is worse than a guess) for distributions that the critic cannot tell apart.
The number depends on the critic, its steps and the number of images: compare only what was measured alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from ..images import from_pixels
from ..objective.losses import get_loss
from ..objective.penalties import GradientPenalty
from .metrics.neural_divergence import LARGEST_SIDE, SMALLEST_SET

_BATCH, _CHUNK = 64, 1000
_WIDEST = 64  # channels of the critic's last convolution
_SMALLEST_SIDE = 8  # pixels
_CHOICES = 20  # times that training is looked at to choose when to stop
_NORMAL = 1.959964  # 95 % of a normal distribution lie within this many standard deviations
_LOSS = get_loss("non_saturating")  # softplus(-D(real)) + softplus(D(fake)) for the critic
_PENALTY = GradientPenalty(weight=0.1)  # zero-centred, on interpolates


@dataclass(frozen=True)
class Divergence:
    """A value in nats with a 95 % interval, from ``low`` to ``high``."""

    value: float
    low: float
    high: float


def neural_divergence(
    real: torch.Tensor, fake: torch.Tensor, seed: int = 0, steps: int = 500, device: torch.device | str = "cpu"
) -> Divergence:
    """The Jensen-Shannon lower bound of a critic trained on one half of the images, measured on the other half.

    The interval is the delta method's: the bound is a weighted sum of two means of independent terms, so its
    variance is (var_real / n_real + var_fake / n_fake) / 4 over the halves that are measured, and it is taken as
    normal. It says how well the bound of this one critic is known, not how far the bound lies below the divergence.
    Numbers are the same each time for a seed on one CPU with as many threads; the random state of torch stays as it
    was.

    Args:
        real: images that the generator was not trained on, (n, channels, height, width): uint8, or float in [-1, 1];
            height and width are 8 to 64 pixels, n is at least 40.
        fake: independent samples of the generator, (m, channels, height, width), likewise.
        seed: decides the halves, the critic's initialization and its batches.
        steps: critic updates, with 64 real and 64 fake images each.
        device: where the critic is trained.

    Raises:
        InputError: there are too few images, or they are not as described.
    """
    _require_images(real, "real")
    _require_images(fake, "fake")
    if real.shape[1:] != fake.shape[1:]:
        shapes = " and ".join("x".join(map(str, images.shape[1:])) for images in (real, fake))
        raise InputError(f"real and fake images differ in shape: {shapes}")
    if steps < 1:
        raise InputError(f"steps are at least 1, not {steps}")
    rng = torch.Generator().manual_seed(seed)
    shuffled = [images[torch.randperm(len(images), generator=rng).to(images.device)] for images in (real, fake)]
    halves = [images.tensor_split([len(images) // 2]) for images in shuffled]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also change the accelerator's state
        critic = _Critic(*real.shape[1:])
    critic = _train(critic.to(device), [learned for learned, _ in halves], steps, rng)
    return _bound(critic, [scored for _, scored in halves])


class _Critic(nn.Module):
    """Strided convolutions down to 4 to 7 pixels, then a linear layer: images -> logits (batch,).

    Channels double as the size halves, up to 64, so that each convolution costs the same at every size of image.
    """

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        stages = int(math.log2(min(height, width) / 4))
        wide = _WIDEST >> stages
        layers: list[nn.Module] = [nn.Conv2d(channels, wide, 3, padding=1), nn.LeakyReLU(0.2)]
        for stage in range(stages):
            layers += [nn.Conv2d(wide << stage, wide << (stage + 1), 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(_WIDEST * (height >> stages) * (width >> stages), 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1)).squeeze(1)


Sides = Sequence[torch.Tensor]  # real and fake


def _train(critic: _Critic, sides: Sides, steps: int, rng: torch.Generator) -> _Critic:
    """Trains on three quarters of the images and keeps the state that does best on the others.

    Without that choice the critic of a small set learns its images by heart and is worse than a guess on others.
    """
    quarters = [images.tensor_split([len(images) // 4]) for images in sides]
    watched, learned = [first for first, _ in quarters], [others for _, others in quarters]
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.99))
    best, kept = -math.inf, {}
    looks = {round(steps * (look + 1) / _CHOICES) for look in range(_CHOICES)}
    for step in range(1, steps + 1):
        critic.train()
        drawn = [torch.randint(len(images), (_BATCH,), generator=rng) for images in learned]
        pairs = zip(learned, drawn, strict=True)
        batches = [_signed(images[chosen.to(images.device)], critic) for images, chosen in pairs]
        loss = _LOSS.discriminator(critic(batches[0]), critic(batches[1]))
        loss = loss + _PENALTY(critic, *batches, interpolation=torch.rand(_BATCH, 1, 1, 1, generator=rng).to(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in looks:
            value = _bound(critic, watched).value
            if value > best:
                best, kept = value, {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    critic.load_state_dict(kept)
    return critic


def _signed(images: torch.Tensor, critic: _Critic) -> torch.Tensor:
    """Images as float32 in [-1, 1], where the critic is."""
    images = images.to(critic.head.weight.device)
    return from_pixels(images) if images.dtype == torch.uint8 else images.float()


@torch.no_grad()
def _bound(critic: _Critic, sides: Sides) -> Divergence:
    chunks = [[critic(_signed(chunk, critic)).cpu().double() for chunk in images.split(_CHUNK)] for images in sides]
    real, fake = map(torch.cat, chunks)
    terms = F.softplus(-real), F.softplus(fake)
    found = _interval(math.log(2) - sum(part.mean().item() for part in terms) / 2, terms)
    return replace(found, high=min(found.high, math.log(2)))  # no divergence is larger


def _interval(value: float, terms: Sides) -> Divergence:
    """The interval of a value that is half the sum or difference of two independent means."""
    half = _NORMAL * math.sqrt(sum(part.var().item() / len(part) for part in terms)) / 2
    return Divergence(value, value - half, value + half)


def _require_images(images: torch.Tensor, name: str) -> None:
    if images.ndim != 4 or not all(_SMALLEST_SIDE <= size <= LARGEST_SIDE for size in images.shape[2:]):
        raise InputError(
            f"{name} images are (n, channels, height, width) with {_SMALLEST_SIDE} to {LARGEST_SIDE} pixels, "
            f"not {tuple(images.shape)}"
        )
    if len(images) < SMALLEST_SET:
        raise InputError(f"a neural divergence needs at least {SMALLEST_SET} {name} images, not {len(images)}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise InputError(f"{name} images are uint8, or float in [-1, 1], not {images.dtype}")
    low, high = (value.item() for value in images.aminmax())
    if not -1.001 <= low <= high <= 1.001:  # NaN fails too; rounding of a half type passes
        raise InputError(f"{name} images are in [-1, 1], but reach from {low:.4g} to {high:.4g}")
