"""What a regularizer costs: the time of a discriminator step with it over that without, in one interleaved run.

``python -m licfg_hf.diagnostics.cost`` prints the table for a small DDGAN discriminator.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..consistency import BalancedConsistencyRegularization, ConsistencyRegularization
from ..losses import get_loss
from ..models import DDGANDiscriminator
from ..normalizers import GradientNormalized, spectral_normalize, stable_rank_normalize
from ..penalties import AdversarialLipschitzPenalty, EpsCenteredGradientPenalty, r1_penalty, wgan_gp

Step = Callable[[], None]


@dataclass(frozen=True)
class Cost:
    """Attributes:
    ratio: median over the rounds of time with / time without.
    low: lower quartile of the ratio.
    high: upper quartile.
    """

    ratio: float
    low: float
    high: float


def measure_costs(steps: Mapping[str, Step], baseline: str, rounds: int = 15) -> dict[str, Cost]:
    """Times steps in turn, round by round, so that a machine that slows down slows all of them.

    Args:
        steps: name -> one discriminator step.
        baseline: the name that the ratios refer to.
        rounds: timed rounds, after one that is not.
    """

    def clock(step: Step) -> float:
        began = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began

    for step in steps.values():
        step()
    times = [{name: clock(step) for name, step in steps.items()} for _ in range(rounds)]
    costs = {}
    for name in steps:
        ratios = torch.tensor([row[name] / row[baseline] for row in times])
        low, middle, high = torch.quantile(ratios, torch.tensor([0.25, 0.5, 0.75])).tolist()
        costs[name] = Cost(middle, low, high)
    return costs


def discriminator_steps(batch: int, size: int, device: torch.device) -> dict[str, Step]:
    """A discriminator step without and with each technique, on the same random images."""
    rng = torch.Generator(device).manual_seed(0)
    real, fake, following = (torch.randn(batch, 3, size, size, generator=rng, device=device) for _ in range(3))
    timestep = torch.zeros(batch, dtype=torch.int64, device=device)
    conditioning = {"timestep": timestep, "next_sample": following}
    loss = get_loss("non_saturating")

    def step(penalty: Any = None, wrap: Callable[[nn.Module], nn.Module] = lambda critic: critic) -> Step:
        torch.manual_seed(0)
        critic = wrap(DDGANDiscriminator(base_channels=16).to(device))
        shared = getattr(penalty, "shareable", ())

        def run() -> None:
            points = {"real": real.clone(), "fake": fake.clone()}
            for name in shared:
                points[name].requires_grad_()
            logits = {f"{name}_logits": critic(images, **conditioning) for name, images in points.items()}
            total = loss.discriminator(**logits)
            if penalty is not None:
                total = total + penalty(critic, **points, **logits, rng=rng, **conditioning)
            critic.zero_grad(set_to_none=True)
            total.backward()

        return run

    return {
        "none": step(),
        "EpsCenteredGradientPenalty, exact": step(EpsCenteredGradientPenalty(0.01)),
        "EpsCenteredGradientPenalty, tangent": step(EpsCenteredGradientPenalty(0.01, method="tangent")),
        "EpsCenteredGradientPenalty, finite_difference": step(
            EpsCenteredGradientPenalty(0.01, method="finite_difference")
        ),
        "wgan_gp, exact": step(wgan_gp()),
        "r1_penalty, exact, sharing the real forward": step(r1_penalty(0.02)),
        "r1_penalty, tangent, sharing the real forward": step(r1_penalty(0.02, method="tangent")),
        "AdversarialLipschitzPenalty": step(AdversarialLipschitzPenalty()),
        "ConsistencyRegularization": step(ConsistencyRegularization()),
        "BalancedConsistencyRegularization": step(BalancedConsistencyRegularization()),
        "spectral_normalize": step(wrap=spectral_normalize),
        "stable_rank_normalize": step(wrap=stable_rank_normalize),
        "GradientNormalized": step(wrap=GradientNormalized),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m licfg_hf.diagnostics.cost", description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16, help="images per step (default: %(default)s)")
    parser.add_argument("--size", type=int, default=32, help="pixels of an image (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default: %(default)s)")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    costs = measure_costs(discriminator_steps(options.batch, options.size, device), "none", options.rounds)
    print("| discriminator step with | time, relative to none (quartiles) |\n| --- | --- |")
    for name, cost in costs.items():
        print(f"| {name} | {cost.ratio:.2f} ({cost.low:.2f} to {cost.high:.2f}) |")
    print(f"\n{device.type}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, batch {options.batch}")


if __name__ == "__main__":
    main()
