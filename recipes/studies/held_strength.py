"""How well a penalty's strength is held: small GANs on real digits, from weights that are too small and too large.

    python recipes/studies/held_strength.py --data digits

prints a line for each loss, size of images and batch: how many of the runs have a strength rho within 20 % of the
target, by the means over their last 500 steps; the weights at the end; and by which factor the runs of a seed differ
that started from different weights. All runs of a line are trained together, as one stack of small MLPs with R1.
"""

import argparse
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from licfg_hf import StrengthControlledPenalty, gain_over_chance, get_loss
from licfg_hf.data import DataConfig, open_images
from licfg_hf.images import from_pixels
from licfg_hf.objective.strength import share

LATENT, WIDTH, LAST = 32, 64, 500


class Stack(nn.Module):
    """As many MLPs as there are seeds, (runs, batch, in) -> (runs, batch, out), initialized as ``nn.Linear`` is."""

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], last: Callable[[Tensor], Tensor]):
        super().__init__()
        networks = []
        for seed in seeds:
            torch.manual_seed(seed)
            networks.append([nn.Linear(*ends) for ends in itertools.pairwise(sizes)])
        layers = list(zip(*networks, strict=True))
        self.weights = nn.ParameterList([torch.stack([one.weight.detach().mT for one in layer]) for layer in layers])
        self.biases = nn.ParameterList([torch.stack([one.bias.detach()[None] for one in layer]) for layer in layers])
        self.last = last

    def forward(self, points: Tensor) -> Tensor:
        for at, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            points = torch.baddbmm(bias, points if at == 0 else nn.functional.leaky_relu(points, 0.2), weight)
        return self.last(points)


@dataclass(frozen=True)
class Step:
    """The numbers of a step, (runs,) each: the weight, the weighted penalty, and what the critic gains over chance."""

    weight: Tensor
    cost: Tensor
    gain: Tensor


def train(
    images: Tensor,
    loss_name: str,
    batch: int,
    seeds: Sequence[int],
    starts: Sequence[float],
    steps: int,
    **options: Any,
) -> list[Step]:
    """Trains one run for each seed and start, those of a seed on the same draws; ``options`` are the control's."""
    runs, loss = list(itertools.product(seeds, starts)), get_loss(loss_name)
    of_runs = [seed for seed, _ in runs]
    dim = images.shape[1]
    generator = Stack((LATENT, WIDTH, WIDTH, dim), of_runs, torch.tanh)
    critic = Stack((dim, WIDTH, WIDTH, 1), of_runs, lambda logits: logits)
    optimizers = [torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.0, 0.99)) for player in (generator, critic)]
    values: list[Tensor] = []
    penalties = [_controlled(values, at, start, options) for at, (_, start) in enumerate(runs)]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]

    def drawn(make: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([make(rng) for rng in draws]).repeat_interleave(len(starts), dim=0)

    def noise() -> Tensor:
        return drawn(lambda rng: torch.randn(batch, LATENT, generator=rng))

    found = []
    for _ in range(steps):
        real = images[drawn(lambda rng: torch.randint(len(images), (batch,), generator=rng))].requires_grad_()
        real_logits, fake_logits = critic(real), critic(generator(noise()).detach())
        (slopes,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
        values[:] = slopes.square().sum(dim=2).mean(dim=1)
        costs = [cast(Tensor, penalty(critic, real, real)) for penalty in penalties]
        optimizers[1].zero_grad()
        (torch.vmap(loss.discriminator)(real_logits, fake_logits) + torch.stack(costs)).sum().backward()
        optimizers[1].step()
        gains = torch.vmap(partial(gain_over_chance, loss))(real_logits, fake_logits)
        told = zip(penalties, costs, gains, strict=True)
        weights = [penalty.after_update(cost.detach(), gain)["weight"] for penalty, cost, gain in told]
        found.append(Step(torch.stack(weights), torch.stack(costs).detach(), gains))
        optimizers[0].zero_grad()
        torch.vmap(loss.generator)(critic(generator(noise()))).sum().backward()
        optimizers[0].step()
    return found


def _controlled(values: list[Tensor], at: int, start: float, options: dict[str, Any]) -> StrengthControlledPenalty:
    """The controlled penalty of one run of the stack, whose mean ||g||^2 is ``values[at]``."""

    def penalty(*_: Any, **__: Any) -> Tensor:
        return start * values[at]

    penalty.weight = start
    return StrengthControlledPenalty(penalty, **options)


def held(steps: Sequence[Step]) -> Tensor:
    """rho of each run, (runs,), from the means over these steps."""
    return share(
        torch.stack([step.cost for step in steps]).mean(0), torch.stack([step.gain for step in steps]).mean(0)
    )


def line(
    images: Tensor, loss: str, batch: int, seeds: int, starts: Sequence[float], steps: int, **options: Any
) -> list[str]:
    found = train(images, loss, batch, range(seeds), starts, steps, **options)
    rho = held(found[-LAST:])
    within = (rho / options.get("target", StrengthControlledPenalty.target) - 1).abs() <= 0.2
    weights = found[-1].weight.view(seeds, len(starts))
    apart = (weights.amax(1) / weights.amin(1)).max().item()
    return [
        *(loss, str(math.isqrt(images.shape[1])), str(batch), f"{within.sum()} of {len(rho)}"),
        *(f"{rho.min():.3f} to {rho.max():.3f}", f"{statistics.geometric_mean(weights.flatten().tolist()):.3g}"),
        f"{apart:.2f}",
    ]


def rows(data: str, sizes: Sequence[int], seeds: int, steps: int, starts: Sequence[float]) -> Iterator[list[str]]:
    head = ["loss", "pixels", "batch", "within 20 %", "rho", "weight", "starts apart"]
    yield from (head, ["---"] * len(head))
    for size in sizes:
        found = open_images(DataConfig(data=data, image_size=size, image_channels=1))
        images = from_pixels(found.fetch(torch.arange(min(len(found), 10_000)), 0)).flatten(1)
        for loss, batch in itertools.product(("hinge", "non_saturating"), (16, 64)):
            yield line(images, loss, batch, seeds, starts, steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="images, as for the recipes (default: digits)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16], help="pixels to a side (default: 8 16)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of a line (default: 10)")
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: 3000)")
    parser.add_argument("--starts", type=float, nargs="+", default=[1e-3, 10.0], help="weights (default: 0.001 10)")
    args = parser.parse_args()
    for cells in rows(args.data, args.sizes, args.seeds, args.steps, args.starts):
        print("| " + " | ".join(cells) + " |", flush=True)
